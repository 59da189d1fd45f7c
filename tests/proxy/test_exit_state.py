"""An exit tells its members how it is."""

from __future__ import annotations

import asyncio

from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.proxy.exit_state import PROTOCOL, StateService
from bethrou.wire.state_message import PrefixedJsonReader, StateMessage
from live.waiting import until
from net.hosts import two_hosts


def service() -> StateService:
    return StateService(asyncio.get_running_loop(), 30.0, "alpha", ("eu",), lambda: 0.0)


async def heard(negotiation: OutboundNegotiation) -> StateMessage:
    messages = PrefixedJsonReader()
    while (message := messages.receive(await negotiation.reader.read_some())) is None:
        pass
    return StateMessage.decode(message)


async def test_a_member_hears_at_once_and_of_every_change_even_when_it_has_ended_its_own_direction() -> None:
    state = service()
    async with two_hosts() as (_, exit_, link, _other):
        exit_.handle(PROTOCOL, state.serve)
        negotiation = propose(await link.open_stream(), [PROTOCOL])
        negotiation.stream.write_eof()
        await negotiation.agreed()
        first = await heard(negotiation)
        assert (first.draining, first.name, first.tags) == (False, "alpha", ("eu",))
        state.drain()
        assert (await heard(negotiation)).draining
        state.close()


async def test_there_is_one_stream_a_link() -> None:
    state = service()
    async with two_hosts() as (_, exit_, link, other):
        exit_.handle(PROTOCOL, state.serve)
        for _ in range(50):
            last = propose(await link.open_stream(), [PROTOCOL])
        await last.agreed()
        await heard(last)
        await until(lambda: other.stream_count == 1)
        assert len(state._members) == 1
        state.close()
