"""What a running program says of itself, as text and tables for people: 80 columns, no colour beside a terminal."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bethrou.printable import printable
from bethrou.quantities import circuit_limits, counted, delay, duration, size
from bethrou.snapshots import (
    AddressReachability,
    CandidateSnapshot,
    ConnectionSnapshot,
    ExitSnapshot,
    MemberSnapshot,
    RelayingSnapshot,
    RelaySnapshot,
    SourceSnapshot,
    StatusSnapshot,
    WhySnapshot,
)

MAX_ROWS = 200
"""Rows of a table; what is beyond is counted, and --json has it."""

USABLE = frozenset({"healthy", "slow", "suspect"})
"""States of an exit in which it is asked to carry requests."""

_PEER_END = 8  # the end of a peer ID tells peers apart; the beginning is the same for all
_PEER_ID = re.compile(r"\b(?:12D3KooW|Qm)[1-9A-HJ-NP-Za-km-z]{44}\b")
_STYLES = {
    "healthy": "green",
    "slow": "yellow",
    "suspect": "yellow",
    "draining": "yellow",
    "connecting": "yellow",
    "down": "red",
}


def short_peer(peer: str, names: Mapping[str, str]) -> str:
    """How a peer is shown: its name if it has one, else the end of its peer ID."""
    return names.get(peer) or peer[-_PEER_END:]


def names_of(status: StatusSnapshot) -> dict[str, str]:
    """The names of the exits, by peer ID."""
    return {exit_.id: exit_.name for exit_ in status.exits if exit_.name}


def summary(status: StatusSnapshot) -> str:
    """Whether it serves, in one line without a full stop."""
    if status.draining:
        return (
            f"{status.role} draining: {counted(status.connections, 'connection')} left, nothing new is taken"
        )
    if status.role == "node":
        members = len({member.id for member in status.members})
        return f"node serving: {counted(members, 'member')}, {counted(status.connections, 'request')}"
    usable = sum(exit_.state in USABLE for exit_ in status.exits)
    of_them = f"{usable} of {counted(len(status.exits), 'exit')} can be used"
    if not usable:
        return f"client without an exit: {of_them}"
    return f"client serving: {of_them}, {counted(status.connections, 'connection')}"


def serves(status: StatusSnapshot) -> bool:
    """Whether a new request would be carried."""
    if status.draining:
        return False
    return status.role == "node" or any(exit_.state in USABLE for exit_ in status.exits)


class Screen:
    """Where tables are printed."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=False)

    def line(self, text: str = "", style: str = "") -> None:
        """One line, wrapped where the terminal ends; safe for it whoever wrote it."""
        self._console.print(Text(printable(text), style=style))

    def show_status(self, status: StatusSnapshot) -> None:
        """All of `bethrou status`."""
        self.line(f"{summary(status)}", "bold")
        self.line(status.id)
        self.line(f"network {status.network}, up {duration(status.uptime)}, version {status.version}")
        if status.listening:
            strategy = f", strategy {status.strategy}" if status.strategy else ""
            self.line(f"listening on {', '.join(status.listening)}{strategy}")
        if status.relaying is not None:
            self.line(_relaying(status.relaying))
        if status.role == "client":
            self._show_exits(status)
        else:
            self._show_members(status)
        if status.relays:
            self.line()
            self._show_relays(status.relays)
        if status.reachability:
            self.line()
            self._show_reachability(status.reachability, status.checked or 0.0)
        if status.sources:
            self.line()
            self._show_sources(status.sources)

    def show_connections(self, connections: Sequence[ConnectionSnapshot], status: StatusSnapshot) -> None:
        """All of `bethrou connections`, the busiest first."""
        if not connections:
            self.line(_no_connections(status))
            return
        names = names_of(status)
        users = any(connection.user for connection in connections)
        peer = "EXIT" if status.role == "client" else "MEMBER"
        table = new_table(
            "ID", "DESTINATION", peer, *(["USER"] if users else []), ">SENT", ">RECEIVED", ">OPEN", ">IDLE"
        )
        for connection in sorted(connections, key=lambda each: each.idle)[:MAX_ROWS]:
            table.add_row(
                cell(connection.id or "-"),
                cell(connection.destination),
                cell(short_peer(connection.peer, names) or "choosing"),
                *([cell(connection.user)] if users else []),
                size(connection.sent),
                size(connection.received),
                duration(connection.seconds, 1),
                duration(connection.idle, 1),
            )
        self._print(table, len(connections))

    def show_why(self, why: WhySnapshot) -> None:
        """All of `bethrou why`."""
        self.line(f"{why.destination}: {_course(why)}", "bold")
        if why.candidates:
            self._show_candidates(why.candidates)
        elif why.action == "exit":
            self.line("No exit is known: put the lines that a node prints into nodes of client.yaml.")
        for note in why.notes:
            self.line(note)

    # -- tables -----------------------------------------------------------------------------------------------------

    def _show_exits(self, status: StatusSnapshot) -> None:
        self.line()
        if not status.exits:
            self.line("No exit is known: put the lines that a node prints into nodes of client.yaml.")
            return
        table = new_table("EXIT", "STATE", ">FOR", ">RTT", ">CONN", "VIA", "NOTE")
        for exit_ in sorted(status.exits, key=exit_order)[:MAX_ROWS]:
            table.add_row(
                cell(short_peer(exit_.id, {exit_.id: exit_.name})),
                styled_state(exit_.state),
                duration(exit_.since, 1),
                delay(exit_.round_trip),
                str(exit_.streams) if exit_.path else "",
                cell(way(exit_)),
                cell(exit_.reason or exit_note(exit_)),
            )
        self._print(table, len(status.exits))

    def _show_members(self, status: StatusSnapshot) -> None:
        self.line()
        if not status.members:
            self.line("No member is connected. A client finds this node with, in its client.yaml:")
            self.line("nodes:")
            self.line(f"  - id: {status.id}")
            self.line("    addrs: [an address of this machine, as the node printed it at its start]")
            return
        table = new_table("MEMBER", "ADDRESS", "VIA", ">RTT", ">REQ", ">SENT", ">RECEIVED", ">FOR")
        for member in sorted(status.members, key=member_order)[:MAX_ROWS]:
            table.add_row(
                cell(short_peer(member.id, {})),
                cell(member.address),
                cell(way(member)),
                delay(member.round_trip),
                str(member.streams),
                size(member.sent),
                size(member.received),
                duration(member.seconds, 1),
            )
        self._print(table, len(status.members))

    def _show_relays(self, relays: Sequence[RelaySnapshot]) -> None:
        table = new_table("RELAY", "STATE", ">EXPIRES", "NOTE")
        for relay in relays:
            again = "" if relay.retry_in is None else f"; asked again in {duration(relay.retry_in)}"
            note = relay.reason or ("" if relay.reserved else "nothing heard of it yet")
            limits = f"a circuit: {circuit_limits(relay.duration, relay.data)}"
            table.add_row(
                cell(short_peer(relay.id, {})),
                Text("reserved", "green") if relay.reserved else Text("waiting", "yellow"),
                "" if relay.expires_in is None else f"in {duration(relay.expires_in, 1)}",
                cell(limits if relay.reserved else f"{note}{again}"),
            )
        self._print(table, len(relays))

    def _show_reachability(self, found: Sequence[AddressReachability], since: float) -> None:
        table = new_table("ADDRESS", "FROM OUTSIDE", ">YES", ">NO", ">ASKED", ">AGO")
        for each in found:
            style = {"reachable": "green", "unreachable": "red"}.get(each.verdict, "yellow")
            table.add_row(
                cell(each.address),
                Text(printable(each.verdict), style),
                str(each.confirmed),
                str(each.denied),
                str(each.asked),
                duration(since, 1),
            )
        self._print(table, len(found))

    def _show_sources(self, sources: Sequence[SourceSnapshot]) -> None:
        table = new_table("SOURCE", "STATE", ">EXITS", ">HEARD", ">SKIPPED", ">SILENT", "NOTE")
        for source in sources:
            table.add_row(
                cell(source.name),
                Text("ok", "green") if source.ok else Text("failing", "red"),
                str(source.known),
                str(source.heard),
                str(source.skipped),
                "" if source.silent_for is None else duration(source.silent_for, 1),
                cell(source.detail),
            )
        self._print(table, len(sources))

    def _show_candidates(self, candidates: Sequence[CandidateSnapshot]) -> None:
        table = new_table(">TURN", "EXIT", "STATE", ">RTT", "WHY")
        ordered = sorted(candidates, key=lambda each: (each.place is None, each.place or 0))
        for candidate in ordered[:MAX_ROWS]:
            table.add_row(
                "-" if candidate.place is None else str(candidate.place),
                cell(short_peer(candidate.id, {candidate.id: candidate.name})),
                styled_state(candidate.state),
                delay(candidate.round_trip),
                cell(candidate.reason),
            )
        self._print(table, len(candidates))

    def _print(self, table: Table, total: int) -> None:
        with self._console.capture() as captured:
            self._console.print(table)
        for line in captured.get().splitlines():
            print(line.rstrip())
        if total > MAX_ROWS:
            self.line(f"and {total - MAX_ROWS} more; --json has them all")


