"""The securities that a host may speak, by the names that people use in the configuration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from bethrou.wire.keys import Identity
from bethrou.wire.noise.security import Noise
from bethrou.wire.secure_channel import Security
from bethrou.wire.tls.security import Tls

NOISE = Noise.name
TLS = Tls.name
KNOWN = (NOISE, TLS)

DEFAULT_ORDER = (NOISE, TLS)
"""What is spoken by default, and what is proposed first."""


def make_securities(
    names: Sequence[str], identity: Identity, time_ns: Callable[[], int]
) -> tuple[Security, ...]:
    """Those of `names`, in that order. `time_ns` is the time of day, which certificates are held against."""
    makers: dict[str, Callable[[], Security]] = {
        NOISE: lambda: Noise(identity),
        TLS: lambda: Tls(identity, time_ns, has_fast_aes()),
    }
    return tuple(makers[name]() for name in names)


@cache
def has_fast_aes() -> bool:
    """Whether the processor has instructions for AES; without them ChaCha20 is several times as fast.

    Linux tells; elsewhere (Macs of the last ten years) they are there.
    """
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return True
    flags = [line for line in text.splitlines() if line.lower().startswith(("flags", "features"))]
    return not flags or any("aes" in line.split() for line in flags)
