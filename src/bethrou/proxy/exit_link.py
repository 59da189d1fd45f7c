"""What a client hears on its link to an exit: whether the exit takes requests, and how busy it is."""

from __future__ import annotations

from collections.abc import Callable

from bethrou.errors import BethrouError
from bethrou.net.link import Link
from bethrou.net.negotiation import OutboundNegotiation, propose
from bethrou.wire.identify import Identify
from bethrou.wire.state_message import PROTOCOL, PrefixedJsonReader, StateMessage


async def follow_state(link: Link, statement: Identify | None, says: Callable[[StateMessage], None]) -> None:
    """Call `says` with each state message of the exit; return when there will be none.

    An exit that does not speak `/bethrou/state/1.0.0` (Go's) or breaks its rules says nothing, and is used all the
    same.
    """
    if statement is None or PROTOCOL not in statement.protocols:
        return
    messages = PrefixedJsonReader()
    negotiation: OutboundNegotiation | None = None
    try:
        negotiation = propose(await link.open_stream(), [PROTOCOL])
        await negotiation.agreed()
        while data := await negotiation.reader.read_some():
            while (message := messages.receive(data)) is not None:
                data = b""
                says(StateMessage.decode(message))
    except BethrouError:
        return
    finally:
        if negotiation is not None:
            negotiation.stream.abort()
