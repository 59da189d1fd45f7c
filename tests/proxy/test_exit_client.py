"""Asking an exit that does not behave: whose fault it is, and when that is said."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from bethrou.errors import Failure, RequestError
from bethrou.net.link import Link
from bethrou.net.muxer import MAX_UNACKNOWLEDGED
from bethrou.net.timeouts import TimeoutQueue
from bethrou.proxy import exit_client
from bethrou.proxy.exit_client import ExitFault
from bethrou.wire.identify import Identify
from bethrou.wire.proxy_request import PROTOCOL_V1_0, PROTOCOL_V1_1, ProxyRequest
from net.hosts import Member, two_hosts

REQUEST = ProxyRequest("name.example", 443, "0123456789abcdef")
OURS = Identify(protocols=(PROTOCOL_V1_0, PROTOCOL_V1_1))
GO = Identify(protocols=(PROTOCOL_V1_0,))


@pytest.fixture
async def frozen() -> AsyncIterator[tuple[Member, Link]]:
    """A client and its link to an exit that has just stopped doing anything."""
    async with two_hosts() as (client, exit_, link, other):
        await client.statement_of(link)
        await exit_.statement_of(other)
        other._transport.pause_reading()
        yield client, link
        other._transport.resume_reading()


async def ask(link: Link, statement: Identify, limits: exit_client.Limits) -> exit_client.Accepted:
    link.statement = statement
    return await exit_client.ask(link, REQUEST, limits, exit_client.Attempt(0.0))


def impatient() -> exit_client.Limits:
    limits = exit_client.Limits(asyncio.get_running_loop(), 1.0)
    limits.take = TimeoutQueue(asyncio.get_running_loop(), 1.0, resolution=0.05)
    limits.answer = TimeoutQueue(asyncio.get_running_loop(), 1.0, resolution=0.05)
    return limits


async def test_no_request_waits_longer_because_others_wait_too(frozen: tuple[Member, Link]) -> None:
    _, link = frozen
    limits = impatient()
    asking = [asyncio.create_task(ask(link, OURS, limits)) for _ in range(2 * MAX_UNACKNOWLEDGED)]
    done, late = await asyncio.wait(asking, timeout=1.8)
    assert not late
    faults = [task.exception() for task in done]
    assert all(isinstance(fault, ExitFault) and fault.counts for fault in faults)


async def test_silence_of_an_exit_that_cannot_say_dialing_is_not_held_against_it(
    frozen: tuple[Member, Link],
) -> None:
    _, link = frozen
    with pytest.raises(RequestError) as caught:
        await ask(link, GO, impatient())
    assert caught.value.failure is Failure.TIMEOUT
    assert link.stream_count == 0
