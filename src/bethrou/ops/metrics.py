"""What a client or node counts, in Prometheus' format. Loaded only where metrics are asked for.

Counters and histograms come from events, as they happen; everything that has a value at a moment is read from the
status when somebody scrapes. No label names a destination, a user or a member. Exits are labelled by their names (or
the ends of their peer IDs), the first `MAX_EXITS` of them: whatever the network does, the series stay few.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from bethrou.events import (
    CircuitEnded,
    DialFailed,
    Event,
    ExitChanged,
    HolePunched,
    HolePunchFailed,
    LinkClosed,
    LinkOpened,
    RequestEnded,
    StrangerRefused,
)
from bethrou.snapshots import ExitSnapshot, MemberSnapshot, StatusSnapshot

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

MAX_EXITS = 64
"""Exits that have series of their own; the rest is one called `other`."""

OTHER, DIRECT, NOBODY = "other", "direct", ""
OPENED, FAILED = "opened", "failed"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histograms' buckets."""

_PEER_END = 8


class ProgramMetrics:
    """The metrics of one program. `status` is asked at each scrape; `note` is to be given every event."""

    def __init__(self, status: Callable[[], StatusSnapshot]) -> None:
        self._status = status
        self._role = status().role
        self._labels: dict[str, str] = {}
        """Label of each exit that has one, by peer ID."""
        self._closed_sent: Tally[str] = Tally()
        self._closed_received: Tally[str] = Tally()
        """Bytes of links that are gone, by label."""
        registry = self._registry = CollectorRegistry()
        self._requests = Counter(
            "bethrou_requests", "Requests that are over, by result.", ("result", "exit"), registry=registry
        )
        self._connect = Histogram(
            "bethrou_request_connect_seconds",
            "From a request to its destination's connection.",
            buckets=SECONDS,
            registry=registry,
        )
        self._first_byte = Histogram(
            "bethrou_request_first_byte_seconds",
            "From a request to its destination's first byte.",
            buckets=SECONDS,
            registry=registry,
        )
        self._payload = Counter(
            "bethrou_request_bytes", "Bytes of requests that are over.", ("direction",), registry=registry
        )
        self._opened = Counter("bethrou_links_opened", "Links made.", ("path",), registry=registry)
        self._gone = Counter("bethrou_links_closed", "Links ended.", registry=registry)
        self._dials = Counter("bethrou_dials_failed", "Attempts in vain to reach an exit.", registry=registry)
        self._changes = Counter(
            "bethrou_exit_changes",
            "Changes of an exit's state, by the new one.",
            ("state",),
            registry=registry,
        )
        self._strangers = Counter(
            "bethrou_strangers_refused", "Who was not let in, by door.", ("door",), registry=registry
        )
        self._circuits = Counter(
            "bethrou_circuits_ended", "Circuits relayed, by end.", ("end",), registry=registry
        )
        self._holes = Counter(
            "bethrou_hole_punches",
            "Attempts at a direct link in the place of a circuit, by result.",
            ("result",),
            registry=registry,
        )
        for result in (OPENED, FAILED):
            self._holes.labels(result)  # from the start: a rate needs to see it become 1
        ProcessCollector(registry=registry)
        registry.register(self)

    def note(self, event: Event) -> None:
        """Count `event`."""
        match event:
            case RequestEnded():
                self._note_request(event)
            case LinkOpened():
                self._opened.labels(event.path).inc()
            case LinkClosed():
                label = self._label(event.peer)
                self._closed_sent[label] += event.sent
                self._closed_received[label] += event.received
                self._gone.inc()
            case DialFailed():
                self._dials.inc()
            case ExitChanged():
                self._changes.labels(event.new).inc()
            case StrangerRefused():
                self._strangers.labels(event.service).inc()
            case CircuitEnded():
                self._circuits.labels("limit" if event.reason else "peace").inc()
            case HolePunched():
                self._holes.labels(OPENED).inc()
            case HolePunchFailed():
                self._holes.labels(FAILED).inc()
            case _:
                pass

    def text(self) -> str:
        """All of it, as Prometheus reads it."""
        return generate_latest(self._registry).decode()

    def collect(self) -> Iterator[Metric]:
        """What is so at this moment (prometheus_client's Collector)."""
        status = self._status()
        yield _gauge(
            "bethrou_info", "This program.", (("version", "role"), (status.version, status.role), 1.0)
        )
        yield _gauge("bethrou_uptime_seconds", "Since its start.", ((), (), status.uptime))
        yield _gauge("bethrou_draining", "1: nothing new is taken.", ((), (), float(status.draining)))
        yield _gauge(
            "bethrou_connections", "Requests that are carried now.", ((), (), float(status.connections))
        )
        yield from self._links(status)
        yield from _sources(status)
        yield from _relaying(status)
        if status.role == "client":
            yield from self._exits(status)

    # -- inside -----------------------------------------------------------------------------------------------------

    def _note_request(self, event: RequestEnded) -> None:
        # a node's members are as many as there are starts of clients: no label is made of them
        exit_ = self._label(event.peer) if self._role == "client" else NOBODY
        self._requests.labels(event.result, exit_).inc()
        self._payload.labels("sent").inc(event.sent)
        self._payload.labels("received").inc(event.received)
        if event.connected is not None:
            self._connect.observe(event.connected)
        if event.first_byte is not None:
            self._first_byte.observe(event.first_byte)

    def _label(self, peer: str) -> str:
        """What stands for a peer. An exit keeps its first label, also when it calls itself otherwise later."""
        if self._role != "client" or peer in (NOBODY, DIRECT):
            return peer if self._role == "client" else NOBODY
        label = self._labels.get(peer)
        if label is None:
            if len(self._labels) >= MAX_EXITS:
                return OTHER
            name = next((exit_.name for exit_ in self._status().exits if exit_.id == peer), "")
            taken = (NOBODY, OTHER, DIRECT, *self._labels.values())
            label = self._labels[peer] = name if name not in taken else peer[-_PEER_END:]
        return label

    def _links(self, status: StatusSnapshot) -> Iterable[Metric]:
        links: list[ExitSnapshot | MemberSnapshot] = [each for each in status.exits if each.path]
        links += status.members
        paths = Tally(each.path for each in links)
        count = GaugeMetricFamily("bethrou_links", "Links that are up, by path.", labels=("path",))
        for path in ("direct", "circuit"):
            count.add_metric((path,), paths[path])
        yield count
        sent, received = self._closed_sent.copy(), self._closed_received.copy()
        for each in links:
            sent[self._label(each.id)] += each.sent
            received[self._label(each.id)] += each.received
        family = CounterMetricFamily("bethrou_link_bytes", "Bytes on links.", labels=("direction", "exit"))
        for direction, counted in (("sent", sent), ("received", received)):
            for label, amount in sorted(counted.items()):
                family.add_metric((direction, label), amount)
        yield family

    def _exits(self, status: StatusSnapshot) -> Iterable[Metric]:
        states = Tally(exit_.state for exit_ in status.exits)
        count = GaugeMetricFamily("bethrou_exits", "Exits that are listed, by state.", labels=("state",))
        for state, amount in sorted(states.items()):
            count.add_metric((state,), amount)
        yield count
        yield _gauge("bethrou_exits_known", "Exits that are known.", ((), (), float(status.exits_known)))
        trips = GaugeMetricFamily("bethrou_exit_round_trip_seconds", "To an exit.", labels=("exit",))
        requests = GaugeMetricFamily("bethrou_exit_requests", "Of ours that it carries.", labels=("exit",))
        for exit_ in status.exits:
            if exit_.path and (label := self._label(exit_.id)) != OTHER:
                requests.add_metric((label,), exit_.streams)
                if exit_.round_trip is not None:
                    trips.add_metric((label,), exit_.round_trip)
        yield trips
        yield requests


