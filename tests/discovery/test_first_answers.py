"""What Redis brings, read in turns: the first exit is known before the last of thousands of answers is read."""

from __future__ import annotations

import asyncio
import random
import time

from bethrou.discovery.announced_exits import AnnouncedExits
from bethrou.discovery.announcement_reader import BURST, AnnouncementReader
from bethrou.discovery.source import Sighting
from bethrou.wire.announcement import AnnouncementKeys, Request, encode_answer, encode_request
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord, RecordCache
from bethrou.wire.peer_id import PeerId
from live.waiting import until
from net.hosts import KEY

KEYS = AnnouncementKeys(KEY)
WHERE = Multiaddr.parse("/ip4/203.0.113.7/tcp/4000")
MANY = 200


class Written:
    """What is told, in its order."""

    def __init__(self) -> None:
        self.told: list[PeerId | Request] = []

    def seen(self, sighting: Sighting) -> None:
        self.told.append(sighting.peer)

    def gone(self, source: str, peer: PeerId) -> None:
        raise AssertionError("nobody leaves")


def answer() -> bytes:
    identity = Identity.generate(random.randbytes)
    record = NodeRecord(identity.peer_id, 1, int(time.time()) + 3600, (WHERE,)).seal(identity)
    return encode_answer(identity.peer_id, [WHERE], record, KEYS)


async def test_the_first_exit_is_known_before_the_last_answer_is_read() -> None:
    written = Written()
    exits = AnnouncedExits(written, None, time.time, False, RecordCache())
    reader = AnnouncementReader(asyncio.get_running_loop(), KEYS, exits, written.told.append)
    for message in [answer() for _ in range(MANY)]:
        reader.received(message)
    reader.received(encode_request("the last one", KEYS))
    reader.start()
    await until(lambda: len(written.told) > MANY)
    await reader.close()
    assert written.told.index(Request("the last one")) > MANY // 2
    assert BURST > MANY  # else the rest would have waited for its turn
