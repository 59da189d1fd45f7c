"""What relays cost, on one machine: a relay, an exit behind it, clients, and members by the hundred."""

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from lab import HERE, Lab
from ours import found, identity_of, own_state, write_network_key
from processes import BenchError, Process, memory, processor_seconds

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_path import find_socket
from bethrou.snapshots import StatusSnapshot

GB, KIB = 1e9, 1024
PATIENCE_S = 60.0
BACK_PATIENCE_S = 30.0
BUCKET_S = 0.25
"""Width of a bar of the histogram of returns."""

CLIENT_YAML = """\
key: {directory}/network.key
server:
  listen: "127.0.0.1:{local}"
nodes:
  - addrs:
      - {address}
discovery:
  members: false
punch: false
"""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How much of everything."""

    bulk_s: float = 4.0
    reservations: int = 1_000
    warm_up: int = 50
    """Reservations that are there before memory is measured for the first time."""
    circuits: int = 500
    dialers: int = 50
    samples: int = 300
    """New circuits whose time is taken, while the others are open."""
    returning: int = 200
    settle_s: float = 2.0
    processes: int = 2


QUICK = Plan(
    bulk_s=0.3,
    reservations=40,
    warm_up=10,
    circuits=20,
    dialers=5,
    samples=20,
    returning=20,
    settle_s=0.3,
)


@dataclass
class Site:
    """One network: its key, its relay, and what else was started."""

    lab: Lab
    directory: Path
    port: int = 0
    relay: Process | None = None
    started: list[Process] = field(default_factory=list)

    @classmethod
    def start(cls, lab: Lab) -> "Site":
        site = cls(lab, Path(mkdtemp(prefix="relay-", dir=lab.scratch)), lab.ports.free())
        write_network_key(site.key)
        try:
            site.start_relay()
        except BaseException:
            site.stop()
            raise
        return site

    @property
    def key(self) -> Path:
        return self.directory / "network.key"

    @property
    def address(self) -> str:
        return f"/ip4/127.0.0.1/tcp/{self.port}/p2p/{identity_of(self.directory / 'relay.key')}"

    def start_relay(self) -> Process:
        options = ["--relay-mode", "--no-exit", "--log-level", "warn"]
        self.relay = self.start_node("relay", self.port, *options)
        return self.relay

    def start_node(self, name: str, port: int, *options: str) -> Process:
        argv = [found("bethrou-node"), "start", "--listen", f"/ip4/127.0.0.1/tcp/{port}"]
        argv += ["--key", str(self.key), "--identity", str(self.directory / f"{name}.key")]
        argv += ["--dir", str(self.directory / name), *options]
        process = self._run(argv)
        process.wait_for_listener(port)
        return process

    def start_client(self, address: str) -> int:
        """One that knows of an exit at this address; its SOCKS port."""
        local = self.lab.ports.free()
        config = self.directory / f"client-{local}.yaml"
        config.write_text(CLIENT_YAML.format(directory=self.directory, local=local, address=address))
        argv = [found("bethrou-client"), "connect", "--config", str(config)]
        process = self._run([*argv, "--dir", str(self.directory / f"client-{local}")])
        process.wait_for_listener(local)
        return local

    def members(self, what: str, count: int, file: Path, *numbers: float) -> Process:
        argv = [sys.executable, str(HERE / "relay_hosts.py"), what, str(self.key), self.address, str(count)]
        return self._run([*argv, str(file), *map(str, numbers)])

    def reserve(self, count: int, processes: int) -> tuple[list[Process], list[Path]]:
        """So many members that have a place, in a few processes; where their peer IDs are."""
        shares = [count // processes + (number < count % processes) for number in range(processes)]
        files = [self.directory / f"members-{len(self.started)}-{number}" for number in range(processes)]
        made = [
            self.members("reserve", share, file) for share, file in zip(shares, files, strict=True) if share
        ]
        for process in made:
            process.wait_for_lines("reserved", 1, PATIENCE_S)
        return made, files

    def status(self, name: str) -> StatusSnapshot:
        return ControlClient(find_socket(self.directory / name)).status()

    def stop(self) -> None:
        self.lab.processes.stop(self.started)

    def _run(self, argv: list[str]) -> Process:
        process = self.lab.processes.start(argv, own_state(self.directory / "home"))
        self.started.append(process)
        return process


# -- what is measured ------------------------------------------------------------------------------------------------


def measure(lab: Lab, plan: Plan, note: Callable[[str], None]) -> Figures:
    """Every figure of one round; each part has a relay of its own."""
    figures: Figures = {}
    for what, part in (
        ("bulk", measure_bulk),
        ("many members", measure_many),
        ("a restart", measure_restart),
    ):
        note(what)
        site = Site.start(lab)
        try:
            figures |= part(site, plan)
        finally:
            site.stop()
    return figures


def measure_bulk(site: Site, plan: Plan) -> Figures:
    """One stream through client, relay and exit, in turn with the same exit's direct link."""
    target, process = site.lab.start_target()
    site.started.append(process)
    port = site.lab.ports.free()
    options = ["--allow", "127.0.0.0/8", "--connect-relay", site.address, "--no-punch", "--log-level", "warn"]
    exit_ = site.start_node("exit", port, *options)
    peer = identity_of(site.directory / "exit.key")
    assert site.relay is not None
    wait_until(lambda: _relayed(site).reservations == 1, "a reservation")
    circuit = site.start_client(f"{site.address}/p2p-circuit/p2p/{peer}")
    direct = site.start_client(f"/ip4/127.0.0.1/tcp/{port}/p2p/{peer}")
    for proxy in (circuit, direct):
        wait_until(lambda proxy=proxy: _serves(site, proxy, target), "a request")
    rates: dict[str, list[float]] = {}
    used = Counter[str]()
    for way in ("down", "up"):
        for name, proxy, worker, count in (
            ("direct", direct, exit_, _exit_bytes),
            ("circuit", circuit, site.relay, _relay_bytes),
        ):
            bytes_before, seconds_before = count(site), processor_seconds(worker.pid)
            taken = site.lab.run("socksbench", way, proxy, target, 1, plan.bulk_s)
            if taken["errors"]:
                raise BenchError(f"{way} {name}: {taken['errors']:.0f} errors")
            used[f"{name}_seconds"] += processor_seconds(worker.pid) - seconds_before
            used[f"{name}_bytes"] += count(site) - bytes_before
            rates.setdefault(way, []).append(taken["MBps"])
    for name, proxy in (("direct", direct), ("circuit", circuit)):
        paths = [each.path for each in site.status(f"client-{proxy}").exits]
        if paths != [name]:
            raise BenchError(f"the client that was to use a {name} link has {paths}")
    ratios = {way: circuit_rate / direct_rate for way, (direct_rate, circuit_rate) in rates.items()}
    exit_cost = used["direct_seconds"] / used["direct_bytes"] * GB
    relay_cost = used["circuit_seconds"] / used["circuit_bytes"] * GB
    return {
        **{f"{way}_direct_MBps": direct_rate for way, (direct_rate, _) in rates.items()},
        **{f"{way}_circuit_MBps": circuit_rate for way, (_, circuit_rate) in rates.items()},
        **{f"{way}_share": ratio for way, ratio in ratios.items()},
        "bulk_share": statistics.geometric_mean(ratios.values()),
        "exit_s_per_GB": exit_cost,
        "relay_s_per_GB": relay_cost,
        "relay_cost": relay_cost / exit_cost,
    }


