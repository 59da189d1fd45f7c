"""Load: applications that send and fetch hashed bytes, one transfer after the other, and note how each went."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from live.applications import Application, Refused, open_application
from live.payload import Payload
from live.targets import Habit, Visit, drain_to_end, echo, target
from live.waiting import PATIENCE, until

_PAYLOAD = Payload(48 * 1024, seed=11)
_BYTES, _SHA256 = bytes(_PAYLOAD), _PAYLOAD.sha256

_SIGN_OF_LIFE = b"."  # a connection without a byte for 5 s does not hold up the end of an exit

_PAUSE = 0.02  # seconds between two transfers of an application: a load that leaves the machine room for what breaks


@dataclass(frozen=True)
class Transfer:
    """One request, and 48 KiB in each direction."""

    began: float
    ended: float
    answered: bool
    """Whether the proxy said that the destination is connected."""
    fault: str
    """What went wrong; "" when every byte came."""

    @property
    def took(self) -> float:
        return self.ended - self.began


class Load:
    """Transfers through a proxy to `port` on loopback, by so many applications at a time, until it is stopped."""

    def __init__(self, proxy: tuple[str, int], port: int, user: tuple[str, str] | None = None) -> None:
        self.done: list[Transfer] = []
        self.proxy = proxy
        self.user = user
        """Name and password of requests from now on, if any."""
        self._port = port
        self._stopping = False

    @property
    def failed(self) -> list[Transfer]:
        """Transfers that went wrong."""
        return [transfer for transfer in self.done if transfer.fault]

    @property
    def refused(self) -> list[Transfer]:
        """Those whose request was not carried out. There is no excuse for them while an exit is there."""
        return [transfer for transfer in self.failed if not transfer.answered]

    async def next(self, count: int = 1) -> Transfer:
        """The first transfer that begins from now on, when `count` of them are over."""
        now = time.monotonic()

        def begun_since() -> list[Transfer]:
            found = [transfer for transfer in self.done if transfer.began >= now]
            return found if len(found) >= count else []

        return (await until(begun_since, what=lambda: f"{count} transfers, after {len(self.done)}"))[0]

    async def run(self) -> None:
        """One application."""
        while not self._stopping:
            self.done.append(await self._transfer())
            await asyncio.sleep(_PAUSE)

    def stop(self) -> None:
        """Begin no more transfers."""
        self._stopping = True

    async def _transfer(self) -> Transfer:
        began = time.monotonic()
        app: Application | None = None
        fault = ""
        try:
            async with asyncio.timeout(PATIENCE):
                app = await open_application(self.proxy, "127.0.0.1", self._port, user=self.user)
                sending = asyncio.ensure_future(app.send([_BYTES], end=True))
                try:
                    received = await app.receive()
                finally:
                    (lost,) = await asyncio.gather(sending, return_exceptions=True)
            if lost is not None:
                raise lost
            if received != (len(_BYTES), _SHA256):
                fault = f"{received[0]} bytes, not {len(_BYTES)}, or wrong ones"
        except (OSError, Refused, EOFError, TimeoutError) as error:
            fault = f"{type(error).__name__}: {error}"
        finally:
            if app is not None:
                app.writer.transport.abort()
        return Transfer(began, time.monotonic(), app is not None, fault)


@contextlib.asynccontextmanager
async def load(
    proxy: tuple[str, int], applications: int = 8, user: tuple[str, str] | None = None
) -> AsyncIterator[Load]:
    """A steady load for the length of a block; at its end the last transfers are over."""
    async with target(echo) as far:
        running = Load(proxy, far.port, user)
        tasks = [asyncio.ensure_future(running.run()) for _ in range(applications)]
        try:
            await running.next(applications)
            yield running
        finally:
            running.stop()
            await asyncio.gather(*tasks)


class Downloads:
    """Downloads that have come half-way, and go on when they may; until then there is only a sign of life at times."""

    def __init__(self, apps: list[Application], rest: bytes, go_on: Callable[[], None]) -> None:
        self._apps = apps
        self._rest = rest
        self._go_on = go_on

    async def finish(self) -> int:
        """Let all go on; how many were cut off. The others have brought every byte."""
        self._go_on()
        return sum(await asyncio.gather(*(self._ends_early(app) for app in self._apps)))

    async def cut_off(self, count: int, timeout: float = PATIENCE) -> None:
        """Wait until so many have been cut off while none may go on."""
        await until(lambda: len(self._apps) - self.alive >= count, timeout, "downloads cut off")

    @property
    def alive(self) -> int:
        """How many have not been cut off."""
        return sum(app.reader.exception() is None for app in self._apps)

    async def _ends_early(self, app: Application) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                data = await app.reader.read()
        except ConnectionError:
            return True
        finally:
            app.writer.close()
        assert data.lstrip(_SIGN_OF_LIFE) == self._rest  # what ends without an error is whole
        return False


@contextlib.asynccontextmanager
async def downloads(
    proxy: tuple[str, int], count: int, user: tuple[str, str] | None = None
) -> AsyncIterator[Downloads]:
    """`count` downloads at a time, each of which has brought its first half when the block begins."""
    gate = asyncio.Event()
    first, rest = bytes(Payload(40_000, seed=3)), bytes(Payload(200_000, seed=4))
    async with target(_in_halves(first, rest, gate)) as far:
        apps: list[Application] = []
        try:
            opening = (open_application(proxy, "127.0.0.1", far.port, user=user) for _ in range(count))
            apps += await asyncio.gather(*opening)
            firsts = await asyncio.gather(*(app.reader.readexactly(len(first)) for app in apps))
            assert set(firsts) == {first}
            yield Downloads(apps, rest, gate.set)
        finally:
            gate.set()
            for app in apps:
                app.writer.transport.abort()


def _in_halves(first: bytes, rest: bytes, gate: asyncio.Event) -> Habit:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, visit: Visit) -> None:
        writer.write(first)
        while not gate.is_set():
            _write(writer, _SIGN_OF_LIFE)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await gate.wait()
        _write(writer, rest)
        writer.write_eof()
        await drain_to_end(reader, visit)

    return serve


def _write(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():  # uvloop's transport would raise RuntimeError
        raise ConnectionResetError
    writer.write(data)
