"""Whether a configuration's Redis address can be used, asked before anything is opened or written."""

from __future__ import annotations

from bethrou.config import DiscoveryConfig
from bethrou.errors import ConfigError


def check_redis(config: DiscoveryConfig, where: str) -> None:
    """Raises ConfigError, which begins with `where`; never for a configuration without Redis, which loads nothing."""
    if not config.enabled:
        return
    from bethrou.discovery.redis_address import redis_address

    try:
        redis_address(config)
    except ConfigError as error:
        raise ConfigError(f"{where}{error}") from None
