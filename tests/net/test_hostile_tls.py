"""TLS peers that break the rules, on real sockets, in both roles: certificates, handshakes, records, floods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest
from OpenSSL import SSL

from bethrou.errors import BethrouError, DialError, HandshakeError, LinkLost, TlsError
from bethrou.net import upgrade
from bethrou.net.link import Link
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.multistream import HEADER, frame
from bethrou.wire.tls.records import MAX_KEY_UPDATES, RecordSealer
from wire.tls import certificates
from wire.tls.certificates import EVE, Made, make, unknown
from wire.tls.openssl_peer import OpenSslPeer
from wire.yamux.frames import data, ping

from .collector import noise
from .hosts import Member, identity, two_hosts
from .leftovers import nothing_left
from .raw_peer import RawPeer
from .test_hostile_peers import Scene
from .wire_client import Wire, serving

TLS = frame("/tls/1.0.0")
ALERT, MESSAGE = 21, 22
KEY_UPDATE = b"\x18\x00\x00\x01"


@pytest.fixture(autouse=True)
def certificates_of_today(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(certificates, "NOW", datetime.now(UTC).replace(microsecond=0))


def certificate(name: str) -> tuple[Made, str]:
    """A bad certificate as of now, and the reason for which it is refused, without its dates."""
    made, reason = certificates.BAD[name]
    if name == "expired":
        return make(end=certificates.NOW - certificates.DAY / 2), "it expired at"
    if name == "not yet valid":
        return make(begin=certificates.NOW + certificates.DAY / 2), "it is not valid before"
    return made(), reason


async def hear_records(wire: Wire) -> bytes:
    """The next record of the host's."""
    header = await wire.hear(5)
    return header + await wire.hear(int.from_bytes(header[3:], "big"))


async def shake_hands(wire: Wire, peer: OpenSslPeer, first: bytes) -> None:
    """Go on until the peer is done; `first` is what it has to say."""
    wire.say(first)
    while not peer.done:
        wire.say(peer.receive(await hear_records(wire)))


async def dial(wire: Wire, peer: OpenSslPeer) -> None:
    """Agree on TLS and run the handshake, as a dialer."""
    wire.greet(HEADER + TLS)
    assert await wire.hear(len(HEADER + TLS)) == HEADER + TLS
    await shake_hands(wire, peer, peer.start())


async def alert_of(wire: Wire, peer: OpenSslPeer) -> str:
    """What OpenSSL makes of what comes until the connection ends."""
    with pytest.raises((SSL.Error, asyncio.IncompleteReadError)) as caught:
        while True:
            peer.open(await hear_records(wire))
    return str(caught.value)


# -- dialers ----------------------------------------------------------------------------------------------------------


async def refusal(host: Member) -> BethrouError:
    while not host.happenings.refusals:
        await asyncio.sleep(0)
    [error] = host.happenings.refusals
    assert not host.links
    return error


@pytest.mark.parametrize("name", certificates.BAD)
async def test_a_dialer_with_a_bad_certificate_is_refused_and_told(name: str) -> None:
    made, reason = certificate(name)
    async with nothing_left():
        host = Member("listener")
        async with Wire.dial(host.port) as wire:
            peer = OpenSslPeer(True, made)
            await dial(wire, peer)
            assert "alert" in await alert_of(wire, peer)
        error = await refusal(host)
        assert isinstance(error, HandshakeError)
        assert reason in str(error)
        await host.close()


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (lambda: OpenSslPeer(True, make(), more=[make()]), "the peer sent 2 certificates"),
        (lambda: OpenSslPeer(True, anonymous=True), "did not return a certificate"),
        (lambda: OpenSslPeer(True, make(also=((unknown(40_000), False),))), "more than 32 KiB"),
        (lambda: OpenSslPeer(True, alpn=["h2"]), "the peer speaks only h2"),
        (lambda: OpenSslPeer(True, version=SSL.TLS1_2_VERSION), "unsupported protocol"),
    ],
)
async def test_a_dialer_that_is_refused(peer, reason: str) -> None:  # type: ignore[no-untyped-def]
    async with nothing_left():
        host = Member("listener")
        async with Wire.dial(host.port) as wire:
            with pytest.raises((SSL.Error, asyncio.IncompleteReadError)):
                hostile = peer()
                await dial(wire, hostile)
                while True:
                    hostile.open(await hear_records(wire))
        assert reason in str(await refusal(host))
        await host.close()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (b"\x00\x20" + bytes(32), "no TLS record"),
        (b"GET / HTTP/1.1\r\n\r\n", "no TLS record"),
        (b"\x16\x03\x01\xff\xff", "record of 65535 bytes"),
        (b"\x16\x03\x01\x00\x20" + bytes(32), "TLS handshake"),
        (b"\x17\x03\x03\x00\x20" + bytes(32), "TLS handshake"),
        (b"\x15\x03\x03\x00\x02\x02\x28", "TLS handshake"),
    ],
)
async def test_a_dialer_that_speaks_no_tls(words: bytes, reason: str) -> None:
    async with nothing_left():
        host = Member("listener")
        async with Wire.dial(host.port) as wire:
            wire.greet(HEADER + TLS + words)
            await wire.end()
        assert reason in str(await refusal(host))
        await host.close()


