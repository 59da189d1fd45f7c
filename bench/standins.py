"""Nodes that announce themselves and cannot be reached: standins.py KEY_FILE REDIS_PORT COUNT DEAF NETWORK_SIZE

One process stands in for COUNT nodes. Each has an identity, a signed record and presences with a MAC of its own, at the
product's interval for a network of NETWORK_SIZE nodes, and answers who asks, up to `LONGEST_ROUND_TRIP_S` later: nodes
are not all as near to Redis. DEAF of them are at an address that swallows SYNs as a firewall does, the others at one
that refuses connections at once. They share two connections to Redis. "announced" is printed when all have spoken.
"""

import asyncio
import heapq
import os
import random
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from far_redis import LONGEST_ROUND_TRIP_S
from redis.asyncio import Redis

from bethrou.assembly.keyfiles import read_network_key
from bethrou.discovery.rate_limit import RateLimit
from bethrou.discovery.redis_presence import ANSWERS_PER_SECOND
from bethrou.errors import DecodeError
from bethrou.wire.announcement import (
    PRESENCE_TTL_FACTOR,
    AnnouncementKeys,
    Request,
    decode,
    encode_answer,
    encode_presence,
    presence_interval,
)
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

FIRST_PER_S = 400.0
"""First presences in a second: fewer than members verify signatures in one, so that nobody misses any."""

ANSWER_STEP_S = 0.01
LIFETIME_S = 3600


@dataclass
class StandIn:
    peer: PeerId
    record: bytes
    answer: bytes
    seq: int

    @classmethod
    def at(cls, address: Multiaddr, keys: AnnouncementKeys) -> "StandIn":
        identity, seq = Identity.generate(os.urandom), time.time_ns()
        node = NodeRecord(identity.peer_id, seq, int(time.time()) + LIFETIME_S, (address,), agent="stand-in")
        record = node.seal(identity)
        return cls(identity.peer_id, record, encode_answer(identity.peer_id, [address], record, keys), seq)

    def presence(self, interval: float, keys: AnnouncementKeys) -> bytes:
        self.seq += 1
        return encode_presence(self.peer, self.seq, PRESENCE_TTL_FACTOR * interval, self.record, keys)


class StandIns:
    def __init__(self, nodes: list[StandIn], keys: AnnouncementKeys, topic: str, size: int) -> None:
        self._nodes = nodes
        self._keys = keys
        self._topic = topic
        self._interval = presence_interval(size - 1)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, redis_port: int) -> None:
        async with Redis(port=redis_port, protocol=2) as redis, asyncio.TaskGroup() as group:
            group.create_task(self._listen(redis, group))
            group.create_task(self._announce(redis))

    async def _announce(self, redis: Redis) -> None:
        for node in self._nodes:
            await redis.publish(self._topic, node.presence(self._interval, self._keys))
            await asyncio.sleep(1 / FIRST_PER_S)
        print("announced", flush=True)
        now = time.monotonic()
        due = [(now + random.uniform(0, self._interval), number) for number in range(len(self._nodes))]
        heapq.heapify(due)
        while due:
            await asyncio.sleep(due[0][0] - time.monotonic())
            at, number = due[0]
            await redis.publish(self._topic, self._nodes[number].presence(self._interval, self._keys))
            heapq.heapreplace(due, (at + self._interval * random.uniform(0.8, 1.2), number))

    async def _listen(self, redis: Redis, group: asyncio.TaskGroup) -> None:
        limit = RateLimit(ANSWERS_PER_SECOND, ANSWERS_PER_SECOND)
        async with redis.pubsub() as pubsub:
            await pubsub.subscribe(self._topic)
            async for message in pubsub.listen():
                request = self._request(message)
                if request is not None and limit.take(time.monotonic()):
                    group.create_task(self._answer(redis, request.reply))

    def _request(self, message: dict[str, object]) -> Request | None:
        data = message["data"]
        if not isinstance(data, bytes):
            return None
        try:
            said = decode(data, self._keys)
        except DecodeError:
            return None
        return said if isinstance(said, Request) else None

    async def _answer(self, redis: Redis, channel: str) -> None:
        steps = round(LONGEST_ROUND_TRIP_S / ANSWER_STEP_S)
        order = random.sample(self._nodes, len(self._nodes))
        began = time.monotonic()
        for step in range(steps):
            await asyncio.sleep(began + step * ANSWER_STEP_S - time.monotonic())
            async with redis.pipeline(transaction=False) as pipeline:
                for node in order[step::steps]:
                    pipeline.publish(channel, node.answer)
                await pipeline.execute()


def address(number: int, port: int) -> Multiaddr:
    """One of the addresses of loopback for each, all of which lead here."""
    return Multiaddr.tcp(f"127.{16 + number // 65536}.{number // 256 % 256}.{number % 256}", port)


def open_refusing_port() -> socket.socket:
    """Bound, so that nobody else listens there, and not listening."""
    sock = socket.socket()
    sock.bind(("0.0.0.0", 0))
    return sock


def open_deaf_port() -> tuple[socket.socket, list[socket.socket]]:
    """A listener whose queue is full, and what fills it: the system drops every further SYN."""
    listener = socket.socket()
    listener.bind(("0.0.0.0", 0))
    listener.listen(0)
    queued = []
    for _ in range(8):
        sock = socket.socket()
        queued.append(sock)
        sock.settimeout(0.2)
        try:
            sock.connect(("127.0.0.1", listener.getsockname()[1]))
        except TimeoutError:
            return listener, queued
    raise SystemExit("this system accepts connections beyond the queue of a listening socket")


async def stand_in(key: NetworkKey, redis_port: int, count: int, deaf: int, size: int) -> None:
    refusing, (listener, _queued) = open_refusing_port(), open_deaf_port()
    keys = AnnouncementKeys(key)
    ports = [(listener if number < deaf else refusing).getsockname()[1] for number in range(count)]
    nodes = [StandIn.at(address(number, port), keys) for number, port in enumerate(ports)]
    random.shuffle(nodes)
    await StandIns(nodes, keys, f"bethrou/{key.fingerprint}", size).run(redis_port)


def main() -> None:
    key_file, *numbers = sys.argv[1:]
    redis_port, count, deaf, size = map(int, numbers)
    asyncio.run(stand_in(read_network_key(Path(key_file)), redis_port, count, deaf, size))


if __name__ == "__main__":
    main()
