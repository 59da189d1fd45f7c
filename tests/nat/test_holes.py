"""Which way requests take, by the NATs that are in between: a hole where both keep ports, else the relay."""

from __future__ import annotations

import asyncio

from faults.figures import Figures
from live.namespaces import Internet, Nat
from live.town import Town, circuits_over, reserved


async def test_both_keep_ports(internet: Internet, town: Town, figures: Figures) -> None:
    theirs, ours = (internet.home(f"5.5.{n}.1", Nat.PRESERVING).member() for n in (1, 2))
    relay = town.relay()
    exit_ = town.exit(theirs, relay)
    await reserved(exit_)
    machine = town.client(ours, exit_, relay)
    await machine.up("circuit")
    line = await machine.up("direct")
    assert line["address"] == "/ip4/5.5.1.1/tcp/4001"
    for program, peer in ((machine.program, "exit"), (exit_, "member")):
        punched = await program.logged("direct way found")
        assert punched[peer]
        figures.note(f"the side of the {peer}", f"hole punched, rounds: {punched['rounds']}")
    page = await machine.page()
    down, up = await machine.transfers()
    figures.note("path", await machine.path())
    figures.seconds("first byte of a page", page.first_byte, promised=1)
    figures.seconds("6 MiB down", down.seconds)
    figures.seconds("6 MiB up", up.seconds)
    figures.note("hashes", "all right")
    (circuit,) = await circuits_over(relay, 1)  # it ends when nothing is left on it
    assert circuit["sent"] + circuit["received"] < 200_000, circuit


async def test_symmetric_on_one_side_or_both(internet: Internet, town: Town, figures: Figures) -> None:
    """Three pairs at once: a round in vain takes its 10 s. The circuit serves meanwhile, and stays."""
    relay = town.relay()

    async def stays(sides: str, home: int, nats: tuple[Nat, Nat]) -> None:
        theirs, ours = (internet.home(f"5.5.{home + n}.1", nat).member() for n, nat in enumerate(nats))
        exit_ = town.exit(theirs, relay)
        await reserved(exit_)
        machine = town.client(ours, exit_, relay)
        await machine.up("circuit")
        page = await machine.page()
        down, up = await machine.transfers()
        line = await machine.program.logged("no direct way, the relay goes on serving")
        figures.note(f"{sides}: not punched", line["reason"])
        assert line["rounds"] == 1
        figures.note(f"{sides}: path", path := await machine.path())
        assert path == "circuit"
        assert not machine.ways("direct")
        figures.seconds(f"{sides}: first byte of a page", page.first_byte, promised=1)
        figures.note(f"{sides}: 6 MiB down and up, hashes right", f"{down.seconds:.2f} s, {up.seconds:.2f} s")
        assert (await machine.page()).status == 0

    await asyncio.gather(
        stays("symmetric at the exit", 10, (Nat.SYMMETRIC, Nat.PRESERVING)),
        stays("symmetric at the client", 20, (Nat.PRESERVING, Nat.SYMMETRIC)),
        stays("symmetric at both", 30, (Nat.SYMMETRIC, Nat.SYMMETRIC)),
    )
