"""A Redis that is far away, half of LONGEST_ROUND_TRIP_S: far_redis.py PORT REDIS_PORT

The stand-ins answer after up to LONGEST_ROUND_TRIP_S; that the few real exits are as far from Redis keeps their answers
from being the first ones always. (delayproxy is for streams: what its own process is late by adds up over minutes.)
"""

import asyncio
import sys
from collections import deque
from collections.abc import Callable

LONGEST_ROUND_TRIP_S = 0.25


class Late(asyncio.Protocol):
    """One side of a connection whose bytes reach the other side `delay` seconds later, in their order."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.other: Late | None = None
        self._loop = asyncio.get_running_loop()
        self._under_way: deque[Callable[[asyncio.Transport], None]] = deque()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._send(lambda transport: transport.write(data))

    def connection_lost(self, exc: Exception | None) -> None:
        self._send(lambda transport: transport.close())

    def _send(self, act: Callable[[asyncio.Transport], None]) -> None:
        self._under_way.append(act)
        self._loop.call_later(self.delay, self._arrive)

    def _arrive(self) -> None:
        self._under_way.popleft()(self.other.transport)


class Entrance(Late):
    """The side of whoever connects; the way to Redis begins here."""

    def __init__(self, delay: float, redis_port: int) -> None:
        super().__init__(delay)
        self._redis_port = redis_port

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        transport.pause_reading()
        self._opening = self._loop.create_task(self._open())

    async def _open(self) -> None:
        _, self.other = await self._loop.create_connection(
            lambda: Late(self.delay), "127.0.0.1", self._redis_port
        )
        self.other.other = self
        self.transport.resume_reading()


async def far_redis(redis_port: int, delay: float, port: int = 0) -> str:
    """The address of the Redis at `redis_port`, for one who is `delay` seconds away from it."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Entrance(delay, redis_port), "127.0.0.1", port)
    return f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def serve(port: int, redis_port: int) -> None:
    await far_redis(redis_port, LONGEST_ROUND_TRIP_S / 4, port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(*map(int, sys.argv[1:])))
