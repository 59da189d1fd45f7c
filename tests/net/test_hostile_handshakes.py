"""Peers that do not get through the handshake, on real sockets. Each is refused with a reason; nobody else notices."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from bethrou.errors import (
    BethrouError,
    DialError,
    HandshakeError,
    LinkLost,
    NetworkKeyMismatch,
    UnsupportedProtocol,
)
from bethrou.net import upgrade
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.noise.secure_channel import NoiseChannel

from .collector import End, noise
from .hosts import OTHER_KEY, Member, identity, stream_pair, two_hosts, upgrader
from .leftovers import nothing_left
from .raw_peer import RawPeer
from .wire_client import Wire, serving

NOISE = frame("/noise")
NA = frame("na")
GREETING = 24 + len(HEADER)
"""Bytes that a listener says unasked: its nonce and the multistream header."""


class Scene:
    """A host with a link that works, and whose other peers are the test's."""

    def __init__(self, host: Member, near: End, far: End) -> None:
        self.host = host
        self.port = host.port
        self._near, self._far = near, far
        self._expected = 0

    async def the_other_link_works(self) -> None:
        data = noise(100_000, self._expected)
        self._expected += len(data)
        await self._near.send(data)
        await self._far.protocol.have(self._expected)
        assert self._far.protocol.data.endswith(data)

    async def refused(self, kind: type[BethrouError], reason: str) -> None:
        """Exactly one connection was refused, for this reason, and there is no other link than before."""
        while not self.host.happenings.refusals:
            await asyncio.sleep(0)
        [error] = self.host.happenings.refusals
        assert type(error) is kind
        assert reason in str(error)
        assert len(self.host.links) == 1


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with nothing_left(), two_hosts() as (_, listener, link, _other):
        near, far = map(End, await stream_pair(link, listener))
        for end in (near, far):
            end.switch(end.protocol)
        scene = Scene(listener, near, far)
        yield scene
        await scene.the_other_link_works()


Attack = Callable[[Wire], Awaitable[None]]


async def noise_agreed(wire: Wire) -> None:
    wire.greet(HEADER + NOISE)
    assert await wire.hear(len(HEADER + NOISE)) == HEADER + NOISE


async def first_message(wire: Wire, channel: NoiseChannel) -> None:
    first = channel.start()
    await noise_agreed(wire)
    wire.say(len(first).to_bytes(2, "big") + first)


def new_channel() -> NoiseChannel:
    return NoiseChannel(identity("mallory"), initiator=True, expected=None, muxers=["/yamux/1.0.0"])


async def leave(wire: Wire) -> None:
    await wire.finish()


async def leave_in_the_nonce(wire: Wire) -> None:
    wire.raw(bytes(7))
    await wire.finish()


async def leave_behind_the_nonce(wire: Wire) -> None:
    wire.greet()
    await wire.finish()


async def reset_at_once(wire: Wire) -> None:
    wire.reset()


async def speak_http(wire: Wire) -> None:
    wire.raw(b"GET / HTTP/1.1\r\nHost: example.com\r\nUser-Agent: scanner\r\n\r\n")
    await wire.end()


async def speak_without_pnet(wire: Wire) -> None:
    wire.raw(HEADER + NOISE + b"\x00\x20" + bytes(32))
    await wire.end()


async def send_garbage(wire: Wire) -> None:
    wire.raw(os.urandom(100_000))
    await wire.end()


async def speak_other_protocol_in_the_network(wire: Wire) -> None:
    wire.greet(b"SSH-2.0-OpenSSH_9.9\r\n")
    await wire.end()


async def offer_no_security(wire: Wire) -> None:
    wire.greet(HEADER + frame("/plaintext/2.0.0"))
    assert await wire.hear(len(HEADER + NA)) == HEADER + NA
    await wire.close()


async def propose_without_end(wire: Wire) -> None:
    wire.greet(HEADER + b"".join(frame(f"/nothing/{number}") for number in range(1000)))
    await wire.end()


async def announce_a_long_text(wire: Wire) -> None:
    wire.greet(HEADER + b"\xff\xff\x03")
    await wire.end()


async def leave_behind_noise(wire: Wire) -> None:
    await noise_agreed(wire)
    await wire.close()


async def reset_behind_noise(wire: Wire) -> None:
    await noise_agreed(wire)
    wire.reset()


async def send_an_empty_message(wire: Wire) -> None:
    await noise_agreed(wire)
    wire.say(b"\x00\x00")
    await wire.end()


async def send_a_short_message(wire: Wire) -> None:
    await noise_agreed(wire)
    wire.say(b"\x00\x1f" + bytes(31))
    await wire.end()


async def send_a_low_order_key(wire: Wire) -> None:
    await noise_agreed(wire)
    wire.say(b"\x00\x20" + bytes(32))
    await wire.end()


async def leave_in_the_middle(wire: Wire) -> None:
    await first_message(wire, new_channel())
    await wire.hear_message()
    await wire.close()