def _gauge(name: str, text: str, *values: tuple[tuple[str, ...], tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=values[0][0])
    for _, labels, value in values:
        family.add_metric(labels, value)
    return family


def _sources(status: StatusSnapshot) -> Iterable[Metric]:
    """Redis and the other sources of exits."""
    up = GaugeMetricFamily("bethrou_source_up", "1: the source of exits is well.", labels=("source",))
    known = GaugeMetricFamily("bethrou_source_exits", "Exits that it knows.", labels=("source",))
    heard = CounterMetricFamily("bethrou_source_heard", "Messages that were taken.", labels=("source",))
    skipped = CounterMetricFamily("bethrou_source_skipped", "Messages that were not.", labels=("source",))
    for source in status.sources:
        up.add_metric((source.name,), float(source.ok))
        known.add_metric((source.name,), source.known)
        heard.add_metric((source.name,), source.heard)
        skipped.add_metric((source.name,), source.skipped)
    return (up, known, heard, skipped) if status.sources else ()


def _relaying(status: StatusSnapshot) -> Iterable[Metric]:
    if status.relaying is not None:
        relaying = status.relaying
        yield _gauge(
            "bethrou_relay_reservations", "Nodes reachable here.", ((), (), float(relaying.reservations))
        )
        yield _gauge("bethrou_relay_circuits", "Circuits that are open.", ((), (), float(relaying.circuits)))
        yield CounterMetricFamily("bethrou_relay_bytes", "Bytes that were relayed.", value=relaying.relayed)
