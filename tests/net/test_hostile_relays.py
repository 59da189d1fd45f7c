"""A relay that cheats holds nobody up where there is another way. (Alone: test_relay_keeper.py.)"""

from __future__ import annotations

import asyncio
import random
import time

import pytest

from bethrou.net import probing
from bethrou.net.link import CIRCUIT
from bethrou.net.splice import Splice
from bethrou.proxy.exit import ExitAddress
from bethrou.proxy.pool import Pool
from live.waiting import until

from .collector import noise
from .hosts import Member
from .leftovers import nothing_left
from .relays import Hidden, Relay
from .test_relay_keeper import OK, HopAnswer, Liar


def cuts_the_link(link, stream, reader) -> None:  # type: ignore[no-untyped-def]
    link.close()


CHEATS: dict[str, HopAnswer] = {
    "stalls": lambda link, stream, reader: None,
    "ok without a peer": lambda link, stream, reader: stream.write(OK),
    "ok and end": lambda link, stream, reader: (stream.write(OK), stream.write_eof()),
    "ok and garbage": lambda link, stream, reader: stream.write(OK + noise(4096)),
    "reset": lambda link, stream, reader: stream.abort(),
    "cut": cuts_the_link,
}


@pytest.mark.parametrize("cheat", CHEATS)
async def test_the_next_way_is_tried(cheat: str) -> None:
    async with nothing_left():
        liar, honest, dialer = Liar(CHEATS[cheat]), Relay("honest"), Member("dialer")
        hidden = Hidden(honest.full_address)
        try:
            await hidden.reserved()
            ways = [liar.address.with_peer(liar.peer_id).circuit(), honest.full_address.circuit()]
            began = time.monotonic()
            link = await dialer.dial(hidden.peer_id, ways)
            print(f"{cheat}: another way after {time.monotonic() - began:.2f} s")
            assert time.monotonic() - began < 5
            assert (link.path, link.remote) == (CIRCUIT, ways[1])
        finally:
            for host in (dialer, hidden, honest, liar):
                await host.close()


async def test_a_circuit_that_stalls_is_given_up_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was good once, and its relay answers every ping: nothing passes any more."""
    monkeypatch.setattr(probing, "PROBE_PATIENCE", 0.3)
    relays, client = [Relay(name) for name in ("one", "two")], Member("client")
    hidden = Hidden(*(relay.full_address for relay in relays))
    pool = Pool(asyncio.get_running_loop(), client, lambda event: None, random.Random(1))
    try:
        await hidden.reserved(2)
        pool.know([ExitAddress(hidden.peer_id, tuple(relay.full_address.circuit() for relay in relays))])
        pool.start()
        known = pool.exits[str(hidden.peer_id)]
        stalled = await until(lambda: known.link)
        used, _ = sorted(relays, key=lambda relay: relay.service.active, reverse=True)
        await until(lambda: not stalled._ping_pending)
        (circuit,) = used.service._circuits
        assert isinstance(circuit.splice, Splice)
        for side in (circuit.splice._left, circuit.splice._right):
            side.__class__ = type(
                "Swallowing", (type(side),), {"forward": lambda self, data: None, "__slots__": ()}
            )
        pool.failed(known, pool.asked(known), "the exit did not take the request within 3 s")
        began = time.monotonic()
        await until(lambda: known.link is not None and known.link is not stalled)
        assert time.monotonic() - began < 5
        assert "silent" in str(stalled.closed.result())
        assert client.links[used.peer_id][0].alive
    finally:
        await pool.close()
        for host in (client, hidden, *relays):
            await host.close()
