"""The rows of the table: which figure of which measurement is held against what."""

from dataclasses import dataclass

from lab import Settings

BEST = ("ssh", "ss")
BULKS = (("down", 1), ("down", 8), ("up", 1), ("up", 8))
ROUTES = ((100, "down"), (100, "up"), (800, "down"), (800, "up"))


@dataclass(frozen=True)
class Against:
    """Our figure divided by the best of these peers in the same round."""

    peers: tuple[str, ...]
    bar: float
    aim: float | None = None
    lower: bool = False

    def describe(self, threshold: float) -> str:
        return f"{'<=' if self.lower else '>='} {threshold:g} x {'|'.join(self.peers)}"


@dataclass(frozen=True)
class AtMost:
    """Our figure itself."""

    bar: float | None = None
    aim: float | None = None
    lower: bool = True

    def describe(self, threshold: float) -> str:
        return f"{'<=' if self.lower else '>='} {threshold:g}"


@dataclass(frozen=True)
class MeanOf:
    """The geometric mean of other rows' ratios, round by round."""

    rows: tuple[str, ...]
    bar: float
    aim: float
    lower: bool = False

    def describe(self, threshold: float) -> str:
        return f">= {threshold:g} x"


Rule = Against | AtMost | MeanOf


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    unit: str
    rule: Rule
    measurement: str = ""
    figure: str = ""
    scale: float = 1.0


def rows(settings: Settings) -> tuple[Row, ...]:
    loopback = (*bulk_rows(), *websocket_rows(), *connection_rows(), *beside_rows(), *idle_rows(settings))
    return (*loopback, *route_rows(settings), *start_rows())


def bulk_rows() -> tuple[Row, ...]:
    keys = tuple(f"bulk-{way}-{streams}" for way, streams in BULKS)
    titles = [f"bulk {way}, {streams} stream{'s' * (streams > 1)}" for way, streams in BULKS]
    each = Against(BEST, 0.8, 1.2)
    mean = Row("bulk-mean", "  geometric mean of the four", "ratio", MeanOf(keys, 0.9, 1.2))
    return (
        *(Row(key, title, "MB/s", each, key, "MBps") for key, title in zip(keys, titles, strict=True)),
        mean,
    )


def websocket_rows() -> tuple[Row, ...]:
    share = AtMost(70, lower=False)
    return tuple(
        row
        for way in ("down", "up")
        for row in (
            Row(f"ws-{way}", f"bulk {way} by WebSocket, 1 stream", "MB/s", AtMost(), f"ws-{way}", "MBps"),
            Row(f"ws-{way}-share", "  of its speed by TCP", "%", share, f"ws-{way}", "share", 100),
        )
    )


def connection_rows() -> tuple[Row, ...]:
    fifty, ping = Against(("ssh",), 0.65, 1.0), Against(("ssh",), 1.5, 1.0, lower=True)
    return (
        Row("rate-50", "new connections, 50 at a time", "1/s", fifty, "rate-50", "per_s"),
        Row("rate-50-p99", "  p99 of one", "ms", AtMost(), "rate-50", "p99_us", 1e-3),
        Row("rate-500", "new connections, 500 at a time", "1/s", AtMost(), "rate-500", "per_s"),
        Row("rate-500-p99", "  p99 of one, and no error", "ms", AtMost(1000), "rate-500", "p99_us", 1e-3),
        Row("ping", "64-byte ping-pong, p50", "us", ping, "ping", "p50_us"),
        Row("ping-p99", "  its p99", "us", AtMost(), "ping", "p99_us"),
    )


def beside_rows() -> tuple[Row, ...]:
    p99, share = Against(("ssh",), 1.5, 1.0, lower=True), Against(("ssh",), 1.0)
    return (
        Row("beside-p99", "4 ping-pongs beside a download, p99", "us", p99, "beside", "p99_us"),
        Row("beside-p50", "  their p50", "us", AtMost(), "beside", "p50_us"),
        Row("beside-share", "  what the download keeps of its speed", "%", share, "beside", "share", 100),
    )


def idle_rows(settings: Settings) -> tuple[Row, ...]:
    many, more = f"{settings.idle:,} idle connections", f"{settings.idle_aim:,} idle connections"
    return (
        Row("idle", f"{many}, RSS each, all alive", "KiB", AtMost(8), "idle-bar", "kib_each"),
        Row("idle-aim", f"{more}, RSS each, all alive", "KiB", AtMost(None, 8), "idle-aim", "kib_each"),
    )


def route_rows(settings: Settings) -> tuple[Row, ...]:
    streams = [
        Row(key, f"50 ms each way, {rate} Mbit/s, {way}", "MB/s", Against(("none",), 0.8), key, "MBps")
        for rate, way in ROUTES
        for key in [f"path-{way}-{rate}"]
    ]
    cold = [
        Row(
            f"cold-{rate}",
            f"  1 MiB from a cold link, {rate} Mbit/s",
            "ms",
            AtMost(1200),
            f"cold-{rate}",
            "ms",
        )
        for rate in (100, 800)
    ]
    title = f"1 Mbit/s upload of {settings.slow_s:g} s, slowest echo"
    slow = [
        Row("slow-upload", title, "ms", AtMost(1000), "slow-upload", "max_ms"),
        Row("slow-p50", "  its p50", "ms", AtMost(), "slow-upload", "p50_ms"),
        Row("slow-rate", "  what arrived", "MB/s", AtMost(), "slow-upload", "MBps"),
        Row("slow-open", "  opening of a connection beside it", "ms", AtMost(), "slow-upload", "open_ms"),
    ]
    return (*streams, *cold, *slow)


def start_rows() -> tuple[Row, ...]:
    return (
        Row("start", "client's start to first served request", "s", AtMost(1.5, 0.8), "start", "first_s"),
        Row("idle-client", "  memory of the idle client", "MB", AtMost(60, 50), "start", "client_MB"),
        Row("idle-node", "  memory of the idle node", "MB", AtMost(60, 50), "start", "server_MB"),
    )
