"""What is counted, as Prometheus' own parser reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from prometheus_client.parser import text_string_to_metric_families

from bethrou.events import (
    DialFailed,
    ExitChanged,
    HolePunched,
    HolePunchFailed,
    LinkClosed,
    LinkOpened,
    RequestEnded,
    StrangerRefused,
)
from bethrou.ops.metrics import MAX_EXITS, SECONDS, ProgramMetrics
from bethrou.snapshots import MemberSnapshot, StatusSnapshot
from ops.controlled import EXIT, STATUS

OTHER_PEER = "12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU"


def series(metrics: ProgramMetrics) -> dict[str, float]:
    """Each series as it would be asked for: name{label="value"}."""
    found = {}
    for family in text_string_to_metric_families(metrics.text()):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


def ended(result: str = "ok", peer: str = EXIT.id, **fields: object) -> RequestEnded:
    event = RequestEnded("00", peer, "secret.example:443", result, "", 10, 20, 1.0, "ann")
    return replace(event, **fields)


def of(status: StatusSnapshot) -> tuple[ProgramMetrics, Callable[[StatusSnapshot], None]]:
    """Metrics of a program whose status can be changed."""
    now = [status]

    def change(other: StatusSnapshot) -> None:
        now[0] = other

    return ProgramMetrics(lambda: now[0]), change


def test_a_clients_requests() -> None:
    metrics, _ = of(STATUS)
    metrics.note(ended(connected=0.02, first_byte=0.3))
    metrics.note(ended(connected=0.02))
    metrics.note(ended("refused"))
    metrics.note(ended("no-exit", peer=""))
    metrics.note(ended(peer="direct"))
    found = series(metrics)
    assert found['bethrou_requests_total{exit="berlin",result="ok"}'] == 2
    assert found['bethrou_requests_total{exit="berlin",result="refused"}'] == 1
    assert found['bethrou_requests_total{exit="",result="no-exit"}'] == 1
    assert found['bethrou_requests_total{exit="direct",result="ok"}'] == 1
    assert found['bethrou_request_bytes_total{direction="received"}'] == 100
    assert found["bethrou_request_connect_seconds_count"] == 2
    assert found['bethrou_request_connect_seconds_bucket{le="0.025"}'] == 2
    assert found['bethrou_request_connect_seconds_bucket{le="0.01"}'] == 0
    assert found["bethrou_request_first_byte_seconds_sum"] == 0.3
    assert "secret" not in metrics.text() and "ann" not in metrics.text()


def test_a_clients_exits_and_links() -> None:
    status = replace(STATUS, exits=(replace(EXIT, sent=5, received=7),))
    metrics, change = of(status)
    for event in (
        LinkOpened(EXIT.id, "/ip4/1.2.3.4/tcp/1", "direct", False),
        DialFailed(EXIT.id, "refused", 1.0),
        ExitChanged(EXIT.id, "berlin", "healthy", "slow", "it takes longer"),
        StrangerRefused("socks", "127.0.0.1:1", "no SOCKS"),
    ):
        metrics.note(event)
    found = series(metrics)
    assert found['bethrou_info{role="client",version="0.1.0"}'] == 1
    assert found['bethrou_exits{state="healthy"}'] == 1
    assert found['bethrou_links{path="direct"}'] == 1
    assert found['bethrou_links{path="circuit"}'] == 0
    assert found['bethrou_exit_round_trip_seconds{exit="berlin"}'] == EXIT.round_trip
    assert found['bethrou_link_bytes_total{direction="received",exit="berlin"}'] == 7
    assert found['bethrou_source_up{source="redis"}'] == 1
    assert found['bethrou_links_opened_total{path="direct"}'] == 1
    assert found["bethrou_dials_failed_total"] == 1
    assert found['bethrou_exit_changes_total{state="slow"}'] == 1
    assert found['bethrou_strangers_refused_total{door="socks"}'] == 1
    assert found["process_resident_memory_bytes"] > 1e6

    # bytes of a link stay counted when it is gone
    metrics.note(LinkClosed(EXIT.id, "/ip4/1.2.3.4/tcp/1", "lost", 5, 9))
    change(replace(status, exits=(replace(EXIT, path="", sent=0, received=0, state="down"),)))
    found = series(metrics)
    assert found['bethrou_link_bytes_total{direction="received",exit="berlin"}'] == 9
    assert found['bethrou_links{path="direct"}'] == 0
    assert found["bethrou_links_closed_total"] == 1


def test_holes_that_were_punched() -> None:
    metrics, _ = of(STATUS)
    assert series(metrics)['bethrou_hole_punches_total{result="failed"}'] == 0
    metrics.note(HolePunched(EXIT.id, "/ip4/203.0.113.9/tcp/1", 1, 0.2))
    for _ in range(2):
        metrics.note(HolePunchFailed(EXIT.id, "/ip4/203.0.113.9/tcp/1", 3, "no connection came about", 9.0))
    found = series(metrics)
    assert found['bethrou_hole_punches_total{result="opened"}'] == 1
    assert found['bethrou_hole_punches_total{result="failed"}'] == 2
    assert "203.0.113.9" not in metrics.text()


def test_a_nodes_members_have_no_series_of_their_own() -> None:
    members = tuple(
        MemberSnapshot(f"member{number}", "/ip4/1.2.3.4/tcp/1", "circuit", "", 1, 0.1, 10, 20, 1.0)
        for number in range(100)
    )
    metrics, _ = of(replace(STATUS, role="node", exits=(), members=members))
    metrics.note(ended("denied", peer="member1"))
    metrics.note(LinkClosed("member7", "", "", 1, 2))
    found = series(metrics)
    assert found['bethrou_links{path="circuit"}'] == 100
    assert found['bethrou_link_bytes_total{direction="sent",exit=""}'] == 1001
    assert found['bethrou_requests_total{exit="",result="denied"}'] == 1
    assert "member" not in "".join(found)


def test_the_series_of_thousands_of_exits_are_few() -> None:
    exits = tuple(
        replace(EXIT, id=f"{OTHER_PEER[:-4]}{number:04}", name="evil" if number % 2 else "")
        for number in range(1000)
    )
    metrics, _ = of(replace(STATUS, exits=exits))
    for exit_ in exits:
        metrics.note(ended(peer=exit_.id))
    found = series(metrics)
    assert found['bethrou_requests_total{exit="other",result="ok"}'] == 1000 - MAX_EXITS
    assert len(found) < 10 * MAX_EXITS + 20 * len(SECONDS)
    # nobody can hide behind another's name
    assert sum("evil" in name for name in found if name.startswith("bethrou_requests_total")) <= 1
