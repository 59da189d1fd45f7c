"""Lines that lose packets, and lines that are narrow."""

from __future__ import annotations

import asyncio
import statistics

import pytest

from faults.figures import Figures
from live.namespaces import Internet, Nat
from live.town import Town, reserved
from live.waiting import until

LOSS = 0.02
MBIT = 1_000_000


async def test_loss_on_a_circuit(internet: Internet, town: Town, figures: Figures) -> None:
    """2 % each way, at both homes."""
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.SYMMETRIC).member() for n in (1, 2))
    for place in (theirs, ours):
        place.lose(LOSS)
    relay = town.relay()
    exit_ = town.exit(theirs, relay)
    await reserved(exit_)
    machine = town.client(ours, exit_, relay)
    await machine.up("circuit")
    pages = [await machine.page() for _ in range(20)]
    down, up = await machine.transfers()
    firsts = sorted(page.first_byte for page in pages)
    figures.note("path", path := await machine.path())
    assert path == "circuit"
    figures.seconds("first byte, median of 20 pages", statistics.median(firsts), promised=0.5)
    figures.seconds("first byte, worst", firsts[-1], promised=3)
    figures.note("6 MiB down and up, hashes right", f"{down.seconds:.2f} s, {up.seconds:.2f} s")
    figures.note("hole punched", bool(machine.ways("direct")))


async def test_loss_on_a_direct_way(internet: Internet, town: Town, figures: Figures) -> None:
    """Holes are punched through it, too, and where a round is lost there is another."""
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    for place in (theirs, ours):
        place.lose(LOSS)
    relay = town.relay()
    exit_ = town.exit(theirs, relay)
    await reserved(exit_)
    machine = town.client(ours, exit_, relay)
    await machine.up("direct")
    await machine.takes("direct")
    punched = await exit_.logged("direct way found")
    pages = [await machine.page() for _ in range(20)]
    down, up = await machine.transfers()
    firsts = sorted(page.first_byte for page in pages)
    figures.note("hole punched, rounds", punched["rounds"])
    figures.note("path", await machine.path())
    figures.seconds("first byte, median of 20 pages", statistics.median(firsts), promised=0.5)
    figures.seconds("first byte, worst", firsts[-1], promised=3)
    figures.note("6 MiB down and up, hashes right", f"{down.seconds:.2f} s, {up.seconds:.2f} s")


@pytest.mark.parametrize("nat", [Nat.SYMMETRIC, Nat.PRESERVING], ids=["circuit", "direct"])
async def test_a_narrow_line_at_the_exit(internet: Internet, town: Town, figures: Figures, nat: Nat) -> None:
    """10 Mbit/s out of the exit's home. A bulk transfer fills it, and pages come all the same."""
    home = internet.home("5.5.1.1", nat)
    home.limit(10 * MBIT, "wan")
    relay = town.relay()
    exit_ = town.exit(home.member(), relay)
    await reserved(exit_)
    machine = town.client(internet.home("5.5.2.1", nat).member(), exit_, relay)
    path = "circuit" if nat is Nat.SYMMETRIC else "direct"
    await machine.up(path)
    await machine.takes(path)
    alone = await machine.page()
    async with machine.curl_running("/payload") as download:
        await until(lambda: download.received > 1_000_000)
        pages = []
        while not download.done.done():
            pages.append(await machine.page())
            await asyncio.wait([download.done], timeout=0.1)
        whole = await download.done
    assert (whole.status, whole.sha256) == (0, machine.payload.sha256), whole
    firsts = sorted(page.first_byte for page in pages)
    rate = 8 * whole.size / whole.seconds / MBIT
    figures.note("path", await machine.path())
    figures.seconds("first byte of a page alone", alone.first_byte)
    figures.note("pages beside the download", len(pages))
    figures.seconds("their first byte, median", statistics.median(firsts), promised=0.5)
    figures.seconds("their first byte, worst", firsts[-1], promised=1)
    figures.note("rate of the download", f"{rate:.2f} of 10 Mbit/s")
    assert len(pages) >= 5
    assert rate > 8.5
