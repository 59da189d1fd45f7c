"""Relays that are killed, and come back."""

from __future__ import annotations

import time

from faults.figures import Figures
from live.namespaces import Internet, Nat
from live.town import Town, reserved
from live.waiting import until

TIMES = 20
"""What is downloaded meanwhile: more than the sockets on the way hold."""

NO_HOLES = {"punch": False}


async def test_the_only_relay(internet: Internet, town: Town, figures: Figures) -> None:
    """Circuits die with it. Within 5 s of its return the exit is there again, and so is the client."""
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    relay = town.relay()
    exit_ = town.exit(theirs, relay)
    await reserved(exit_)
    machine = town.client(ours, exit_, relay, **NO_HOLES)
    await machine.up("circuit")
    await machine.page()
    async with machine.curl_running(f"/payload/{TIMES}") as download:
        await until(lambda: download.received > 1_000_000)
        relay.kill()
        killed = time.monotonic()
        cut = await download.done
        figures.seconds("the download was ended after", time.monotonic() - killed, promised=1)
    figures.note("the download", f"curl {cut.status} after {cut.size} bytes: {cut.error}")
    assert cut.status in (18, 56), cut
    assert cut.size < TIMES * machine.payload.size
    await exit_.logged("not reachable through relay")
    await machine.program.logged("exit cannot be reached")
    # longer than a moment, so that redials have become as rare as they do
    async with machine.curl_running("/page.txt") as waiting:
        refused = await waiting.done
    figures.note("a page meanwhile", f"curl {refused.status} after {refused.seconds:.1f} s")
    assert refused.status == 97

    relay = town.again(relay)
    back = time.monotonic()
    await reserved(exit_, 2)
    figures.seconds("the exit has reserved again after", time.monotonic() - back, promised=5)
    page, failed = await machine.page_again(10)
    figures.seconds("a page came after", time.monotonic() - back, promised=6)
    figures.note("pages that failed before", len(failed))
    figures.seconds("its first byte", page.first_byte)
    figures.note("path", path := await machine.path())
    assert path == "circuit"
    await machine.transfers()
    figures.note("hashes of 6 MiB down and up", "right")


async def test_one_of_two(internet: Internet, town: Town, figures: Figures) -> None:
    """The client goes on over the other one at once, and the one that was lost gets its exit back."""
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    relays = [town.relay(f"5.5.0.{n}") for n in (1, 2)]
    exit_ = town.exit(theirs, *relays)
    await reserved(exit_, 2)
    machine = town.client(ours, exit_, *relays, **NO_HOLES)
    line = await machine.up("circuit")
    await machine.page()
    (used,) = [n for n, relay in enumerate(relays) if relay.id in line["address"]]
    async with machine.curl_running(f"/payload/{TIMES}") as download:
        await until(lambda: download.received > 1_000_000)
        relays[used].kill()
        killed = time.monotonic()
        page = await machine.page()  # the very next one
        took = time.monotonic() - killed
        cut = await download.done
    figures.note("the download", f"curl {cut.status} after {cut.size} bytes: {cut.error}")
    assert cut.status in (18, 56), cut
    figures.seconds("a page came after", took, promised=1)
    figures.seconds("its first byte", page.first_byte)
    second = await machine.up("circuit", 2)
    figures.note("paths", f"{line['address'][:30]}..., then {second['address'][:30]}...")
    assert relays[1 - used].id in second["address"]
    await machine.transfers()
    figures.note("hashes of 6 MiB down and up", "right")
    back = time.monotonic()
    relays[used] = town.again(relays[used])
    await reserved(exit_, 3)
    figures.seconds("the exit has reserved at the first again after", time.monotonic() - back, promised=6)
    relays[1 - used].kill()
    page, failed = await machine.page_again(5)
    assert not failed
    figures.seconds("first byte when the second is killed", page.first_byte, promised=2)


async def test_none_is_needed_once_there_is_a_hole(internet: Internet, town: Town, figures: Figures) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    relay = town.relay()
    exit_ = town.exit(theirs, relay)
    await reserved(exit_)
    machine = town.client(ours, exit_, relay)
    await machine.up("direct")
    await machine.takes("direct")
    async with machine.curl_running("/payload", "--limit-rate", "3M") as download:
        await until(lambda: download.received > 1_000_000)
        relay.kill()
        page = await machine.page()
        whole = await download.done
    figures.note("path", path := await machine.path())
    assert path == "direct"
    figures.seconds("first byte of a page", page.first_byte, promised=1)
    assert (whole.status, whole.sha256) == (0, machine.payload.sha256), whole
    figures.note("the download", "whole, its hash right")
