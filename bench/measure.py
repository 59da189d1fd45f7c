"""The measurements: each takes one peer once and returns named figures, `errors` among them."""

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from lab import Figures, Lab, Route, finish, parse
from ours import BethrouByWebSocket
from peers import Fleet, Live, Peer, fresh, launch
from processes import BenchError, bytes_read, memory

KIB = 1024
MIB = 1 << 20
MB = 1_000_000
OPENING_PATIENCE_S = 90.0
STILL_UP_PATIENCE_S = 60.0

TUNNELS = ("ssh", "ss", "bethrou")
ALL = ("none", "microsocks", *TUNNELS)
LONG_PATHS = ("none", *TUNNELS)


@dataclass(frozen=True)
class Measurement:
    """What is done to each peer, which peers take part and how often at most."""

    key: str
    peers: tuple[str, ...]
    take: Callable[["Bench", Peer], Figures]
    rounds_max: int = 1_000
    at_once: bool = False  # all peers at the same time: where the processor is idle and waiting is all


@dataclass
class Bench:
    lab: Lab
    fleet: Fleet
    complaints: set[str] = field(default_factory=set)

    def complain(self, reason: str, where: str) -> None:
        """Says why something failed, each reason once."""
        if reason not in self.complaints:
            self.complaints.add(reason)
            print(f"{where}, {reason}", file=sys.stderr, flush=True)


def on_loopback(work: Callable[[Live], Figures]) -> Callable[[Bench, Peer], Figures]:
    def take(bench: Bench, peer: Peer) -> Figures:
        return work(bench.fleet.get(peer))

    return take


def bulk(direction: str, streams: int) -> Measurement:
    def work(live: Live) -> Figures:
        return live.run("socksbench", direction, streams, live.lab.settings.bulk_s)

    return Measurement(f"bulk-{direction}-{streams}", ALL, on_loopback(work))


def by_websocket(direction: str) -> Measurement:
    """One stream through a link in a WebSocket, right behind one through a link on bare TCP."""

    def take(bench: Bench, peer: Peer) -> Figures:
        taken = [
            bench.fleet.get(each).run("socksbench", direction, 1, bench.lab.settings.bulk_s)
            for each in (peer, BethrouByWebSocket())
        ]
        plain, inside = (figures["MBps"] for figures in taken)
        errors = sum(figures["errors"] for figures in taken)
        return {"MBps": inside, "share": inside / max(plain, 1e-9), "errors": errors}

    return Measurement(f"ws-{direction}", ("bethrou",), take)


def rate(at_once: int) -> Measurement:
    def work(live: Live) -> Figures:
        return live.run("socksbench", "rate", at_once, live.lab.settings.rate_s)

    return Measurement(f"rate-{at_once}", ALL, on_loopback(work))


def ping_pong() -> Measurement:
    def work(live: Live) -> Figures:
        return live.run("socksbench", "rr", 1, live.lab.settings.ping_s)

    return Measurement("ping", ALL, on_loopback(work))


def beside_download() -> Measurement:
    """The download alone, then with four ping-pongs beside it for all of its measured time."""

    def work(live: Live) -> Figures:
        seconds = live.lab.settings.beside_s
        alone = live.run("socksbench", "down", 1, seconds)
        with live.lab.start("socksbench", "down", live.proxy_port, live.target_port, 1, seconds) as download:
            time.sleep(0.3)  # socksbench measures from its 0.5th second
            echoes = live.run("socksbench", "rr", 4, seconds + 0.2)
            both = finish(download, seconds + 30)
        return {
            "alone_MBps": alone["MBps"],
            "beside_MBps": both["MBps"],
            "share": both["MBps"] / alone["MBps"] if alone["MBps"] else 0,
            "p50_us": echoes["p50_us"],
            "p99_us": echoes["p99_us"],
            "errors": alone["errors"] + both["errors"] + echoes["errors"],
        }

    return Measurement("beside", ALL, on_loopback(work))


def idle_connections(
    key: str, peers: tuple[str, ...], count: Callable[[Lab], int], rounds: int
) -> Measurement:
    """Opens many connections, leaves them idle, then echoes on each; memory is RSS, both ends together."""

    def take(bench: Bench, peer: Peer) -> Figures:
        lab, wanted = bench.lab, count(bench.lab)
        with fresh(peer, lab) as live:
            live.warm_up()
            time.sleep(min(1.0, lab.settings.hold_s))
            before = memory(live.pids())
            numbers = (live.proxy_port, live.target_port, wanted, lab.settings.hold_s)
            with lab.start("socksbench", "hold", *numbers) as holder:
                opened = parse(holder.line(), holder.title)
                if "open_s" not in opened:
                    raise BenchError(f"not all of {wanted} connections opened within a minute")
                time.sleep(lab.settings.hold_s * 0.6)
                after = memory(live.pids())
                figures = finish(holder, OPENING_PATIENCE_S)
        return {
            "kib_each": (after["rss"] - before["rss"]) / KIB / wanted,
            "kib_each_pss": (after["pss"] - before["pss"]) / KIB / wanted,
            "open_s": opened["open_s"],
            "echo_p99_ms": figures["echo_p99_ms"],
            "alive": figures["alive"],
            "errors": max(figures["errors"], wanted - figures["alive"]),
        }

    return Measurement(f"idle-{key}", peers, take, rounds)


