"""AutoNAT v2, the side that asks: can we be reached at an address?

Spec: libp2p/specs autonat/autonat-v2.md. A peer dials the address and shows there a number that only it was given. So
a "yes" cannot be invented, but a "no" can: several peers are asked about each address, and the majority of those that
found anything out decides, one alone only where it is the only one.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from bethrou.errors import BethrouError, DecodeError
from bethrou.net.addresses import is_plain_tcp
from bethrou.net.host import Host
from bethrou.net.link import DIRECT, Link
from bethrou.net.negotiation import propose
from bethrou.net.reader import ByteReader
from bethrou.net.stream import RESOURCE_LIMIT, YamuxStream
from bethrou.net.tasks import Tasks
from bethrou.snapshots import AddressReachability
from bethrou.wire import autonat
from bethrou.wire.autonat import (
    DIAL_BACK,
    DIAL_BACK_RESPONSE,
    DIAL_REQUEST,
    MAX_DATA,
    MAX_DATA_CHUNK,
    MAX_MESSAGE,
    DialDataRequest,
    DialDataResponse,
    DialRequest,
    DialResponse,
    DialStatus,
    Status,
)
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.protobuf import length_prefixed
from bethrou.wire.reach import is_public

MAX_PEERS = 3
"""Peers that are asked about an address (go)."""

MAX_ADDRESSES = 4
"""Addresses that are asked about, one after the other: a server takes 12 requests of a peer in a minute."""

ASK_TIMEOUT = 15.0
"""Seconds for one peer's answer (go)."""

DIAL_BACK_TIMEOUT = 5.0
"""Seconds that whoever dials back has to show its number (go)."""

MAX_DIAL_BACKS = 16
"""Dial-back streams that are read at a time; honest ones are as many as peers are asked."""


class Answer(Enum):
    """What one peer found out about one address."""

    YES = "yes"
    NO = "no"
    NOTHING = "nothing"


@dataclass(slots=True)
class _Question:
    """A number that we gave away. Links that were there before prove nothing when it comes back on them."""

    before: frozenset[Link]
    shown: bool = False


def verdict(answers: Sequence[Answer]) -> str:
    """What the answers about one address come to: reachable, unreachable or unknown."""
    yes, no = answers.count(Answer.YES), answers.count(Answer.NO)
    if yes == no:
        return "unknown"
    return "reachable" if yes > no else "unreachable"


