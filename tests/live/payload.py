"""Bytes to send: any amount, cheap to make, and different at every place, so that a hash finds every fault."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

MIB = 1 << 20


class Payload:
    """`size` bytes that `seed` determines."""

    def __init__(self, size: int, seed: int = 0) -> None:
        self.size = size
        self._seed = seed

    def __iter__(self) -> Iterator[bytes]:
        """The bytes in blocks of up to 1 MiB."""
        noise = random.Random(self._seed).randbytes(MIB - 8)
        for start in range(0, self.size, MIB):
            block = start.to_bytes(8, "big") + noise
            yield block[: self.size - start]

    def __bytes__(self) -> bytes:
        return b"".join(self)

    @property
    def sha256(self) -> str:
        digest = hashlib.sha256()
        for block in self:
            digest.update(block)
        return digest.hexdigest()
