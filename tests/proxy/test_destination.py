"""What an exit says when a destination cannot be reached, whatever its addresses are."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Iterator, Sequence
from ipaddress import ip_address
from typing import Any

import pytest

from bethrou.errors import Failure, RequestError
from bethrou.proxy import destination
from bethrou.proxy.destination import Address, reach


class Names:
    """A resolver that knows one name."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: list[Address] = [ip_address(address) for address in addresses]

    async def resolve(self, host: str) -> list[Address]:
        return self.addresses


def permit(address: Address, port: int) -> str | None:
    return None


@pytest.fixture
def closed_port() -> Iterator[int]:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        yield sock.getsockname()[1]


async def failure_at(port: int, *addresses: str) -> Failure:
    with pytest.raises(RequestError) as caught:
        await reach(asyncio.get_running_loop(), "name.example", port, Names(*addresses), permit)
    return caught.value.failure


@pytest.mark.parametrize("addresses", [["127.0.0.1"], ["127.0.0.1", "127.0.0.2"]], ids=len)
async def test_all_addresses_refuse(closed_port: int, addresses: Sequence[str]) -> None:
    assert await failure_at(closed_port, *addresses) is Failure.REFUSED


@pytest.mark.parametrize(
    ("errors", "failure"),
    [
        ([errno.ENETUNREACH, errno.ECONNREFUSED], Failure.REFUSED),
        ([errno.EHOSTUNREACH, errno.ENETUNREACH], Failure.HOST_UNREACHABLE),
        ([errno.EAFNOSUPPORT, errno.EAFNOSUPPORT], Failure.NET_UNREACHABLE),
        ([errno.ECONNREFUSED, errno.EMFILE], Failure.OVERLOADED),
        ([errno.ENETUNREACH, errno.EIO], Failure.NET_UNREACHABLE),
        ([errno.EIO, errno.EBADF], Failure.INTERNAL),
    ],
)
async def test_the_most_telling_failure_counts(
    monkeypatch: pytest.MonkeyPatch, errors: list[int], failure: Failure
) -> None:
    left = list(errors)

    async def fail(*_: Any) -> None:
        number = left.pop(0)
        raise OSError(number, "something with (parentheses) and [brackets]")

    monkeypatch.setattr(asyncio.get_running_loop(), "sock_connect", fail)
    assert await failure_at(1, "127.0.0.1", "127.0.0.2") is failure


async def test_an_event_loop_that_loses_count_of_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("File descriptor 17 is used by transport")

    monkeypatch.setattr(destination.aiohappyeyeballs, "start_connection", fail)
    assert await failure_at(1, "127.0.0.1", "127.0.0.2") is Failure.INTERNAL
