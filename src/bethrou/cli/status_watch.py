"""`bethrou status --watch`: how a program does, live, with what goes through it at this moment."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_tables import (
    cell,
    exit_note,
    exit_order,
    member_order,
    new_table,
    short_peer,
    styled_state,
    summary,
    way,
)
from bethrou.errors import ControlError
from bethrou.printable import printable
from bethrou.quantities import delay, duration, size
from bethrou.snapshots import ConnectionSnapshot, ExitSnapshot, MemberSnapshot, StatusSnapshot

INTERVAL = 1.0
"""Seconds between two looks."""

MAX_EXITS, MAX_CONNECTIONS = 20, 10
"""Rows: what is busiest, on a screen of usual height."""


_Counted = ExitSnapshot | MemberSnapshot | ConnectionSnapshot


class Counters(NamedTuple):
    """Bytes by link or connection, both directions, and when they were read."""

    at: float
    sent: Mapping[str, int]
    received: Mapping[str, int]


class Rates(NamedTuple):
    """Bytes a second between two looks, by link or connection."""

    sent: Mapping[str, float]
    received: Mapping[str, float]


def rates(before: Counters | None, now: Counters) -> Rates:
    """What has gone through since `before`. A counter that began anew counts from nothing."""
    if before is None or now.at <= before.at:
        return Rates({}, {})
    seconds = now.at - before.at

    def of(then: Mapping[str, int], later: Mapping[str, int]) -> dict[str, float]:
        return {
            key: (count - (start if count >= (start := then.get(key, 0)) else 0)) / seconds
            for key, count in later.items()
            if key in then or count
        }

    return Rates(of(before.sent, now.sent), of(before.received, now.received))


def counters(status: StatusSnapshot, connections: Sequence[ConnectionSnapshot], at: float) -> Counters:
    """The counters of all links and connections."""
    sent: Counter[str] = Counter()
    received: Counter[str] = Counter()
    counted: Sequence[_Counted] = [*_links(status), *connections]
    for each in counted:  # a member may have several links
        sent[each.id] += each.sent
        received[each.id] += each.received
    return Counters(at, sent, received)


def watch(running: ControlClient, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
    """Show how `running` does until the user has seen enough (KeyboardInterrupt)."""
    before: Counters | None = None
    with Live(auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            try:
                status, connections = running.status(), running.connections()
            except ControlError as error:  # it may be back soon
                before = None
                live.update(Text(f"{printable(str(error))}; waiting for it", "red"), refresh=True)
            else:
                now = counters(status, connections, clock())
                live.update(picture(status, connections, rates(before, now)), refresh=True)
                before = now
            sleep(INTERVAL)


def picture(status: StatusSnapshot, connections: Sequence[ConnectionSnapshot], now: Rates) -> RenderableType:
    """All that is shown at one moment."""
    links = {each.id for each in _links(status)}
    up = sum(now.sent.get(link, 0.0) for link in links)
    down = sum(now.received.get(link, 0.0) for link in links)
    head = Text(printable(summary(status)), "bold")
    total = Text(
        f"sending {_rate(up) or '0 B/s'}, receiving {_rate(down) or '0 B/s'}, up {duration(status.uptime)}"
    )
    parts: list[RenderableType] = [head, total, Text()]
    parts.append(_exits(status, now) if status.role == "client" else _members(status, now))
    if connections:
        parts += [Text(), _connections(status, connections, now)]
    return Group(*parts)


def _links(status: StatusSnapshot) -> Sequence[ExitSnapshot | MemberSnapshot]:
    return status.exits if status.role == "client" else status.members


def _exits(status: StatusSnapshot, now: Rates) -> Table:
    table = new_table("EXIT", "STATE", ">RTT", "VIA", ">CONN", ">SENDING", ">RECEIVING", "NOTE")
    for exit_ in sorted(status.exits, key=exit_order)[:MAX_EXITS]:
        table.add_row(
            cell(short_peer(exit_.id, {exit_.id: exit_.name})),
            styled_state(exit_.state),
            delay(exit_.round_trip),
            cell(way(exit_)),
            str(exit_.streams) if exit_.path else "",
            _rate(now.sent.get(exit_.id)),
            _rate(now.received.get(exit_.id)),
            cell(exit_.reason or exit_note(exit_)),
        )
    return table


def _members(status: StatusSnapshot, now: Rates) -> Table:
    table = new_table("MEMBER", "ADDRESS", "VIA", ">RTT", ">REQ", ">SENDING", ">RECEIVING")
    for member in sorted(status.members, key=member_order)[:MAX_EXITS]:
        table.add_row(
            cell(short_peer(member.id, {})),
            cell(member.address),
            cell(way(member)),
            delay(member.round_trip),
            str(member.streams),
            _rate(now.sent.get(member.id)),
            _rate(now.received.get(member.id)),
        )
    return table


def _connections(status: StatusSnapshot, connections: Sequence[ConnectionSnapshot], now: Rates) -> Table:
    names = {exit_.id: exit_.name for exit_ in status.exits if exit_.name}
    peer = "EXIT" if status.role == "client" else "MEMBER"
    table = new_table("DESTINATION", peer, ">SENDING", ">RECEIVING", ">OPEN", ">IDLE")

    def business(each: ConnectionSnapshot) -> tuple[float, float]:
        return -now.sent.get(each.id, 0.0) - now.received.get(each.id, 0.0), each.idle

    for each in sorted(connections, key=business)[:MAX_CONNECTIONS]:
        table.add_row(
            cell(each.destination),
            cell(short_peer(each.peer, names) or "choosing"),
            _rate(now.sent.get(each.id)),
            _rate(now.received.get(each.id)),
            duration(each.seconds, 1),
            duration(each.idle, 1),
        )
    return table


def _rate(bytes_a_second: float | None) -> str:
    return f"{size(round(bytes_a_second))}/s" if bytes_a_second else ""
