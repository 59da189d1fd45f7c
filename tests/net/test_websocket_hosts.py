"""Hosts that reach each other by WebSocket: addresses, ports that speak both, TLS, paths, names."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from websockets.frames import Close, Frame, Opcode

from bethrou.errors import ConfigError, DialError
from bethrou.net.reader import ByteReader
from bethrou.net.tls import TlsIdentity
from bethrou.net.websocket_opening import accept_websocket
from bethrou.wire.multiaddr import Multiaddr
from live.certificates import write_certificates
from net.clock import turns
from net.collector import Collector, End, noise
from net.hosts import OTHER_KEY, Member, stream_pair
from net.loops import BOTH, LoopFactory
from net.test_hostile_websockets import REQUEST

MIB = 1 << 20


def pytest_asyncio_loop_factories() -> dict[str, LoopFactory]:
    return BOTH


def at(text: str) -> Multiaddr:
    return Multiaddr.parse(text)


@contextlib.asynccontextmanager
async def members(*made: Member) -> AsyncIterator[tuple[Member, ...]]:
    try:
        yield made
    finally:
        for member in made:
            await member.close()


async def carries(dialer: Member, listener: Member, address: Multiaddr) -> None:
    """A link at this address, and data on it both ways."""
    link = await dialer.dial(listener.peer_id, [address])
    near, far = (End(stream) for stream in await stream_pair(link, listener))
    for end in (near, far):
        end.switch(Collector())
    data = noise(2 * MIB)
    await asyncio.gather(near.send(data), far.send(data[::-1]))
    await far.protocol.have(len(data))
    await near.protocol.have(len(data))
    assert far.protocol.hash == hashlib.sha256(data).hexdigest()
    assert near.protocol.hash == hashlib.sha256(data[::-1]).hexdigest()
    assert link.remote == address.without_peer()
    link.close()
    await link.flushed


async def test_a_link_by_websocket() -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        assert listener.bound_addresses == listener.listen_addresses == [listener.address]
        assert str(listener.address).endswith(f"/tcp/{listener.port}/ws")
        await carries(dialer, listener, listener.address)
        (other,) = [link for link, _ in listener.happenings.down] or listener.links[dialer.peer_id]
        assert str(other.remote).endswith("/ws")
        assert not other.initiator


async def test_what_is_told_in_identify() -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.2/tcp/0/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        link = await dialer.dial(listener.peer_id, [listener.address])
        statement = await dialer.statement_of(link)
        assert statement is not None
        # A WebSocket from loopback may come from a web server, and so from anywhere.
        assert statement.listen_addrs == ()
        assert str(statement.observed_addr).endswith("/ws")
        assert not dialer.observed.believed
        assert not dialer.mapped.addresses


async def test_a_port_that_speaks_both() -> None:
    listener = Member("listener")
    second = listener.listen(at(f"{listener.address}/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        assert listener.bound_addresses == [listener.address, second]
        assert listener.port == second.tcp_port
        await carries(dialer, listener, listener.address)
        await carries(dialer, listener, second)


async def test_a_port_that_speaks_both_speaks_first_to_those_who_are_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("bethrou.net.accepting.SILENCE", 0.05)
    listener = Member("listener")
    listener.listen(at(f"{listener.address}/ws"))
    async with members(listener):
        reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
        assert len(await reader.readexactly(24)) == 24
        writer.close()
        await writer.wait_closed()


async def test_who_is_silent_is_let_go_when_the_host_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bethrou.net.accepting.SILENCE", 60)
    listener = Member("listener")
    listener.listen(at(f"{listener.address}/ws"))
    reader, writer = await asyncio.open_connection("127.0.0.1", listener.port)
    while not listener.accepting.handshakes:
        await asyncio.sleep(0)
    await turns()
    await listener.close()
    async with asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):  # cut off: nothing was said that could be lost
            assert await reader.read() == b""
    writer.close()


async def test_a_port_for_websockets_speaks_nothing_else() -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        plain = Multiaddr.tcp("127.0.0.1", listener.port)
        with pytest.raises(DialError):
            await dialer.dial(listener.peer_id, [plain])


@pytest.mark.parametrize("second", ["/ws", "/wss", "/ws/http-path/x"])
async def test_what_a_port_cannot_speak_besides(second: str) -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/ws"))
    async with members(listener):
        with pytest.raises(ConfigError, match="cannot listen"):
            listener.listening.open(at(f"/ip4/127.0.0.1/tcp/{listener.port}{second}"))


async def test_a_path() -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/ws/http-path/%2Fsecret%20place"))
    async with members(Member("dialer"), listener) as (dialer, _):
        assert str(listener.address).endswith("/ws/http-path/%2Fsecret%20place")
        await carries(dialer, listener, listener.address)
        elsewhere = at(f"/ip4/127.0.0.1/tcp/{listener.port}/ws")
        with pytest.raises(DialError, match="404 Not Found"):
            await dialer.dial(listener.peer_id, [elsewhere])


@pytest.mark.parametrize("name", ["dns4", "dns"])
async def test_a_name(name: str) -> None:
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        await carries(dialer, listener, at(f"/{name}/localhost/tcp/{listener.port}/ws"))


async def test_another_network_key() -> None:
    listener = Member("listener", OTHER_KEY, at=at("/ip4/127.0.0.1/tcp/0/ws"))
    async with members(Member("dialer"), listener) as (dialer, _):
        with pytest.raises(DialError, match="different network keys"):
            await dialer.dial(listener.peer_id, [listener.address])
        while not listener.happenings.refusals:
            await asyncio.sleep(0)


# -- TLS -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["/wss", "/tls/ws", "/tls/sni/exit.example.org/ws"])
async def test_a_link_in_tls(tmp_path: Path, form: str) -> None:
    files = write_certificates(tmp_path, "exit.example.org", "127.0.0.1")
    listener = Member(
        "listener",
        at=at("/ip4/127.0.0.1/tcp/0/wss"),
        tls=TlsIdentity(files.certificate, files.key),
    )
    dialer = Member("dialer", tls=TlsIdentity(ca=files.ca))
    async with members(dialer, listener):
        await carries(dialer, listener, at(f"/ip4/127.0.0.1/tcp/{listener.port}{form}"))


async def test_many_small_frames_right_before_the_end(tmp_path: Path) -> None:
    """They come with the end of TLS in one read, and take more than one turn of the loop."""
    loop = asyncio.get_running_loop()
    files = write_certificates(tmp_path, "127.0.0.1")
    tls = TlsIdentity(files.certificate, files.key, files.ca)
    below: asyncio.Future[ByteReader] = loop.create_future()

    def accepted() -> ByteReader:
        below.set_result(ByteReader())
        return below.result()

    server = await loop.create_server(accepted, "127.0.0.1", 0, ssl=tls.server)
    port = server.sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls.client)
    writer.write(REQUEST)
    scratch = memoryview(bytearray(1 << 18))
    transport = await accept_websocket(loop, await below, "", os.urandom, scratch)
    await reader.readuntil(b"\r\n\r\n")
    received = Collector()
    transport.set_protocol(received)
    frame = Frame(Opcode.BINARY, b"abc").serialize(mask=True)
    goodbye = Frame(Opcode.CLOSE, Close(1000, "").serialize()).serialize(mask=True)
    writer.write(frame * 3000 + goodbye)
    writer.close()
    assert await received.lost is None
    assert received.data == b"abc" * 3000
    server.close()
    await server.wait_closed()


async def test_a_certificate_of_nobody_we_know(tmp_path: Path) -> None:
    files = write_certificates(tmp_path, "127.0.0.1")
    listener = Member(
        "listener", at=at("/ip4/127.0.0.1/tcp/0/wss"), tls=TlsIdentity(files.certificate, files.key)
    )
    async with members(Member("dialer"), listener) as (dialer, _):
        with pytest.raises(DialError, match="TLS: unable to get local issuer certificate"):
            await dialer.dial(listener.peer_id, [listener.address])
        while not listener.happenings.refusals:
            await asyncio.sleep(0)
        assert "TLS" in str(listener.happenings.refusals[0])


async def test_a_certificate_for_another_name(tmp_path: Path) -> None:
    files = write_certificates(tmp_path, "other.example.org")
    listener = Member(
        "listener", at=at("/ip4/127.0.0.1/tcp/0/wss"), tls=TlsIdentity(files.certificate, files.key)
    )
    dialer = Member("dialer", tls=TlsIdentity(ca=files.ca))
    async with members(dialer, listener):
        with pytest.raises(DialError, match="TLS: IP address mismatch"):
            await dialer.dial(listener.peer_id, [listener.address])
        with pytest.raises(DialError, match="TLS: Hostname mismatch"):
            sni = at(f"/ip4/127.0.0.1/tcp/{listener.port}/tls/sni/exit.example.org/ws")
            await dialer.dial(listener.peer_id, [sni])


async def test_a_listener_keeps_the_name_of_its_certificate(tmp_path: Path) -> None:
    files = write_certificates(tmp_path, "localhost")
    tls = TlsIdentity(files.certificate, files.key, files.ca)
    listener = Member("listener", at=at("/dns4/localhost/tcp/0/wss"), tls=tls)
    dialer = Member("dialer", tls=tls)
    async with members(dialer, listener):
        assert str(listener.address) == f"/dns4/localhost/tcp/{listener.port}/wss"
        await carries(dialer, listener, listener.address)


async def test_certificates_are_read_again(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    files, later = write_certificates(first, "127.0.0.1"), write_certificates(second, "127.0.0.1")
    tls = TlsIdentity(files.certificate, files.key)
    listener = Member("listener", at=at("/ip4/127.0.0.1/tcp/0/wss"), tls=tls)
    before = Member("before", tls=TlsIdentity(ca=files.ca))
    after = Member("after", tls=TlsIdentity(ca=later.ca))
    async with members(before, after, listener):
        link = await before.dial(listener.peer_id, [listener.address])
        files.certificate.write_bytes(later.certificate.read_bytes())
        with pytest.raises(ConfigError, match="cannot use the certificate"):
            tls.reload()  # the key is still another's
        await carries(before, listener, listener.address)
        files.key.write_bytes(later.key.read_bytes())
        tls.reload()
        await carries(after, listener, listener.address)
        assert link.alive


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "No such file"), (b"", "no PEM"), (b"nonsense", "no PEM")],
)
async def test_certificate_files_that_cannot_be_used(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "server.pem"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=reason):
        Member("listener", at=at("/ip4/127.0.0.1/tcp/0/wss"), tls=TlsIdentity(path))
    with pytest.raises(ConfigError, match="--tls-certificate"):
        Member("listener", at=at("/ip4/127.0.0.1/tcp/0/wss"))
    if content is not None:
        with pytest.raises(ConfigError):
            assert TlsIdentity(ca=path).client
