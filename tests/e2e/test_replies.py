"""What an application is told: the right SOCKS reply for each failure, and success only when it is true."""

from __future__ import annotations

import asyncio
import errno
import socket
import struct

import pytest

from bethrou.events import ExitChanged, RequestEnded
from bethrou.proxy import exit_client, exit_node
from bethrou.wire.psk import NetworkKey
from live.applications import GREETING, application, connect_request, open_application, refusal
from live.members import running_client, running_node
from live.obstacles import deaf_listener
from live.targets import echo, silent, target
from live.waiting import until
from proxy.dns_server import DnsServerForTests


async def answer_to(proxy: tuple[str, int], request: bytes) -> bytes:
    """Everything that the proxy says to a greeting and `request`, until it hangs up."""
    reader, writer = await asyncio.open_connection(*proxy)
    writer.write(GREETING + request)
    async with asyncio.timeout(10):
        answer = await reader.read()
    writer.close()
    return answer


async def test_refused_denied_and_impossible_names(key: NetworkKey) -> None:
    async with target(echo) as gone:
        pass
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        for host, port, code in (
            ("127.0.0.1", gone.port, 0x05),
            ("10.1.2.3", 80, 0x02),
            ("169.254.169.254", 80, 0x02),
            ("::1", gone.port, 0x02),
            ("::ffff:127.0.0.1", gone.port, 0x02),
            ("::ffff:10.1.2.3", 80, 0x02),
            ("127.1", gone.port, 0x04),
            ("0x7f000001", gone.port, 0x04),
            ("2130706433", gone.port, 0x04),
            ("127.0.0.1.", gone.port, 0x04),
        ):
            assert await refusal(client.proxy, host, port) == code, host
        assert client.app.core.pool.exits[str(node.app.host.peer_id)].health.suspicion.failures == 0
        await until(lambda: client.app.active == node.app.active == 0)


async def test_port_25_is_denied_even_where_loopback_is_allowed(key: NetworkKey) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        assert await refusal(client.proxy, "127.0.0.1", 25) == 0x02


async def test_the_nodes_own_port_is_denied(key: NetworkKey) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        assert await refusal(client.proxy, "127.0.0.1", int(node.address.split("/")[4])) == 0x02


async def test_names_that_do_not_exist_or_are_not_answered(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_node, "DIAL_TIMEOUT", 0.5)
    server = await DnsServerForTests.start()
    server.zone["empty.test"] = []
    server.never_answer("slow.test")
    async with (
        running_node(key, resolver=[str(server.address)]) as node,
        running_client(key, [node.address]) as client,
    ):
        assert await refusal(client.proxy, "nobody.test", 80) == 0x04
        assert await refusal(client.proxy, "empty.test", 80) == 0x04
        assert await refusal(client.proxy, "slow.test", 80) == 0x06
        asked = len(server.questions)
        for host in ("a b.test", "new\nline.test", "nul\0.test", "\x80\xff.test", "", "-" * 64 + ".test"):
            assert await refusal(client.proxy, host, 80) == 0x04, ascii(host)
        assert len(server.questions) == asked
    server.transport.close()


async def test_an_unreachable_network(key: NetworkKey) -> None:
    far = "2001:db8::1"
    with socket.socket(socket.AF_INET6) as sock:
        sock.setblocking(False)
        if sock.connect_ex((far, 80)) != errno.ENETUNREACH:
            pytest.skip("this machine has a route to every IPv6 address")
    async with (
        running_node(key, allow=["2001:db8::/32"]) as node,
        running_client(key, [node.address]) as client,
    ):
        assert await refusal(client.proxy, far, 80) == 0x03


async def test_an_address_that_drops_syns_is_a_timeout(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_node, "DIAL_TIMEOUT", 0.3)
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        with deaf_listener() as deaf:
            assert await refusal(client.proxy, "127.0.0.1", deaf.port) == 0x06
        (ended,) = client.events.of(RequestEnded)
        assert ended.result == "timeout"


async def test_50_requests_to_an_address_that_drops_syns_leave_every_exit_healthy(
    key: NetworkKey, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exit_node, "DIAL_TIMEOUT", 4.0)
    monkeypatch.setattr(exit_client, "TAKE_TIMEOUT", 1.0)  # the wait is longer than an exit may take to react
    async with (
        running_node(key) as one,
        running_node(key) as other,
        running_client(key, [one.address, other.address]) as client,
        target(echo) as far,
    ):
        with deaf_listener() as deaf:
            waiting = [asyncio.create_task(refusal(client.proxy, "127.0.0.1", deaf.port)) for _ in range(50)]
            await until(lambda: one.app.active + other.app.active == 50)
            assert one.app.active
            assert other.app.active
            assert await refusal(client.proxy, "127.0.0.1", far.port) == 0
            assert await asyncio.gather(*waiting) == [0x06] * 50
        assert {event.new for event in client.events.of(ExitChanged)} == {"healthy"}
        assert all(exit_.health.suspicion.failures == 0 for exit_ in client.app.core.pool.exits.values())
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0


async def test_success_is_told_only_when_the_exit_has_connected(key: NetworkKey) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        with deaf_listener() as deaf:
            asking = asyncio.create_task(open_application(client.proxy, "127.0.0.1", deaf.port))
            await until(lambda: node.app.active == 1)
            await asyncio.wait([asking], timeout=0.3)
            assert not asking.done()
            deaf.accept()
            app = await asking
            app.writer.close()


async def test_no_exit(key: NetworkKey) -> None:
    async with running_node(key) as node:
        address = node.address
    async with (
        running_client(key, [address], wait=False, routing={"wait": 0.2}) as client,
        target(echo) as far,
    ):
        assert await refusal(client.proxy, "127.0.0.1", far.port) == 0x01
        assert not far.visits


@pytest.mark.parametrize("command", [2, 3, 9])
async def test_other_commands_than_connect(key: NetworkKey, command: int) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        answer = await answer_to(client.proxy, connect_request("127.0.0.1", 80, command))
        assert answer == b"\x05\x00" + b"\x05\x07\x00\x01" + bytes(6)


@pytest.mark.parametrize("kind", [0, 2, 5, 255])
async def test_an_unknown_kind_of_address(key: NetworkKey, kind: int) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        answer = await answer_to(client.proxy, bytes([5, 1, 0, kind]) + bytes(6))
        assert answer == b"\x05\x00" + b"\x05\x08\x00\x01" + bytes(6)


async def test_the_reply_names_the_exits_own_address(key: NetworkKey) -> None:
    async with (
        running_node(key) as node,
        running_client(key, [node.address]) as client,
        target(silent) as far,
        application(client.proxy, "localhost", far.port) as app,
    ):
        host, port = app.bound
        assert host == "127.0.0.1"
        assert 0 < port != far.port


async def test_an_application_that_gives_up_while_the_exit_dials(key: NetworkKey) -> None:
    async with running_node(key) as node, running_client(key, [node.address]) as client:
        with deaf_listener() as deaf:
            reader, writer = await asyncio.open_connection(*client.proxy)
            writer.write(GREETING + connect_request("127.0.0.1", deaf.port))
            await until(lambda: node.app.active == 1)
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
            await until(lambda: client.app.active == node.app.active == 0)
            assert await reader.read(2) in (b"", b"\x05\x00")
