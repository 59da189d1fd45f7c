"""Messages of discovery as the Go program judges them (tests/vectors, recorded): ours agrees, or differs on purpose."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bethrou.errors import DecodeError
from bethrou.wire.announcement import Announcement, AnnouncementKeys, Answer, Request, decode
from bethrou.wire.psk import NetworkKey

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "discovery_messages.json").read_text()
)
KEYS = AnnouncementKeys(NetworkKey(bytes(32)))
PEER = VECTORS["published"]["peer_id"]

REQUESTS_NOT_READ = {
    "an unusual space (U+00A0) around the message": "JSON knows four kinds of space (RFC 8259, section 2)",
    "a lone surrogate in reply": "no text: it cannot be written as UTF-8, and no client of anybody's says it",
}
ANSWERS_NOT_TAKEN = {
    "an action": "an answer has none; Go's client never looks",
    "an id that no address has": "the address is another peer's: whoever answers may not speak for it",
    "an id that is none": "Go's client fails later, as it does with the three that follow",
    "an address that is none": "leads nowhere",
    "an empty address": "leads nowhere",
    "an address null": "leads nowhere",
}
ANSWERS_TAKEN = {
    "an address a number": "the other address is good, and one bad answer must not end a search, as it does Go's",
}


def read(vector: dict[str, Any]) -> Announcement | None:
    try:
        return decode(bytes.fromhex(vector["hex"]), KEYS)
    except DecodeError:
        return None


@pytest.mark.parametrize("vector", VECTORS["requests"], ids=lambda vector: vector["name"])
def test_requests(vector: dict[str, Any]) -> None:
    found = read(vector)
    expected = None if vector["name"] in REQUESTS_NOT_READ else vector["reply"]
    assert (found.reply if isinstance(found, Request) else None) == expected


@pytest.mark.parametrize("vector", VECTORS["answers"], ids=lambda vector: vector["name"])
def test_answers(vector: dict[str, Any]) -> None:
    found = read(vector)
    name = vector["name"]
    taken = (vector["taken"] or name in ANSWERS_TAKEN) and name not in ANSWERS_NOT_TAKEN
    assert isinstance(found, Answer) is taken
    if isinstance(found, Answer):
        assert str(found.peer) == PEER
        assert found.addrs


def test_what_the_go_program_says() -> None:
    request, answer = (read(VECTORS["published"][kind]) for kind in ("request", "answer"))
    assert isinstance(request, Request)
    assert request.reply == VECTORS["published"]["answer"]["channel"]
    assert isinstance(answer, Answer)
    assert [str(address) for address in answer.addrs] == [
        "/ip4/127.0.0.1/tcp/4001",
        "/ip4/127.0.0.1/tcp/4002",
    ]


def test_every_difference_is_one() -> None:
    """The lists above have no entry that is about nothing."""
    verdicts = {vector["name"]: vector["reply"] is not None for vector in VECTORS["requests"]}
    assert all(verdicts[name] for name in REQUESTS_NOT_READ)
    verdicts = {vector["name"]: vector["taken"] for vector in VECTORS["answers"]}
    assert all(verdicts[name] for name in ANSWERS_NOT_TAKEN)
    assert not any(verdicts[name] for name in ANSWERS_TAKEN)
