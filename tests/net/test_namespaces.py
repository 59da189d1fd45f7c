"""The Internet in a box does what NAT boxes do; what is punched through it later proves something only then."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest

from live.namespaces import Internet, Namespace, Nat, an_internet_for_a_test
from live.waiting import PATIENCE

internet = pytest.fixture(an_internet_for_a_test)

PORT = 4001
SILENCE = 0.4
"""Seconds in which a packet that is let through has long arrived."""


def listen(where: Namespace) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("0.0.0.0", PORT))
        sock.listen()
        sock.settimeout(PATIENCE)
        return sock

    return where.within(make)


def connect(where: Namespace, host: str, own_port: int = 0, patience: float = PATIENCE) -> socket.socket:
    def make() -> socket.socket:
        sock = socket.socket()
        sock.settimeout(patience)
        try:
            sock.bind(("0.0.0.0", own_port))
            sock.connect((host, PORT))
        except OSError:
            sock.close()
            raise
        return sock

    return where.within(make)


@pytest.fixture
def server(internet: Internet) -> Iterator[socket.socket]:
    """Listens on 5.5.0.1."""
    with listen(internet.host("5.5.0.1")) as sock:
        yield sock


@pytest.mark.parametrize("nat", Nat)
def test_a_member_of_a_home_is_seen_at_its_box(internet: Internet, server: socket.socket, nat: Nat) -> None:
    alice = internet.home("5.5.1.1", nat).member()
    ports = []
    for own_port in (5001, 5002, 5003):
        with connect(alice, "5.5.0.1", own_port=own_port):
            accepted, (host, port) = server.accept()
            accepted.close()
            assert host == "5.5.1.1"
            ports.append(port)
    assert (ports == [5001, 5002, 5003]) is (nat is Nat.PRESERVING)


@pytest.mark.parametrize("nat", Nat)
def test_nobody_gets_in_unasked(internet: Internet, nat: Nat) -> None:
    home = internet.home("5.5.1.1", nat)
    with listen(home), listen(home.member()):
        stranger = internet.host("5.5.0.2")
        with pytest.raises(TimeoutError):  # not refused: there is no answer
            connect(stranger, "5.5.1.1", patience=SILENCE)


def test_a_forwarded_port_is_open(internet: Internet) -> None:
    home = internet.home("5.5.1.1", Nat.PRESERVING)
    alice = home.member()
    home.forward(PORT, alice)
    with listen(alice) as sock, connect(internet.host("5.5.0.2"), "5.5.1.1"):
        accepted, (host, _) = sock.accept()
        accepted.close()
        assert host == "5.5.0.2"


def test_members_of_a_home_reach_each_other_and_not_another_home(internet: Internet) -> None:
    first, second = (internet.home(f"5.5.{n}.1", Nat.PRESERVING) for n in (1, 2))
    alice, bob = first.member(), first.member()
    second.member()
    with listen(alice) as sock:
        connect(bob, alice.address).close()
        sock.accept()[0].close()
        with pytest.raises((TimeoutError, OSError)):
            connect(second.member(), alice.address, patience=SILENCE)


async def test_a_loop_inside_has_its_sockets_inside(internet: Internet) -> None:
    async def own_address() -> str:
        _, writer = await asyncio.open_connection("5.5.0.1", PORT)
        name: tuple[str, int] = writer.get_extra_info("sockname")
        writer.close()
        await writer.wait_closed()
        return name[0]

    server = internet.host("5.5.0.1")
    with listen(server), server.loop() as there, internet.host("5.5.0.2").loop() as here:
        assert await there(own_address()) == "5.5.0.1"
        assert await here(own_address()) == "5.5.0.2"