def measure_many(site: Site, plan: Plan) -> Figures:
    """Memory of a place, and how long a circuit takes while many are open."""
    assert site.relay is not None
    site.reserve(plan.warm_up, 1)
    time.sleep(plan.settle_s)
    before = memory([site.relay.pid])["rss"]
    _, files = site.reserve(plan.reservations, plan.processes)
    time.sleep(plan.settle_s)
    reserved = memory([site.relay.pid])["rss"]
    everybody = site.directory / "everybody"
    everybody.write_text("\n".join(file.read_text() for file in files))
    dialers = site.members("dial", plan.dialers, everybody, plan.circuits, plan.samples, plan.settle_s)
    opened = float(dialers.wait_for_lines("open", 1, PATIENCE_S)[0][0])
    carried = _relayed(site)
    if (carried.reservations, carried.circuits) != (plan.warm_up + plan.reservations, plan.circuits):
        raise BenchError(f"the relay has {carried.reservations} places and {carried.circuits} circuits")
    with_circuits = memory([site.relay.pid])["rss"]
    took = sorted(map(float, dialers.wait_for_lines("took", 1, PATIENCE_S)[0]))
    return {
        "place_KiB": (reserved - before) / KIB / plan.reservations,
        "circuit_KiB": (with_circuits - reserved) / KIB / plan.circuits,
        "relay_MB": with_circuits / 1e6,
        "opened_per_s": plan.circuits / opened,
        "circuit_p50_ms": statistics.median(took),
        "circuit_p99_ms": took[int(0.99 * (len(took) - 1))],
        "circuit_ms": took,
    }


def measure_restart(site: Site, plan: Plan) -> Figures:
    """When members have a place again, in seconds from the end of the relay's process."""
    assert site.relay is not None
    members, _ = site.reserve(plan.returning, plan.processes)
    site.lab.processes.stop([site.relay])
    site.started.remove(site.relay)
    ended = time.monotonic()
    site.start_relay()
    started = time.monotonic()
    deadline = ended + BACK_PATIENCE_S
    wait_until(lambda: _count_back(members) >= plan.returning, "all members back", deadline - started)
    back = sorted(float(line[0]) - ended for process in members for line in process.lines("back"))
    histogram = Counter(int(seconds / BUCKET_S) for seconds in back)
    return {
        "relay_start_s": started - ended,
        "back_first_s": back[0],
        "back_median_s": statistics.median(back),
        "back_last_s": back[-1],
        "back_busiest": 100 * max(histogram.values()) / len(back),
        "back_s": back,
    }


def _count_back(members: list[Process]) -> int:
    return sum(len(process.lines("back")) for process in members)


def _relayed(site: Site) -> Any:
    relaying = site.status("relay").relaying
    if relaying is None:
        raise BenchError("the relay says that it is none")
    return relaying


def _relay_bytes(site: Site) -> int:
    return int(_relayed(site).relayed)


def _exit_bytes(site: Site) -> int:
    return sum(member.sent + member.received for member in site.status("exit").members)


def _serves(site: Site, proxy: int, target: int) -> bool:
    """Whether a first request went through."""
    return site.lab.run("pathbench", "first", proxy, target, 10.0)["errors"] == 0


def wait_until(done: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + patience_s
    while not done():
        if time.monotonic() > deadline:
            raise BenchError(f"not within {patience_s:.0f} s: {what}")
        time.sleep(0.05)