@pytest.mark.parametrize("share", [0.01, 0.5, 0.99])
async def test_a_dialer_that_stops_in_the_middle_of_a_record(
    monkeypatch: pytest.MonkeyPatch, share: float
) -> None:
    monkeypatch.setattr(upgrade, "UPGRADE_TIMEOUT", 0.1)
    async with nothing_left():
        host = Member("listener")
        async with Wire.dial(host.port) as wire:
            first = OpenSslPeer(True).start()
            wire.greet(HEADER + TLS + first[: int(len(first) * share) + 1])
            await wire.end()
        assert "did not end within" in str(await refusal(host))
        await host.close()


async def test_a_dialer_that_leaves_in_the_middle() -> None:
    async with nothing_left():
        host = Member("listener")
        async with Wire.dial(host.port) as wire:
            wire.greet(HEADER + TLS + OpenSslPeer(True).start())
            await hear_records_after_agreement(wire)
        assert isinstance(await refusal(host), LinkLost)
        await host.close()


async def hear_records_after_agreement(wire: Wire) -> None:
    await wire.hear(len(HEADER + TLS))
    await hear_records(wire)


# -- listeners --------------------------------------------------------------------------------------------------------


async def listen(wire: Wire, peer: OpenSslPeer) -> None:
    """Agree on TLS and run the handshake, as a listener."""
    wire.greet(HEADER + TLS)
    assert await wire.hear(len(HEADER + TLS)) == HEADER + TLS
    await shake_hands(wire, peer, b"")


