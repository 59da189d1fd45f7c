"""Which files a running program was started with: it tells, so that others can look at them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class OwnFiles:
    """Absolute paths, without symbolic links; "" where there is no such file."""

    config: str = ""
    key: str = ""
    """The network key."""
    identity: str = ""
    """Its own private key; most clients have none."""

    @classmethod
    def at(
        cls, config: str | Path | None = None, key: Path | None = None, identity: Path | None = None
    ) -> OwnFiles:
        """Those at these paths, which may be relative to where the program was started."""
        return cls(
            *(str(Path(path).resolve()) if path is not None else "" for path in (config, key, identity))
        )


NO_FILES = OwnFiles()