async def send_a_bad_last_message(wire: Wire) -> None:
    channel = new_channel()
    await first_message(wire, channel)
    last = channel.receive(await wire.hear_message())
    assert last is not None
    wire.say(len(last).to_bytes(2, "big") + last[:-1] + bytes([last[-1] ^ 1]))
    await wire.end()


async def send_an_oversized_last_message(wire: Wire) -> None:
    await first_message(wire, new_channel())
    await wire.hear_message()
    wire.say(b"\xff\xff" + bytes(65535))
    await wire.end()


async def sign_something_else(wire: Wire) -> None:
    class Forger(NoiseChannel):
        """Says that it is somebody else."""

        def pretend(self) -> None:
            theirs = identity("dialer").public_key.to_protobuf()
            assert self._payload[2 : 2 + len(theirs)] == identity("mallory").public_key.to_protobuf()
            self._payload = self._payload[:2] + theirs + self._payload[2 + len(theirs) :]

    channel = Forger(identity("mallory"), initiator=True, expected=None, muxers=["/yamux/1.0.0"])
    channel.pretend()
    await first_message(wire, channel)
    last = channel.receive(await wire.hear_message())
    assert last is not None
    wire.say(len(last).to_bytes(2, "big") + last)
    await wire.end()


@pytest.mark.parametrize(
    ("attack", "kind", "reason"),
    [
        (leave, NetworkKeyMismatch, "different network keys"),
        (leave_in_the_nonce, NetworkKeyMismatch, "7 of 24 bytes"),
        (leave_behind_the_nonce, NetworkKeyMismatch, "closed the connection"),
        (reset_at_once, NetworkKeyMismatch, "different network keys"),
        (speak_http, NetworkKeyMismatch, "different network keys"),
        (speak_without_pnet, NetworkKeyMismatch, "different network keys"),
        (send_garbage, NetworkKeyMismatch, "different network keys"),
        (speak_other_protocol_in_the_network, NetworkKeyMismatch, "different network keys"),
        (
            offer_no_security,
            UnsupportedProtocol,
            "does not offer Noise (/noise) or TLS (/tls/1.0.0), only /plaintext/2.0.0",
        ),
        (propose_without_end, UnsupportedProtocol, "does not offer Noise"),
        (announce_a_long_text, HandshakeError, "more than 1024 bytes"),
        (leave_behind_noise, LinkLost, "0 of 2 bytes"),
        (reset_behind_noise, LinkLost, "connection lost during the handshake"),
        (send_an_empty_message, HandshakeError, "too short"),
        (send_a_short_message, HandshakeError, "too short"),
        (send_a_low_order_key, HandshakeError, "unusable public key"),
        (leave_in_the_middle, LinkLost, "0 of 2 bytes"),
        (send_a_bad_last_message, HandshakeError, "not encrypted for us"),
        (send_an_oversized_last_message, HandshakeError, "not encrypted for us"),
        (sign_something_else, HandshakeError, "signature"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_caller_that_breaks_the_handshake(
    scene: Scene, attack: Attack, kind: type[BethrouError], reason: str
) -> None:
    async with Wire.dial(scene.port) as wire:
        await attack(wire)
        await scene.refused(kind, reason)


async def test_a_member_of_another_network_is_told_nothing(scene: Scene) -> None:
    async with Wire.dial(scene.port) as wire:
        wire.raw(bytes(24) + os.urandom(200))
        await wire.end()
        assert len(wire.heard) == GREETING
    with pytest.raises(NetworkKeyMismatch, match="different network keys"):
        await RawPeer.dial(scene.port, "stranger", OTHER_KEY)
    while len(scene.host.happenings.refusals) < 2:
        await asyncio.sleep(0)
    assert {type(error) for error in scene.host.happenings.refusals} == {NetworkKeyMismatch}


async def silent(wire: Wire) -> None:
    """Says nothing."""


async def silent_behind_the_nonce(wire: Wire) -> None:
    wire.greet()


async def silent_in_the_header(wire: Wire) -> None:
    wire.greet(HEADER[:10])


async def silent_behind_the_header(wire: Wire) -> None:
    wire.greet(HEADER)


async def silent_behind_a_refusal(wire: Wire) -> None:
    wire.greet(HEADER + frame("/plaintext/2.0.0"))


async def silent_in_a_message(wire: Wire) -> None:
    await noise_agreed(wire)
    wire.say(b"\x00\x20" + bytes(10))


async def silent_behind_the_first_message(wire: Wire) -> None:
    await first_message(wire, new_channel())


@pytest.mark.parametrize(
    ("attack", "kind", "reason"),
    [
        (silent, NetworkKeyMismatch, "different network keys"),
        (silent_behind_the_nonce, NetworkKeyMismatch, "different network keys"),
        (silent_in_the_header, NetworkKeyMismatch, "different network keys"),
        (silent_behind_the_header, HandshakeError, "did not end within"),
        (silent_behind_a_refusal, HandshakeError, "did not end within"),
        (silent_in_a_message, HandshakeError, "did not end within"),
        (silent_behind_the_first_message, HandshakeError, "did not end within"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_caller_that_falls_silent(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, attack: Attack, kind: type[BethrouError], reason: str
) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.1)
    async with Wire.dial(scene.port) as wire:
        await attack(wire)
        await wire.end()
        await scene.refused(kind, reason)


async def test_a_caller_that_trickles_has_one_deadline_for_the_whole(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.1)
    async with Wire.dial(scene.port) as wire:
        while not scene.host.happenings.refusals:
            wire.raw(b"\x00")
            await asyncio.sleep(0.01)
        await wire.end()
        await scene.refused(NetworkKeyMismatch, "did not end within")


async def test_many_silent_callers_at_once(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.5)
    pairs = await asyncio.gather(*(asyncio.open_connection("127.0.0.1", scene.port) for _ in range(100)))
    await scene.the_other_link_works()
    peer = await RawPeer.dial(scene.port, "honest")
    await peer.round_trip()
    while len(scene.host.happenings.refusals) < 100:
        await asyncio.sleep(0)
    for reader, writer in pairs:
        assert len(await reader.read()) == GREETING
        writer.close()
        await writer.wait_closed()
    peer.transport.abort()


async def test_callers_beyond_the_bound_are_closed_unheard(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bethrou.net.accepting.MAX_HANDSHAKES", 3)
    wires = [await asyncio.open_connection("127.0.0.1", scene.port) for _ in range(4)]
    for reader, _ in wires[:3]:
        assert len(await reader.readexactly(GREETING)) == GREETING
    assert await wires[3][0].read() == b""
    for _, writer in wires:
        writer.close()
        await writer.wait_closed()
    while len(scene.host.happenings.refusals) < 3:
        await asyncio.sleep(0)


# -- the other role --------------------------------------------------------------------------------------------------


async def answer_nothing(wire: Wire) -> None:
    await wire.end()


async def answer_and_leave(wire: Wire) -> None:
    wire.greet(HEADER)
    await wire.hear(len(HEADER))


async def answer_na(wire: Wire) -> None:
    wire.greet(HEADER + NA)
    await wire.end()


async def answer_garbage(wire: Wire) -> None:
    wire.raw(os.urandom(200))
    await wire.end()


async def answer_something_else(wire: Wire) -> None:
    wire.greet(HEADER + frame("/tls/1.0.0"))
    await wire.end()


async def answer_with_noise_then_garbage(wire: Wire) -> None:
    wire.greet(HEADER + NOISE + b"\x00\xd8" + bytes(range(216)))
    await wire.end()


async def echo_the_first_message(wire: Wire) -> None:
    wire.greet(HEADER + NOISE)
    await wire.hear(len(HEADER + NOISE))
    message = await wire.hear_message()
    wire.say(len(message).to_bytes(2, "big") + message)
    await wire.end()


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (answer_nothing, "within"),
        (leave, "different network keys"),
        (answer_and_leave, "ended the handshake before it began"),
        (answer_na, "does not offer Noise (/noise); the peer does not offer TLS (/tls/1.0.0)"),
        (answer_garbage, "different network keys"),
        (answer_something_else, "/tls/1.0.0"),
        (answer_with_noise_then_garbage, "Noise handshake"),
        (echo_the_first_message, "too short"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
async def test_a_listener_that_breaks_the_handshake(
    monkeypatch: pytest.MonkeyPatch, answer: Attack, reason: str
) -> None:
    async with nothing_left(), serving(answer) as port:
        host = Member("dialer")
        if answer is answer_nothing:
            monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.1)
        address = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}")
        with pytest.raises(DialError) as caught:
            await host.dial(identity("listener").peer_id, [address])
        assert str(address) in str(caught.value)
        assert reason in str(caught.value)
        assert not host.links
        await host.close()


async def test_another_peer_than_the_dialled_one_learns_nothing_of_us() -> None:
    async with nothing_left():
        dialer, impostor = Member("dialer"), Member("impostor")
        with pytest.raises(DialError, match=f"but {impostor.peer_id} answered"):
            await dialer.dial(identity("listener").peer_id, [impostor.address])
        while not impostor.happenings.refusals:
            await asyncio.sleep(0)
        assert isinstance(impostor.happenings.refusals[0], LinkLost)
        assert not impostor.happenings.up
        await dialer.close()
        await impostor.close()


async def test_a_host_of_another_network() -> None:
    async with nothing_left():
        dialer, stranger = Member("dialer"), Member("stranger", OTHER_KEY)
        with pytest.raises(DialError, match="different network keys"):
            await dialer.dial(stranger.peer_id, [stranger.address])
        await dialer.close()
        await stranger.close()


async def test_the_same_identity_may_call_itself() -> None:
    # Two programs with one key file: odd, but no reason to fall over.
    async with nothing_left():
        host = Member("twin")
        peer = await RawPeer.dial(host.port, "twin")
        await peer.round_trip()
        assert list(host.links) == [host.peer_id]
        peer.transport.abort()
        await host.close()


def test_the_upgrader_does_not_show_the_key() -> None:
    shown = repr(upgrader("anybody"))
    assert "6b6b6b" not in shown
    assert "kkkk" not in shown