async def dialled(peer: OpenSslPeer, whom: str = "listener") -> tuple[str, str]:
    """What our host says of the peer that it has dialled, and what the peer heard."""
    heard: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def serve(wire: Wire) -> None:
        try:
            await listen(wire, peer)
            await wire.end()
            heard.set_result("")
        except (SSL.Error, asyncio.IncompleteReadError) as error:
            heard.set_result(str(error))

    async with nothing_left(), serving(serve) as port:
        host = Member("dialer", security=("tls",))
        with pytest.raises(DialError) as caught:
            await host.dial(identity(whom).peer_id, [Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}")])
        assert not host.links
        await heard
        await host.close()
    return str(caught.value), heard.result()


@pytest.mark.parametrize("name", certificates.BAD)
async def test_a_listener_with_a_bad_certificate_is_refused_and_told(name: str) -> None:
    made, reason = certificate(name)
    said, heard = await dialled(OpenSslPeer(False, made))
    assert reason in said
    assert "alert" in heard


async def test_another_listener_than_the_one_that_was_dialled() -> None:
    peer = OpenSslPeer(False, make(EVE))
    said, heard = await dialled(peer)
    assert f"dialled {identity('listener').peer_id}, but {EVE.peer_id} answered" in said
    assert "alert" in heard
    assert peer.connection.get_peer_certificate() is None  # it has learned nothing of us


@pytest.mark.parametrize(
    ("peer", "reason"),
    [
        (
            lambda: OpenSslPeer(False, make(identity("listener")), more=[make()]),
            "the peer sent 2 certificates",
        ),
        (lambda: OpenSslPeer(False, make(also=((unknown(40_000), False),))), "more than 32 KiB"),
    ],
)
async def test_a_listener_that_is_refused(peer, reason: str) -> None:  # type: ignore[no-untyped-def]
    said, _ = await dialled(peer())
    assert reason in said


async def test_a_listener_that_breaks_the_rules_before_the_muxer_is_agreed_on() -> None:
    peer = OpenSslPeer(False, make(identity("listener")), alpn=["libp2p"])

    async def serve(wire: Wire) -> None:
        wire.greet(HEADER + TLS)
        await wire.hear(len(HEADER + TLS))
        await shake_hands(wire, peer, b"")
        await hear_records(wire)
        altered = bytearray(peer.seal(HEADER))
        altered[-1] ^= 1
        wire.say(bytes(altered))
        await wire.end()

    async with nothing_left(), serving(serve) as port:
        host = Member("dialer", security=("tls",))
        address = Multiaddr.parse(f"/ip4/127.0.0.1/tcp/{port}")
        with pytest.raises(DialError, match=f"{address}: TLS record altered on its way"):
            await host.dial(identity("listener").peer_id, [address])
        await host.close()


# -- behind the handshake ---------------------------------------------------------------------------------------------


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with nothing_left(), two_hosts() as (_, listener, link, _other):
        peer = await RawPeer.dial(listener.port, security="tls")
        await peer.round_trip()
        scene = Scene(listener, link, peer)
        assert scene.link.security == "tls"
        yield scene
        await scene.the_other_link_works()
        peer.transport.abort()


def sealer_of(scene: Scene) -> RecordSealer:
    sealer = scene.peer._seal.__self__
    assert isinstance(sealer, RecordSealer)
    return sealer


def send(scene: Scene, content: bytes, kind: int) -> None:
    """A record of another type than data."""
    scene.peer.send_raw(bytes(sealer_of(scene)._seal(content, kind)))


async def test_an_altered_record(scene: Scene) -> None:
    altered = bytearray(scene.peer._seal(ping(1)))
    altered[-1] ^= 1
    scene.peer.send_raw(bytes(altered))
    await scene.ended(TlsError, "altered")


async def test_bytes_that_are_no_records(scene: Scene) -> None:
    scene.peer.send_raw(noise(200_000))
    await scene.ended(TlsError, "TLS record")


async def test_an_oversized_record(scene: Scene) -> None:
    scene.peer.send_raw(sealer_of(scene)._keystream.xor(b"\x17\x03\x03\x41\x01"))
    await scene.ended(TlsError, "16641 bytes")


async def test_a_connection_that_ends_in_the_middle_of_a_record(scene: Scene) -> None:
    end = await scene.pipe(1, b"whole")
    await end.protocol.have(5)
    scene.peer.send_raw(bytes(scene.peer._seal(data(1, b"broken")))[:-3])
    scene.peer.transport.close()
    await scene.ended(LinkLost, "closed the connection")
    assert isinstance(
        await end.protocol.lost, LinkLost
    )  # not the end of the stream: nobody takes it for that
    assert end.protocol.data == b"whole"


async def test_a_goodbye_of_tls(scene: Scene) -> None:
    end = await scene.pipe(1)
    scene.peer.send(data(1, b"last words"))
    scene.peer.send_raw(sealer_of(scene).farewell())
    await scene.ended(LinkLost, "the peer closed the connection")
    assert end.protocol.data == b"last words"
    assert isinstance(await end.protocol.lost, LinkLost)


async def test_an_alert(scene: Scene) -> None:
    send(scene, b"\x02\x2a", ALERT)
    await scene.ended(LinkLost, "TLS alert bad_certificate")


async def test_the_peer_is_told_what_it_did(scene: Scene) -> None:
    """RFC 8446, section 6.2: an alert, then the end."""
    send(scene, b"", 99)
    await scene.ended(TlsError, "record of type 99")
    assert scene.peer.goodbye == "the peer ended the connection: TLS alert unexpected_message"


async def test_our_link_says_goodbye(scene: Scene) -> None:
    scene.link.close()
    await scene.peer.lost
    assert scene.peer.goodbye == "the peer closed the connection"


async def test_a_flood_of_key_updates(scene: Scene) -> None:
    link: Link = scene.link
    for number in range(MAX_KEY_UPDATES + 1):
        scene.peer.send(ping(number))
        scene.peer.send_raw(bytes(sealer_of(scene)._seal(KEY_UPDATE + b"\x01", MESSAGE)))
        sealer_of(scene)._key.update()
    await scene.ended(TlsError, "TLS key updates for")
    assert not link.alive


async def test_key_updates_that_are_allowed(scene: Scene) -> None:
    end = await scene.pipe(1)
    received = b""
    for number in range(MAX_KEY_UPDATES // 2):
        scene.peer.send_raw(bytes(sealer_of(scene)._seal(KEY_UPDATE + b"\x01", MESSAGE)))
        sealer_of(scene)._key.update()
        received += noise(1000, number)
        scene.peer.send(data(1, noise(1000, number)))
        end.transport.write(b"answer")
        await scene.peer.round_trip()
    assert end.protocol.data == received
    assert scene.peer.data_of(1).endswith(b"answer" * (MAX_KEY_UPDATES // 2))


async def test_a_flood_of_records_without_data(scene: Scene) -> None:
    for _ in range(100):
        scene.peer.send_raw(bytes(scene.peer._seal(b"")))
    await scene.ended(TlsError, "in a row without data")


async def test_a_new_handshake(scene: Scene) -> None:
    """There is no renegotiation in TLS 1.3: a ClientHello behind the handshake is an error."""
    hello = OpenSslPeer(True).start()
    send(scene, hello[5:], MESSAGE)
    await scene.ended(TlsError, "message of type 1 behind the handshake")


async def test_unencrypted_records(scene: Scene) -> None:
    scene.peer.send_raw(sealer_of(scene)._keystream.xor(b"\x15\x03\x03\x00\x02\x01\x00"))
    await scene.ended(TlsError, "type 21 instead of an encrypted one")
