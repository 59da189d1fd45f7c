"""Which security two hosts agree on, and what happens where the first proposal is refused."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bethrou.errors import DialError, UnsupportedProtocol
from bethrou.net.reader import ByteReader
from bethrou.net.securities import KNOWN, make_securities

from .collector import End, noise
from .hosts import Member, identity, link_over, open_pipe, stream_pair, upgrader
from .leftovers import nothing_left
from .memory import memory_pipe


@pytest.mark.parametrize(
    ("dialers", "listeners", "agreed", "refusals"),
    [
        (("noise", "tls"), ("noise", "tls"), "noise", 0),
        (("tls", "noise"), ("noise", "tls"), "tls", 0),
        (("tls",), ("noise", "tls"), "tls", 0),
        (("noise",), ("tls", "noise"), "noise", 0),
        (("noise", "tls"), ("tls",), "tls", 1),
        (("tls", "noise"), ("noise",), "noise", 1),
    ],
)
async def test_what_two_hosts_agree_on(
    dialers: tuple[str, ...], listeners: tuple[str, ...], agreed: str, refusals: int
) -> None:
    async with nothing_left():
        dialer, listener = Member("dialer", security=dialers), Member("listener", security=listeners)
        link = await dialer.dial(listener.peer_id, [listener.address])
        near, far = map(End, await stream_pair(link, listener))
        for end in (near, far):
            end.switch(end.protocol)
        await near.send(noise(300_000))
        await far.protocol.have(300_000)
        assert far.protocol.data == noise(300_000)
        assert {link.security, listener.links[dialer.peer_id][0].security} == {agreed}
        assert link.round_trip > 0
        assert len(listener.happenings.refusals) == refusals  # a connection of its own for each proposal
        await dialer.close()
        await listener.close()


async def test_nothing_in_common() -> None:
    async with nothing_left():
        dialer, listener = Member("dialer", security=("noise",)), Member("listener", security=("tls",))
        with pytest.raises(
            DialError, match=r"does not offer Noise \(/noise\)|ended the handshake before it began"
        ):
            await dialer.dial(listener.peer_id, [listener.address])
        [refusal] = listener.happenings.refusals
        assert isinstance(refusal, UnsupportedProtocol)  # the listener's log says what was missing
        assert str(refusal) == "the peer does not offer TLS (/tls/1.0.0), only /noise"
        await dialer.close()
        await listener.close()


@pytest.mark.parametrize("listeners", [["tls"], ["noise"], ["noise", "tls"]])
async def test_on_a_connection_that_there_is_only_once_the_answer_is_waited_for(
    listeners: Sequence[str],
) -> None:
    """As when a hole was punched: nothing is sent behind a proposal that may be refused."""
    loop = asyncio.get_running_loop()
    left, right = memory_pipe(loop)
    for end in (left, right):
        end.set_protocol(ByteReader(end))
    dialer, listener = upgrader("dialer", security=["tls", "noise"]), upgrader("listener", security=listeners)
    upgraded, other = await asyncio.gather(dialer.dial(left, None), listener.accept(right))
    assert upgraded.security == other.security == ("tls" if "tls" in listeners else "noise")
    assert upgraded.session.peer_id == identity("listener").peer_id
    assert (upgraded.surplus, other.surplus) == (b"", b"")
    left.abort()
    right.abort()


async def test_tls_over_any_pipe() -> None:
    loop = asyncio.get_running_loop()
    left, right = memory_pipe(loop)
    for end in (left, right):
        end.set_protocol(ByteReader(end))
    near_link, far_link, _, responder = await link_over(left, right, "tls")
    near, far = map(End, await open_pipe(near_link, responder))
    for end in (near, far):
        end.switch(end.protocol)
    await far.send(noise(1_000_000))
    await near.protocol.have(1_000_000)
    assert near.protocol.data == noise(1_000_000)
    near_link.close()
    await far_link.closed


def test_the_securities_by_name() -> None:
    made = make_securities(KNOWN, identity("x"), lambda: 0)
    assert [each.name for each in made] == ["noise", "tls"]
    assert [each.protocol_id for each in made] == ["/noise", "/tls/1.0.0"]