def new_table(*columns: str) -> Table:
    """An empty table. A column with > in front of its name is one of numbers."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        if column.startswith(">"):
            table.add_column(column[1:], justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold")
    return table


def cell(text: str) -> Text:
    return Text(_PEER_ID.sub(lambda match: f"..{match[0][-_PEER_END:]}", printable(text)))


def styled_state(state: str) -> Text:
    return Text(printable(state), _STYLES.get(state, ""))


def exit_order(exit_: ExitSnapshot) -> tuple[bool, bool, float]:
    """Those in use first, the nearest of them first; those that are not kept connected last."""
    return exit_.state == "known", exit_.state not in USABLE, exit_.round_trip or 0.0


def member_order(member: MemberSnapshot) -> tuple[int, float]:
    return -member.streams, member.seconds


def way(link: ExitSnapshot | MemberSnapshot) -> str:
    """How a link leads there, and what encrypts it.

    Of a member only what is unusual is said, a circuit or TLS: its table fills 80 columns.
    """
    if isinstance(link, ExitSnapshot):
        return f"{link.path} {link.security}".strip()
    unusual = [word for word in (link.path, link.security) if word not in ("direct", "noise")]
    return " ".join(unusual) or link.path


def exit_note(exit_: ExitSnapshot) -> str:
    """What is worth knowing of an exit that is well."""
    load = "" if exit_.load is None else f"load {exit_.load.cpu:.0%}"
    return ", ".join(part for part in (*exit_.tags, load) if part)


def _relaying(relaying: RelayingSnapshot) -> str:
    """What a relay does, and may do."""
    rates = [
        f"{size(rate)}/s {of}"
        for rate, of in ((relaying.rate, "in all"), (relaying.circuit_rate, "each"))
        if rate
    ]
    limits = ", ".join([circuit_limits(relaying.duration, relaying.data), *rates])
    return (
        f"relaying {relaying.circuits} of {counted(relaying.max_circuits, 'circuit')} ({limits}) for "
        f"{relaying.reservations} of {counted(relaying.max_reservations, 'node')}, {size(relaying.relayed)} so far"
    )


def _no_connections(status: StatusSnapshot) -> str:
    if status.role == "node":
        return "No request is being carried."
    if not status.listening:
        return "No connections, and no new ones are taken: it is draining."
    return f"No connections. Try: curl -x socks5h://{status.listening[0]} https://example.com/"


def _course(why: WhySnapshot) -> str:
    """Where a request goes, and because of what."""
    because = f" (rule: {why.rule})" if why.rule else ""
    if why.action == "block":
        return f"blocked{because}"
    if why.action == "direct":
        return f"leaves from this machine, through no exit{because}"
    return f"through an exit, strategy {why.strategy}{because}"