class Autonat:
    """Finds out where we can be reached. Takes dial-backs for as long as it lives; `public` says what is asked about.

    `randbytes` makes the numbers, `rng` chooses the peers.
    """

    def __init__(
        self,
        host: Host,
        randbytes: Callable[[int], bytes],
        rng: random.Random,
        public: Callable[[Multiaddr], bool] = is_public,
    ) -> None:
        self._host = host
        self._randbytes = randbytes
        self._rng = rng
        self._public = public
        self._tasks = Tasks(host.loop)
        self._questions: dict[int, _Question] = {}
        """By number: those that are open, at most `MAX_PEERS` for each check that is under way."""
        self.found: tuple[AddressReachability, ...] = ()
        """What the last check that ended has found."""
        self.found_at: float | None = None
        """When that was, in the loop's seconds; None: there was none yet."""
        host.handle(DIAL_BACK, self._dialled_back)

    async def close(self) -> None:
        """Take no dial-backs any more."""
        self._host.unhandle(DIAL_BACK)
        await self._tasks.close()

    @property
    def can_ask(self) -> bool:
        """Whether there is a link to a peer that answers such requests."""
        return any(_answers(link) for links in self._host.links.values() for link in links)

    async def check(self) -> tuple[AddressReachability, ...]:
        """Ask about our own addresses, those that are public."""
        found = [await self._check_one(address) for address in self._own_addresses()]
        self.found, self.found_at = tuple(found), self._host.loop.time()
        return self.found

    def _own_addresses(self) -> list[Multiaddr]:
        own = [address for address in self._host.own_candidates if is_plain_tcp(address)]
        return [address for address in own if self._public(address)][:MAX_ADDRESSES]

    async def _check_one(self, address: Multiaddr) -> AddressReachability:
        links = self._links_to_ask()
        answers = await asyncio.gather(*(self._ask(link, address) for link in links))
        return AddressReachability(
            str(address),
            verdict(answers),
            confirmed=answers.count(Answer.YES),
            denied=answers.count(Answer.NO),
            asked=len(answers),
            confirmed_by=_who(Answer.YES, links, answers),
            denied_by=_who(Answer.NO, links, answers),
        )

    def _links_to_ask(self) -> list[Link]:
        """A link each to some of those peers that answer such requests."""
        able = [
            next(link for link in links if _answers(link))
            for links in self._host.links.values()
            if any(_answers(link) for link in links)
        ]
        return self._rng.sample(able, min(len(able), MAX_PEERS))

    async def _ask(self, link: Link, address: Multiaddr) -> Answer:
        nonce = int.from_bytes(self._randbytes(8), "big")
        before = frozenset(each for links in self._host.links.values() for each in links)
        question = self._questions[nonce] = _Question(before)
        try:
            async with asyncio.timeout(ASK_TIMEOUT):
                response = await _request(link, DialRequest((address,), nonce))
        except (BethrouError, TimeoutError):
            response = DialResponse(Status.E_INTERNAL)
        finally:
            del self._questions[nonce]
        if question.shown:
            return Answer.YES
        failed = DialResponse(Status.OK, 0, DialStatus.E_DIAL_ERROR)
        return Answer.NO if response == failed else Answer.NOTHING

    # -- being dialled back -------------------------------------------------------------------------------------------

    def _dialled_back(self, link: Link, stream: YamuxStream, surplus: bytes) -> None:
        if len(self._tasks) >= MAX_DIAL_BACKS:
            stream.reset(RESOURCE_LIMIT)
            return
        reader = ByteReader(stream, surplus)
        stream.set_protocol(reader)
        self._tasks.start(self._read_dial_back(link, stream, reader), f"dialled back by {link.peer_id.short}")

    async def _read_dial_back(self, link: Link, stream: YamuxStream, reader: ByteReader) -> None:
        try:
            async with asyncio.timeout(DIAL_BACK_TIMEOUT):
                nonce = autonat.decode_dial_back(await reader.read_prefixed(MAX_MESSAGE))
        except (BethrouError, TimeoutError):
            stream.abort()
            return
        question = self._questions.get(nonce)
        if question is None or link.initiator or link.path != DIRECT or link in question.before:
            stream.abort()
            return
        question.shown = True
        stream.write(length_prefixed(DIAL_BACK_RESPONSE))
        stream.close()


def _who(said: Answer, links: Sequence[Link], answers: Sequence[Answer]) -> tuple[str, ...]:
    """The peers that found this out."""
    return tuple(str(link.peer_id) for link, answer in zip(links, answers, strict=True) if answer is said)


def _answers(link: Link) -> bool:
    return link.path == DIRECT and link.statement is not None and DIAL_REQUEST in link.statement.protocols


async def _request(link: Link, request: DialRequest) -> DialResponse:
    """The conversation with one peer about one address. Raises what streams and decoders raise."""
    negotiation = propose(await link.open_stream(), [DIAL_REQUEST], length_prefixed(request.encode()))
    answered = False
    try:
        await negotiation.agreed()
        message = autonat.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
        if isinstance(message, DialDataRequest):
            if message.index != 0 or message.size > MAX_DATA:
                raise DecodeError(f"a peer wants {message.size} bytes before it dials")
            _send_data(negotiation.stream, message.size)
            message = autonat.decode(await negotiation.reader.read_prefixed(MAX_MESSAGE))
        if not isinstance(message, DialResponse):
            raise DecodeError("a peer answered a dial request with something else")
        negotiation.stream.close()
        answered = True
        return message
    finally:
        if not answered:
            negotiation.stream.abort()


def _send_data(stream: YamuxStream, size: int) -> None:
    # Full pieces, the last one too: none may be too small.
    chunk = length_prefixed(DialDataResponse(bytes(MAX_DATA_CHUNK)).encode())
    for _ in range(-(-size // MAX_DATA_CHUNK)):
        stream.write(chunk)
