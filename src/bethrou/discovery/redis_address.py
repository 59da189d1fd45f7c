"""Where Redis is and who we are there: what `discovery.address`, `user` and `pass` of the configuration say.

The address is written as for the Go program: `redis://[USER:PASSWORD@]HOST[:PORT]`, `rediss://` for TLS, or HOST:PORT
alone. A database number or options behind the port mean nothing for channels and are passed over. No error repeats
the address: a password may be in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import SplitResult, unquote, urlsplit

from bethrou.config import DiscoveryConfig, HostPort
from bethrou.errors import ConfigError
from bethrou.wire.psk import NetworkKey

DEFAULT_PORT = 6379

_HOW = "write redis://HOST:PORT, or rediss://HOST:PORT for TLS"
_ESCAPES = "; in a password, / ? # [ ] are %2F %3F %23 %5B %5D, or set pass instead"


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """A Redis server and the credentials for it; its repr shows no password."""

    host: str
    port: int = DEFAULT_PORT
    tls: bool = False
    user: str | None = None
    """None: the server's default user."""
    password: str = field(default="", repr=False)
    """Without one nobody logs in, as in the Go program."""

    @property
    def is_loopback(self) -> bool:
        """Whether it runs on this machine, and only programs of this machine reach it."""
        return HostPort(self.host, self.port).is_loopback

    def __str__(self) -> str:
        return str(HostPort(self.host, self.port))


def redis_address(config: DiscoveryConfig) -> RedisAddress:
    """Read the address; `user` and `pass` go before what stands in it. Raises ConfigError."""
    if config.address is None:
        raise ConfigError(f"discovery has no address ({_HOW})")
    text = config.address.get_secret_value().strip()
    try:
        parts = urlsplit(text if "://" in text else f"redis://{text}")
        host, port = parts.hostname, parts.port
    except ValueError:
        raise ConfigError(f"discovery address has no usable host or port ({_HOW}{_ESCAPES})") from None
    if "@" in parts.path + parts.query + parts.fragment:
        # The host that was found is a piece of the password.
        raise ConfigError(f"discovery address cannot be taken apart ({_HOW}{_ESCAPES})")
    if parts.scheme not in ("redis", "rediss"):
        raise ConfigError(f"discovery address begins with an unknown scheme ({_HOW})")
    if not host or not host.isprintable() or port == 0:
        raise ConfigError(f"discovery address has no usable host, or the port 0 ({_HOW})")
    user, password = _credentials(parts)
    if config.user is not None:
        user = config.user
    if config.password is not None:
        password = config.password.get_secret_value()
    return RedisAddress(host, port or DEFAULT_PORT, parts.scheme == "rediss", user, password)


def announcement_topic(config: DiscoveryConfig, network_key: NetworkKey) -> str:
    """Return the channel on which a network's members speak, if not told otherwise the network's own."""
    return config.topic or f"bethrou/{network_key.fingerprint}"


def _credentials(parts: SplitResult) -> tuple[str | None, str]:
    user = unquote(parts.username) if parts.username else None
    return user, unquote(parts.password or "")
