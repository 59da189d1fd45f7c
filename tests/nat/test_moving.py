"""Somebody's address changes in the middle: what is live fails at once or in a bounded time, what comes next works."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from faults.figures import Figures
from live.namespaces import Internet, Nat
from live.town import Machine, Town, reserved
from live.waiting import until

TIMES = 20
"""What is downloaded meanwhile: more than the sockets on the way hold."""


class Scene:
    """A relay, an exit and a client in homes of their own. With `holes` they find a direct way."""

    def __init__(self, internet: Internet, town: Town, *, holes: bool) -> None:
        nats = (Nat.PRESERVING, Nat.PRESERVING if holes else Nat.SYMMETRIC)
        self.theirs, self.ours = (internet.home(f"5.5.{n}.1", nat) for n, nat in enumerate(nats, 1))
        self.relay = town.relay()
        self.home_of_exit = self.theirs.member()
        self.exit = town.exit(self.home_of_exit, self.relay)
        self.place = self.ours.member()
        self._town = town
        self.machine: Machine

    async def begin(self) -> None:
        await reserved(self.exit)
        self.machine = self._town.client(self.place, self.exit, self.relay)
        await self.machine.up("circuit")


async def survives(
    scene: Scene, figures: Figures, change: Callable[[], None], path: str, promised: float
) -> None:
    """Change something below a live download: it fails, and a page that is asked for at once comes."""
    machine = scene.machine
    await machine.page()
    figures.note("path before", now := await machine.path())
    assert now == path
    async with machine.curl_running(f"/payload/{TIMES}", "--limit-rate", "4M") as download:
        await until(lambda: download.received > 1_000_000)
        await asyncio.to_thread(change)
        changed = time.monotonic()
        page, failed = await machine.page_again(promised + 10)
        recovered = time.monotonic() - changed
        cut = await download.done
        gone = time.monotonic() - changed
    figures.note("pages that failed before", [f"curl {each.status}: {each.error}" for each in failed])
    figures.seconds("a page came after", recovered, promised=promised)
    figures.seconds("its first byte", page.first_byte)
    figures.note("path then", await machine.path())
    figures.seconds("curl noticed after", gone, promised=promised + 4)  # it paces itself
    figures.note("the download", f"curl {cut.status} after {cut.size} bytes: {cut.error}")
    assert cut.status in (18, 56), cut
    assert cut.size < TIMES * machine.payload.size
    down, up = await machine.transfers()
    figures.note("then 6 MiB down and up, hashes right", f"{down.seconds:.2f} s, {up.seconds:.2f} s")


async def test_the_clients_machine_on_a_circuit(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=False)
    await scene.begin()
    await survives(scene, figures, lambda: scene.place.move("10.0.0.77", 24), "circuit", promised=4)


async def test_the_clients_machine_on_a_hole(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=True)
    await scene.begin()
    await scene.machine.up("direct")
    await survives(scene, figures, lambda: scene.place.move("10.0.0.77", 24), "direct", promised=4)
    await scene.machine.up("direct", 2)
    await scene.machine.takes("direct")
    figures.note("path at last", "direct")


async def test_the_clients_router_on_a_circuit(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=False)
    await scene.begin()
    await survives(scene, figures, lambda: scene.ours.renumber("5.5.2.77"), "circuit", promised=10)


async def test_the_clients_router_on_a_hole(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=True)
    await scene.begin()
    await scene.machine.up("direct")
    await survives(scene, figures, lambda: scene.ours.renumber("5.5.2.77"), "direct", promised=8)
    await scene.machine.up("direct", 2)
    await scene.machine.takes("direct")
    figures.note("path at last", "direct")


async def test_the_exits_router(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=False)
    await scene.begin()
    await survives(scene, figures, lambda: scene.theirs.renumber("5.5.1.77"), "circuit", promised=10)


async def test_the_exits_machine(internet: Internet, town: Town, figures: Figures) -> None:
    scene = Scene(internet, town, holes=False)
    await scene.begin()
    await survives(scene, figures, lambda: scene.home_of_exit.move("10.0.0.77", 24), "circuit", promised=10)
