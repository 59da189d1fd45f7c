"""What every measurement needs: the C tools, the children, the ports and the settings."""

import hashlib
import os
import re
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from processes import BenchError, Ports, Process, Processes

HERE = Path(__file__).resolve().parent
PROJECT = HERE.parent
SOURCES = ("socksbench.c", "pathbench.c", "delayproxy.c")
FIGURE = re.compile(r"(\w+)=(-?[\d.]+)")

Figures = dict[str, float]


@dataclass(frozen=True)
class Settings:
    """How long and how much; the defaults are the full run."""

    bulk_s: float = 2.0
    rate_s: float = 2.0
    ping_s: float = 2.0
    beside_s: float = 3.0
    idle: int = 5_000
    idle_aim: int = 10_000
    hold_s: float = 5.0
    path_skip_s: float = 2.0
    path_s: float = 3.0
    slow_s: float = 60.0
    settle_s: float = 5.0


QUICK = Settings(
    bulk_s=0.3,
    rate_s=0.3,
    ping_s=0.3,
    beside_s=0.5,
    idle=200,
    idle_aim=400,
    hold_s=1.0,
    path_skip_s=0.5,
    path_s=0.5,
    slow_s=4.0,
    settle_s=0.5,
)


@dataclass(frozen=True)
class Route:
    """A long path: the delay of each direction and the bottleneck's rate."""

    delay_ms: float
    rate_mbit: float


@dataclass
class Lab:
    """The workshop of one run."""

    tools: Path
    scratch: Path
    processes: Processes
    settings: Settings
    ports: Ports = field(default_factory=Ports)

    def start_target(self) -> tuple[int, Process]:
        port = self.ports.free()
        process = self.processes.start([str(self.tools / "socksbench"), "target", str(port)])
        process.wait_for_listener(port)
        return port, process

    def start_route(self, to_port: int, route: Route) -> tuple[int, Process]:
        """A delay proxy in front of a port; returns the port to use in its place."""
        port = self.ports.free()
        numbers = [port, to_port, route.delay_ms, route.rate_mbit]
        process = self.processes.start([str(self.tools / "delayproxy"), *map(str, numbers)])
        process.wait_for_listener(port)
        return port, process

    def command(self, tool: str, mode: str, *numbers: float) -> list[str]:
        return [str(self.tools / tool), mode, *map(str, numbers)]

    def run(self, tool: str, mode: str, *numbers: float, patience_s: float = 120.0) -> Figures:
        """Runs a generator to its end and reads its figures."""
        with self.start(tool, mode, *numbers) as child:
            return finish(child, patience_s)

    def start(self, tool: str, mode: str, *numbers: float) -> "Generator":
        return Generator(self.command(tool, mode, *numbers))


class Generator:
    """A running load generator; leaving the context ends it."""

    def __init__(self, argv: list[str]) -> None:
        self.title = " ".join([Path(argv[0]).name, *argv[1:]])
        self.child = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def line(self) -> str:
        """The next line it prints."""
        return self.child.stdout.readline() if self.child.stdout else ""

    def __enter__(self) -> "Generator":
        return self

    def __exit__(self, *_: object) -> None:
        self.child.kill()
        self.child.communicate()


def finish(generator: Generator, patience_s: float) -> Figures:
    """The figures a generator printed; it must have printed some."""
    try:
        out, err = generator.child.communicate(timeout=patience_s)
    except subprocess.TimeoutExpired:
        raise BenchError(f"{generator.title}: no end after {patience_s:.0f} s") from None
    return parse(out, f"{generator.title}: {err.strip()}")


def parse(line: str, context: str) -> Figures:
    figures = {name: float(number) for name, number in FIGURE.findall(line)}
    if not figures:
        raise BenchError(f"no figures from {context}")
    return figures


def build_tools() -> Path:
    """Compiles the C programs once for each state of their sources; returns their directory."""
    texts = [(HERE / name).read_bytes() for name in SOURCES]
    digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
    cache = Path(os.environ.get("BETHROU_CACHE") or PROJECT / ".cache")
    directory = cache / "bench" / digest
    directory.mkdir(parents=True, exist_ok=True)
    for name in SOURCES:
        tool = directory / name.removesuffix(".c")
        if not tool.exists():
            _compile(HERE / name, tool)
    return directory


def _compile(source: Path, tool: Path) -> None:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise BenchError("no C compiler (apt package gcc)")
    draft = tool.with_suffix(f".{os.getpid()}")
    subprocess.run([compiler, "-O2", "-o", str(draft), str(source)], check=True)
    draft.rename(tool)
