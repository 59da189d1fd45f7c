"""What several tests here need: the recorded vectors, and ways to cut bytes into chunks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

_VECTORS = Path(__file__).parent.parent / "vectors"


def load(name: str) -> Any:
    return json.loads((_VECTORS / name).read_text())


def sessions() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every recorded session with a readable name."""
    for path in sorted(_VECTORS.glob("*.json")):
        recording = json.loads(path.read_text())
        if "streams" in recording:
            yield path.stem, recording
        for part in ("outer", "inner", "exit", "client"):
            if part in recording:
                yield f"{path.stem}.{part}", recording[part]


def streams(protocol: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every recorded stream of a protocol."""
    for name, session in sessions():
        for stream in session["streams"]:
            if stream["protocol"] == protocol:
                yield f"{name}.{stream['stream']}", stream


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut `data` at the given places, taken modulo its length."""
    places = sorted({place % (len(data) + 1) for place in cuts} | {0, len(data)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]


CUTS = st.lists(st.integers(0, 4096), max_size=12)
