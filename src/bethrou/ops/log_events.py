"""Events as log lines: what happened, said once, with what it takes to act on it.

One line a request at info, on both sides with the same id. What repeats (an exit that stays away, strangers at an open
port, a shortage of descriptors) is said once and then rarely; every occurrence is there at debug.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bethrou.events import (
    CircuitEnded,
    DescriptorsShort,
    DialFailed,
    Event,
    ExitChanged,
    HolePunched,
    HolePunchFailed,
    InviteRefused,
    InviteUsedTwice,
    LinkClosed,
    LinkOpened,
    MemberCutOff,
    MemberJoined,
    MemberListTaken,
    MemberListUnwritten,
    ReachabilityChanged,
    RelayLost,
    RelayReserved,
    RequestEnded,
    SourceChanged,
    StrangerRefused,
    TurnedAway,
)
from bethrou.ops.logs import Logger

REPEAT_AFTER = 60.0
"""Seconds after which something that is still so is said again."""

NEWS_AFTER = 10.0
"""Seconds after which it is said again when the reason is another one."""

MAX_AWAY = 10_000
"""Peers that are away and of whom it is known what was said; then the one first spoken of is forgotten."""

HOLE_NEWS_AFTER = 3600.0
"""Seconds after which it is said again that no hole can be punched to a peer: whoever cannot now seldom can later."""

STRANGERS_AT_ONCE = 20
"""Lines about strangers that may come at a time; they come back at one in `STRANGER_INTERVAL` seconds."""

STRANGER_INTERVAL = 3.0

_CHANGES = {
    "slow": "exit is slow; others are asked first",
    "suspect": "exit failed a request; others are asked first",
    "draining": "exit takes no new requests",
}
_SHOWN = 300  # characters of a reason
_PEER_END = 8  # the end of a peer ID tells peers apart; the beginning is the same for all
_QUOTED = re.compile(r"(['\"]).*\1", re.DOTALL)
_REASONS_WITHOUT_DESTINATION = frozenset({"aborted", "no-exit"})


@dataclass(frozen=True)
class Words:
    """What the other side of a link is called on this side."""

    peer: str
    up: str
    down: str


CLIENT_WORDS = Words("exit", "exit up", "exit down")
NODE_WORDS = Words("member", "member connected", "member gone")


class EventLog:
    """Call it with an event to have it logged. `clock` gives seconds."""

    def __init__(
        self, log: Logger, words: Words, clock: Callable[[], float], hide_destinations: bool = False
    ) -> None:
        self._log = log
        self._words = words
        self._clock = clock
        self._hide = hide_destinations
        self._away: dict[str, _Said] = {}
        self._short: dict[str, _Said] = {}
        self._unpunched: dict[str, float] = {}
        """When it was last said of a peer that no hole leads to it; at most `MAX_AWAY` of them."""
        self._strangers: dict[str, _Allowance] = {}
        self._writers: dict[type[Event], Callable[[Any], None]] = {
            RequestEnded: self._request_ended,
            LinkOpened: self._link_opened,
            LinkClosed: self._link_closed,
            DialFailed: self._dial_failed,
            ExitChanged: self._exit_changed,
            SourceChanged: self._source_changed,
            StrangerRefused: self._stranger_refused,
            DescriptorsShort: self._descriptors_short,
            RelayReserved: self._relay_reserved,
            RelayLost: self._relay_lost,
            ReachabilityChanged: self._reachability_changed,
            CircuitEnded: self._circuit_ended,
            HolePunched: self._hole_punched,
            HolePunchFailed: self._hole_punch_failed,
            MemberListTaken: self._member_list_taken,
            MemberListUnwritten: self._member_list_unwritten,
            MemberJoined: self._member_joined,
            InviteRefused: self._invite_refused,
            InviteUsedTwice: self._invite_used_twice,
            MemberCutOff: self._member_cut_off,
            TurnedAway: self._turned_away,
        }

    def __call__(self, event: Event) -> None:
        """Log `event`."""
        self._writers[type(event)](event)

    def _request_ended(self, event: RequestEnded) -> None:
        fields: dict[str, Any] = {"result": event.result}
        if event.peer:
            fields[self._words.peer] = event.peer[-_PEER_END:]
        if not self._hide:
            fields["destination"] = _cut(event.destination)
        fields["sent"] = event.sent
        fields["received"] = event.received
        fields["seconds"] = round(event.seconds, 3)
        if event.id:
            fields["id"] = event.id
        if event.user:
            fields["user"] = _cut(event.user)
        if event.reason and not (self._hide and event.result not in _REASONS_WITHOUT_DESTINATION):
            fields["reason"] = _cut(event.reason)
        self._log.info("request", **fields)

    def _link_opened(self, event: LinkOpened) -> None:
        self._away.pop(event.peer, None)
        peer = {self._words.peer: event.peer[-_PEER_END:]}
        self._log.info(self._words.up, **peer, address=event.address, path=event.path)

    def _link_closed(self, event: LinkClosed) -> None:
        peer = {self._words.peer: event.peer[-_PEER_END:]}
        reason = _cut(event.reason)
        self._log.info(self._words.down, **peer, address=event.address, reason=reason)

    def _dial_failed(self, event: DialFailed) -> None:
        said, now = self._away.get(event.peer), self._clock()
        news = said is None or said.is_news(event.reason, now)
        if news:
            self._away[event.peer] = _Said(event.reason, now)
            if len(self._away) > MAX_AWAY:
                del self._away[next(iter(self._away))]
        write = self._log.warning if news and event.preferred else self._log.debug
        write(
            "exit cannot be reached" if said is None else "exit still cannot be reached",
            exit=event.peer[-_PEER_END:],
            reason=_cut(event.reason),
            next_attempt=f"{event.retry_in:.1f} s",
        )

    def _exit_changed(self, event: ExitChanged) -> None:
        words = _CHANGES.get(event.new)
        if event.new == "healthy" and event.old in _CHANGES:
            words = "exit serves again" if event.old == "draining" else "exit is well again"
        if words is None:
            return  # that a link came or went has a line of its own
        fields: dict[str, Any] = {"exit": event.peer[-_PEER_END:]}
        if event.name:
            fields["name"] = event.name
        if event.new != "draining" and not (self._hide and event.new == "suspect"):
            fields["reason"] = _cut(event.reason)
        write = self._log.warning if event.new == "suspect" else self._log.info
        write(words, **fields)

    def _source_changed(self, event: SourceChanged) -> None:
        if event.ok:
            self._log.info("source of exits is well again", source=event.source)
        else:
            self._log.warning("source of exits is ill", source=event.source, reason=_cut(event.detail))

    def _stranger_refused(self, event: StrangerRefused) -> None:
        reason = _QUOTED.sub("...", event.reason) if self._hide else event.reason
        text = "stranger refused" if event.service == "link" else "application refused"
        self._tell_rarely(event.service, text, address=event.address, reason=_cut(reason))

    def _descriptors_short(self, event: DescriptorsShort) -> None:
        said, now = self._short.get(event.service), self._clock()
        if event.short:
            loud = said is None or now - said.at >= REPEAT_AFTER
            self._short[event.service] = _Said("short", now) if loud or said is None else said.quietly()
            write = self._log.error if loud else self._log.debug
            write(
                "out of file descriptors: new connections wait, open ones go on; raise `ulimit -n`",
                listener=event.service,
            )
        else:
            write = self._log.info if said is not None and said.loud else self._log.debug
            write("file descriptors are there again: new connections are accepted", listener=event.service)

    def _relay_reserved(self, event: RelayReserved) -> None:
        self._away.pop(event.relay, None)
        self._log.info(
            "reachable through relay", relay=event.relay[-_PEER_END:], addresses=", ".join(event.addresses)
        )

    def _relay_lost(self, event: RelayLost) -> None:
        said, now = self._away.get(event.relay), self._clock()
        news = said is None or said.is_news(event.reason, now)
        if news:
            self._away[event.relay] = _Said(event.reason, now)
        write = self._log.warning if news else self._log.debug
        write(
            "not reachable through relay" if said is None else "still not reachable through relay",
            relay=event.relay[-_PEER_END:],
            reason=_cut(event.reason),
            next_attempt=f"{event.retry_in:.1f} s",
        )

    def _reachability_changed(self, event: ReachabilityChanged) -> None:
        if event.reachable:
            self._log.info("reachable from outside: no relay is chosen", found=_cut(event.detail))
        else:
            self._log.warning(
                "not reachable from outside: relays are chosen", found=_cut(event.detail), known=event.relays
            )

    def _circuit_ended(self, event: CircuitEnded) -> None:
        fields: dict[str, Any] = {"reason": _cut(event.reason)} if event.reason else {}
        self._log.info(
            "circuit",
            source=event.source[-_PEER_END:],
            target=event.target[-_PEER_END:],
            sent=event.sent,
            received=event.received,
            seconds=round(event.seconds, 3),
            **fields,
        )

    def _hole_punched(self, event: HolePunched) -> None:
        self._unpunched.pop(event.peer, None)
        self._log.info(
            "direct way found",
            **{self._words.peer: event.peer[-_PEER_END:]},
            address=event.address,
            rounds=event.rounds,
            seconds=round(event.seconds, 3),
        )

    def _hole_punch_failed(self, event: HolePunchFailed) -> None:
        said, now = self._unpunched.get(event.peer), self._clock()
        # where nothing was tried there is nothing new: a network without public addresses is as good
        news = event.rounds > 0 and (said is None or now - said >= HOLE_NEWS_AFTER)
        if news:
            self._unpunched.pop(event.peer, None)
            self._unpunched[event.peer] = now
            if len(self._unpunched) > MAX_AWAY:
                del self._unpunched[next(iter(self._unpunched))]
        write = self._log.info if news else self._log.debug
        write(
            "no direct way, the relay goes on serving",
            **{self._words.peer: event.peer[-_PEER_END:]},
            rounds=event.rounds,
            reason=_cut(event.reason),
            seconds=round(event.seconds, 3),
        )

    def _member_list_taken(self, event: MemberListTaken) -> None:
        fields = {"added": _cut(", ".join(event.added)), "gone": _cut(", ".join(event.gone))}
        fields = {name: text for name, text in fields.items() if text}
        self._log.info("member list", serial=event.serial, members=event.members, **fields)

    def _member_list_unwritten(self, event: MemberListUnwritten) -> None:
        self._log.error("member list cannot be written", file=event.file, reason=_cut(event.reason))

    def _member_joined(self, event: MemberJoined) -> None:
        self._log.info("member joined", member=event.peer, name=event.name, role=event.role)

    def _invite_refused(self, event: InviteRefused) -> None:
        self._tell_rarely("invite", "invite refused", member=event.peer, reason=_cut(event.reason))

    def _invite_used_twice(self, event: InviteUsedTwice) -> None:
        self._log.error(
            "one invite has let two devices in: the later one is out; somebody else has had the link",
            member=event.peer,
            name=event.name,
        )

    def _member_cut_off(self, event: MemberCutOff) -> None:
        self._tell_rarely("member", "not a member: link closed", member=event.peer, reason=_cut(event.reason))

    def _turned_away(self, event: TurnedAway) -> None:
        what = "this device was removed from the network" if event.standing == "removed" else "not a member"
        self._tell_rarely(
            "turned away",
            f"{what}: ask its operator for an invite",
            **{self._words.peer: event.peer[-_PEER_END:]},
        )

    def _tell_rarely(self, kind: str, text: str, **fields: Any) -> None:
        """Warn of what others can make happen as often as they like."""
        allowance = self._strangers.setdefault(kind, _Allowance(self._clock()))
        allowed = allowance.take(self._clock())
        if allowed and allowance.untold:
            fields["untold"] = allowance.untold
            allowance.untold = 0
        (self._log.warning if allowed else self._log.debug)(text, **fields)


def _cut(text: str) -> str:
    """Bound a text that somebody else wrote; the log itself escapes it."""
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


@dataclass(frozen=True)
class _Said:
    """What was said last, and when. `loud`: the last time it happened, it was said."""

    reason: str
    at: float
    loud: bool = True

    def is_news(self, reason: str, now: float) -> bool:
        return now - self.at >= (REPEAT_AFTER if reason == self.reason else NEWS_AFTER)

    def quietly(self) -> _Said:
        return _Said(self.reason, self.at, loud=False)


class _Allowance:
    """How many lines of a kind may still be written: some at once, then few."""

    def __init__(self, now: float) -> None:
        self.untold = 0
        """Lines that were not written."""
        self._left = float(STRANGERS_AT_ONCE)
        self._counted_at = now

    def take(self, now: float) -> bool:
        """Whether one more may be written."""
        gained = (now - self._counted_at) / STRANGER_INTERVAL
        self._left = min(float(STRANGERS_AT_ONCE), self._left + gained)
        self._counted_at = now
        if self._left < 1:
            self.untold += 1
            return False
        self._left -= 1
        return True