def check_route(live: Live, route: Route) -> None:
    """Nobody may find a way round the path."""
    echo = live.run("pathbench", "ping", 4 * route.delay_ms / 1e3, 0)
    if echo["p50_ms"] < 1.9 * route.delay_ms:
        raise BenchError(f"{live.peer.name}: an echo took {echo['p50_ms']} ms, so it did not take the path")


def upload(live: Live, seconds: float) -> Figures:
    """One stream up, counted where it arrives."""
    settings = live.lab.settings
    with live.lab.start("pathbench", "up", live.proxy_port, live.target_port, seconds) as upload:
        time.sleep(settings.path_skip_s)
        before, began = bytes_read(live.target.pid), time.monotonic()
        time.sleep(settings.path_s)
        arrived, took = bytes_read(live.target.pid) - before, time.monotonic() - began
        errors = finish(upload, seconds + OPENING_PATIENCE_S)["errors"]
    return {"MBps": arrived / took / MB, "errors": errors}


def download(live: Live) -> Figures:
    settings = live.lab.settings
    return live.run("pathbench", "down", settings.path_skip_s, settings.path_s)


def long_path(direction: str, rate_mbit: int) -> Measurement:
    """One stream after its start; the link has carried nothing before."""
    route = Route(50, rate_mbit)

    def take(bench: Bench, peer: Peer) -> Figures:
        settings = bench.lab.settings
        with fresh(peer, bench.lab, route) as live:
            seconds = settings.path_skip_s + settings.path_s + 0.5
            figures = upload(live, seconds) if direction == "up" else download(live)
            check_route(live, route)
        return figures

    return Measurement(f"path-{direction}-{rate_mbit}", LONG_PATHS, take)


def cold_link(rate_mbit: int) -> Measurement:
    """1 MiB through a link that has carried one echo, timed from connect()."""
    route = Route(50, rate_mbit)

    def take(bench: Bench, peer: Peer) -> Figures:
        with fresh(peer, bench.lab, route) as live:
            figures = live.run("pathbench", "fetch", MIB)
            check_route(live, route)
        return figures

    return Measurement(f"cold-{rate_mbit}", LONG_PATHS, take)


def slow_upload() -> Measurement:
    """An upload at 1 Mbit/s; beside it, on another connection, an echo each 500 ms once the path is full."""
    route = Route(50, 1)

    def take(bench: Bench, peer: Peer) -> Figures:
        lab, seconds = bench.lab, bench.lab.settings.slow_s
        with fresh(peer, lab, route) as live:
            before, began = bytes_read(live.target.pid), time.monotonic()
            with lab.start("pathbench", "up", live.proxy_port, live.target_port, seconds) as stream:
                time.sleep(seconds * 0.1)
                echoes = live.run("pathbench", "ping", seconds * 0.7, 500, patience_s=2 * seconds + 30)
                figures = finish(stream, seconds + OPENING_PATIENCE_S)
            arrived, took = bytes_read(live.target.pid) - before, time.monotonic() - began
            after = live.run("pathbench", "first", STILL_UP_PATIENCE_S)
        return {
            "MBps": arrived / took / MB,
            "open_ms": echoes.get("open_ms", 0),
            "p50_ms": echoes.get("p50_ms", 0),
            "max_ms": echoes.get("max_ms", 0),
            "errors": figures["errors"] + echoes["errors"] + after["errors"],
        }

    return Measurement("slow-upload", LONG_PATHS, take, rounds_max=1, at_once=True)


def start_up() -> Measurement:
    """From the client's start to the first served request, the server running; then memory at rest."""

    def take(bench: Bench, peer: Peer) -> Figures:
        live, began = launch(peer, bench.lab)
        try:
            served = live.await_first_request()
            time.sleep(bench.lab.settings.settle_s)
            client = memory(live.client.pids() if live.client else [])
            server = memory(live.server.pids() if live.server else [])
        finally:
            live.stop()
        return {
            "first_s": served - began,
            "client_MB": client["rss"] / MB,
            "server_MB": server["rss"] / MB,
            "client_pss_MB": client["pss"] / MB,
            "server_pss_MB": server["pss"] / MB,
            "errors": 0,
        }

    return Measurement("start", TUNNELS, take)


MEASUREMENTS: tuple[Measurement, ...] = (
    bulk("down", 1),
    bulk("down", 8),
    bulk("up", 1),
    bulk("up", 8),
    by_websocket("down"),
    by_websocket("up"),
    rate(50),
    rate(500),
    ping_pong(),
    beside_download(),
    idle_connections("bar", ("microsocks", *TUNNELS), lambda lab: lab.settings.idle, 2),
    idle_connections("aim", ("bethrou",), lambda lab: lab.settings.idle_aim, 1),
    long_path("down", 100),
    long_path("up", 100),
    long_path("down", 800),
    long_path("up", 800),
    cold_link(100),
    cold_link(800),
    slow_upload(),
    start_up(),
)
