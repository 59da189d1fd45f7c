"""Which exits announcements tell of: what is believed of each message, and until when.

- A presence or goodbye was made by a member (its MAC says so), and the record in it by the exit itself. They are
  numbered: one whose number is not above the last one's is an old message, sent again by somebody.
- An answer proves nothing. The record in one of ours is the exit's own; what a Go program answers is somebody's
  claim, and never changes what a record says.

A presence holds for its ttl. An answer names no time, and holds for `ANSWER_TTL` seconds, three times as long as it
takes until somebody who depends on answers asks again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bethrou.discovery.directory import dialable
from bethrou.discovery.source import Listener, Sighting
from bethrou.errors import DecodeError
from bethrou.wire.announcement import Answer, Gone, Presence
from bethrou.wire.node_record import NodeRecord, RecordCache
from bethrou.wire.peer_id import PeerId

SOURCE = "redis"

ASK_AGAIN = 60.0
"""Seconds after which a client asks again while exits are known only because they answered."""

ANSWER_TTL = 3 * ASK_AGAIN
"""Seconds that an answer holds: two may get lost."""

MAX_TTL = 3600.0
"""Longest time in seconds for which a presence is believed; an exit that crashed is forgotten by then."""

MAX_KNOWN = 4096
"""Exits that are remembered; the wire's `RecordCache` has room for two records of each."""

MAX_UNPROVED = 1024
"""Of these, exits that nobody proved: whoever can publish can make them up."""

_SWEEP = 5.0  # seconds between two searches for what has expired

Told = Presence | Gone | Answer


@dataclass(slots=True)
class _Exit:
    """What is known of one exit. After a goodbye it is kept until it would have expired, for its numbers."""

    seq: int
    """Of the last message; 0 when there was none but answers."""
    record: NodeRecord | None
    expires: float
    told: bool
    """By a presence, not only in an answer."""
    left: bool = False


class AnnouncedExits:
    """Tells `listener` of exits other than `me`.

    `now` is Unix time in seconds. `from_loopback`: they speak on this machine, so that its own addresses may be meant.
    """

    def __init__(
        self,
        listener: Listener,
        me: PeerId | None,
        now: Callable[[], float],
        from_loopback: bool,
        records: RecordCache,
    ) -> None:
        self._listener = listener
        self._me = me
        self._now = now
        self._from_loopback = from_loopback
        self._records = records
        self._exits: dict[PeerId, _Exit] = {}
        self._unproved = 0
        self._next_sweep = 0.0

    @property
    def known(self) -> int:
        """Exits that are there now, as far as is known."""
        self._sweep()
        return sum(not exit_.left for exit_ in self._exits.values())

    @property
    def unproved(self) -> int:
        """Of these, exits that are only claimed to be there: those of Go programs."""
        self._sweep()
        return self._unproved

    def is_costly(self, message: Told) -> bool:
        """Whether `take` would have to verify a signature."""
        return message.record is not None and message.record not in self._records

    def take(self, message: Told) -> bool:
        """Believe what can be believed; False for what we said ourselves. Raises DecodeError when it is nothing."""
        if message.peer == self._me:
            return False
        now = self._now()
        if now >= self._next_sweep:
            self._sweep()
        known = self._exits.get(message.peer)
        if known is not None and known.expires <= now:
            known = None
        if isinstance(message, Presence):
            self._present(message, known, now)
        elif isinstance(message, Gone):
            self._leaves(message, known)
        elif message.record is not None:
            self._answers(message, message.record, known, now)
        else:
            self._claimed(message, known, now)
        return True

    # -- one kind of message each -----------------------------------------------------------------------------------

    def _present(self, message: Presence, known: _Exit | None, now: float) -> None:
        record = self._newest(message, message.record, known)
        expires = min(now + min(message.ttl, MAX_TTL), record.expires)
        self._remember(message.peer, _Exit(message.seq, record, expires, told=True), message.record, now)

    def _leaves(self, message: Gone, known: _Exit | None) -> None:
        if known is None:
            return
        self._newest(message, message.record, known)
        known.seq = message.seq
        if not known.left:
            known.left = True
            self._listener.gone(SOURCE, message.peer)

    def _answers(self, message: Answer, envelope: bytes, known: _Exit | None, now: float) -> None:
        record = self._records.open(envelope, message.peer)
        seq = 0
        if known is not None and known.record is not None:
            if record.seq < known.record.seq or (known.left and record.seq == known.record.seq):
                raise DecodeError("answer has a record older than what is known")
            if known.told and record.seq == known.record.seq:
                return  # the presence says until when
            seq = known.seq
        expires = min(now + ANSWER_TTL, record.expires)
        self._remember(message.peer, _Exit(seq, record, expires, told=False), envelope, now)

    def _claimed(self, message: Answer, known: _Exit | None, now: float) -> None:
        if known is not None and known.record is not None:
            return
        if known is None and self._unproved >= MAX_UNPROVED:
            raise DecodeError(f"there are {MAX_UNPROVED} exits already that nobody proved")
        exit_ = _Exit(0, None, now + ANSWER_TTL, told=False)
        self._keep(message.peer, exit_)
        addresses = dialable(message.addrs, self._from_loopback)
        self._listener.seen(Sighting(SOURCE, message.peer, addresses, expires=exit_.expires))

    # -- what they have in common -----------------------------------------------------------------------------------

    def _newest(self, message: Presence | Gone, envelope: bytes, known: _Exit | None) -> NodeRecord:
        """The record of a member's message, which has to be newer than all before."""
        if known is not None and message.seq <= known.seq:
            raise DecodeError("announcement is not newer than the last one")
        record = self._records.open(envelope, message.peer)
        if known is not None and known.record is not None and record.seq < known.record.seq:
            raise DecodeError("announcement has a record older than what is known")
        return record

    def _remember(self, peer: PeerId, exit_: _Exit, envelope: bytes, now: float) -> None:
        record = exit_.record
        assert record is not None
        if exit_.expires <= now:
            raise DecodeError("announcement or its record has expired")
        self._keep(peer, exit_)
        self._listener.seen(
            Sighting(
                SOURCE,
                peer,
                dialable(record.addrs, self._from_loopback),
                name=record.name,
                tags=record.tags,
                roles=record.roles,
                agent=record.agent,
                seq=record.seq,
                expires=exit_.expires,
                record=envelope,
            )
        )

    def _keep(self, peer: PeerId, exit_: _Exit) -> None:
        former = self._exits.get(peer)
        if former is None and len(self._exits) >= MAX_KNOWN:
            raise DecodeError(f"there are {MAX_KNOWN} exits already")
        self._exits[peer] = exit_
        self._unproved += _is_claim(exit_) - _is_claim(former)

    def _sweep(self) -> None:
        now = self._now()
        self._next_sweep = now + _SWEEP
        for peer in [peer for peer, exit_ in self._exits.items() if exit_.expires <= now]:
            self._unproved -= _is_claim(self._exits.pop(peer))


def _is_claim(exit_: _Exit | None) -> bool:
    return exit_ is not None and exit_.record is None
