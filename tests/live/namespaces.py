"""An Internet in a box: hosts with addresses of their own and home networks behind NAT, in network namespaces.

::

    def test_something(internet: Internet) -> None:       # skipped, with a reason, where it cannot be had
        relay = internet.host("5.5.0.1")                  # on the Internet
        home = internet.home("5.5.1.1", Nat.PRESERVING)   # a NAT box with this outside address ...
        alice = home.member()                             # ... and 10.0.0.2 behind it
        subprocess.run(relay.command("ping", "-c1", "5.5.1.1"))
        with alice.loop() as inside:                      # an event loop whose sockets are all in there
            sock = await inside(connect(...))

Public addresses are from 5.5.0.0/16: globally routable by every table. No namespace has a way out of the box; the
machine itself must not use these addresses, out there they are somebody's. NAT boxes drop what nobody asked for,
without a word. The namespaces have no names: they exist as long as a descriptor of this process or a process inside
does, so that nothing is left even when the tests are killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any, Protocol, TypeVar

import uvloop

from conftest import missing, needs

PUBLIC = "5.5.0.0/16"

Result = TypeVar("Result")

_CLONE_NEWNET = 0x40000000
_LIBC = ctypes.CDLL(None, use_errno=True)
_PROGRAMS = ("ip", "iptables", "nsenter", "sysctl", "tc")


class Nat(Enum):
    """How a NAT box chooses the outside port. All of them let in only what answers a packet from inside."""

    PRESERVING = ()
    """The same port as inside, for every destination: holes can be punched."""
    SYMMETRIC = ("--random-fully",)
    """Another random one for each connection: nobody can foretell it, holes cannot be punched."""


class Call(Protocol):
    """Runs a coroutine on an event loop in another thread."""

    def __call__(self, coroutine: Coroutine[Any, Any, Result]) -> asyncio.Future[Result]: ...


class Namespace:
    """One network namespace. `address` is its own, without a prefix length."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.fd = _in_thread(_new_namespace)
        self.run("ip", "link", "set", "lo", "up")

    def command(self, *argv: str) -> list[str]:
        """The command line that runs `argv` in here, for anything that starts processes."""
        return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{self.fd}", *argv]

    def run(self, *argv: str) -> str:
        """Run a short command in here; what it printed. Raises CalledProcessError."""
        return subprocess.run(self.command(*argv), check=True, capture_output=True, text=True).stdout

    def shut(self, device: str = "eth0") -> None:
        """Drop whatever comes in at `device` and answers nothing that was sent: a firewall without NAT."""
        rule = f"-A INPUT -i {device} -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP"
        self.run("iptables", "-w", *rule.split())

    def lose(self, share: float, device: str = "eth0") -> None:
        """Lose this share of the packets that come in and go out at `device`, each by chance of its own."""
        for way in (f"INPUT -i {device}", f"OUTPUT -o {device}"):
            rule = f"-I {way} -m statistic --mode random --probability {share} -j DROP"
            self.run("iptables", "-w", *rule.split())

    def limit(self, rate: int, device: str = "eth0") -> None:
        """Let no more than `rate` bits a second out at `device`; 100 ms of them may wait there, as in a home router."""
        shape = f"tbf rate {rate} burst {max(rate // 800, 16384)} latency 100ms"
        self.run("tc", "qdisc", "replace", "dev", device, "root", *shape.split())

    def move(self, address: str, prefix: int, device: str = "eth0") -> None:
        """Have `address` in place of every address of `device`; its routes through a gateway are kept."""
        routes = [line.split() for line in self.run("ip", "route").splitlines() if " via " in line]
        self.run("ip", "address", "flush", "dev", device)
        self.run("ip", "address", "add", f"{address}/{prefix}", "dev", device)
        for route in routes:
            self.run("ip", "route", "replace", *route[: route.index("via") + 2])
        self.address = address

    def within(self, function: Callable[[], Result]) -> Result:
        """Call `function` in a thread in here: sockets that it makes stay in here, whoever uses them."""

        def inside() -> Result:
            _enter(self.fd)
            return function()

        return _in_thread(inside)

    @contextlib.contextmanager
    def loop(
        self, factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    ) -> Iterator[Call]:
        """An event loop in a thread in here. What is yielded runs coroutines there, to be awaited here.

        At the end the loop's remaining tasks are cancelled.
        """
        started = threading.Event()
        loop = factory()

        def serve() -> None:
            _enter(self.fd)
            loop.call_soon(started.set)
            loop.run_forever()

        thread = threading.Thread(target=serve, name=f"namespace of {self.address}")
        thread.start()
        started.wait()
        try:
            yield lambda coroutine: asyncio.wrap_future(asyncio.run_coroutine_threadsafe(coroutine, loop))
        finally:
            asyncio.run_coroutine_threadsafe(_end_tasks(), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    def close(self) -> None:
        """Give the namespace up; the kernel removes it as soon as no process is left inside."""
        os.close(self.fd)


class Home(Namespace):
    """A NAT box and the network behind it. `address` is the outside one."""

    def __init__(self, box: Internet, address: str, nat: Nat) -> None:
        super().__init__(address)
        self._box = box
        self._members = 0
        box.plug(self, "wan", f"{address}/16")
        self.run("ip", "link", "add", "lan", "type", "bridge")
        self.run("ip", "address", "add", "10.0.0.1/24", "dev", "lan")
        self.run("ip", "link", "set", "lan", "up")
        self.run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        for rule in (
            "-t nat -A POSTROUTING -o wan -p tcp -j MASQUERADE " + " ".join(nat.value),
            "-t nat -A POSTROUTING -o wan -j MASQUERADE",
            "-A FORWARD -i wan -m conntrack ! --ctstate ESTABLISHED,RELATED -j DROP",
        ):
            self.run("iptables", "-w", *rule.split())
        self.shut("wan")

    def member(self) -> Namespace:
        """One more machine behind this box: 10.0.0.2, 10.0.0.3, ..."""
        self._members += 1
        member = self._box.add(Namespace(f"10.0.0.{self._members + 1}"))
        _cable(self, f"port{self._members}", member, "eth0", f"{member.address}/24", bridge="lan")
        member.run("ip", "route", "add", "default", "via", "10.0.0.1")
        return member

    def renumber(self, address: str) -> None:
        """Get another outside address, as providers give one overnight: what was translated before leads nowhere."""
        self.move(address, 16, "wan")
        # MASQUERADE has the kernel forget connections when an interface goes down, not when its address does
        self.run("ip", "link", "set", "wan", "down")
        self.run("ip", "link", "set", "wan", "up")

    def refuse(self) -> None:
        """Answer what nobody asked for by RST, as some routers do: then nobody waits for a timeout."""
        rule = "-I INPUT 1 -i wan -p tcp --syn -j REJECT --reject-with tcp-reset"
        self.run("iptables", "-w", *rule.split())

    def forward(self, port: int, member: Namespace) -> None:
        """Pass connections to `port` of the outside address on to `member` (what people set up in their router)."""
        to = f"{member.address}:{port}"
        rule = f"-t nat -A PREROUTING -i wan -p tcp --dport {port} -j DNAT --to-destination {to}"
        self.run("iptables", "-w", *rule.split())
        rule = f"-I FORWARD -i wan -p tcp -d {member.address} --dport {port} -j ACCEPT"
        self.run("iptables", "-w", *rule.split())


class Internet:
    """A switch to which hosts and NAT boxes are plugged; closed, all are gone."""

    def __init__(self) -> None:
        self._all: list[Namespace] = []
        self._plugged = 0
        self._switch = self.add(Namespace("0.0.0.0"))
        self._switch.run("ip", "link", "add", "switch", "type", "bridge")
        self._switch.run("ip", "link", "set", "switch", "up")

    def host(self, address: str) -> Namespace:
        """A machine with a public address."""
        return self.plug(self.add(Namespace(address)), "eth0", f"{address}/16")

    def home(self, address: str, nat: Nat) -> Home:
        """A NAT box with this outside address."""
        home = Home(self, address, nat)
        self.add(home)
        return home

    def add(self, namespace: Namespace) -> Namespace:
        """Have it closed together with the rest."""
        self._all.append(namespace)
        return namespace

    def plug(self, namespace: Namespace, device: str, address: str) -> Namespace:
        """Connect it to the switch."""
        self._plugged += 1
        _cable(self._switch, f"port{self._plugged}", namespace, device, address, bridge="switch")
        return namespace

    def close(self) -> None:
        """Give all namespaces up."""
        for namespace in self._all:
            namespace.close()


@contextlib.contextmanager
def an_internet() -> Iterator[Internet]:
    """An empty one for the length of a block. Skips the test where none can be had.

    A fixture is made of it in one line: `internet = pytest.fixture(an_internet_for_a_test)`.
    """
    needs(*_PROGRAMS)
    if os.geteuid() != 0:
        missing("ip", "network namespaces need root")
    try:
        _in_thread(lambda: os.close(_new_namespace()))
    except OSError as error:
        missing("ip", f"no network namespaces here: {error}")
    internet = Internet()
    try:
        yield internet
    finally:
        internet.close()


def an_internet_for_a_test() -> Iterator[Internet]:
    """The body of a fixture."""
    with an_internet() as internet:
        yield internet


def _cable(left: Namespace, port: str, right: Namespace, device: str, address: str, bridge: str) -> None:
    """A pair of interfaces: `port` of the bridge in `left`, and `device` with its address in `right`."""
    peer = f"/proc/{os.getpid()}/fd/{right.fd}"
    left.run("ip", "link", "add", port, "type", "veth", "peer", "name", device, "netns", peer)
    left.run("ip", "link", "set", port, "master", bridge, "up")
    right.run("ip", "address", "add", address, "dev", device)
    right.run("ip", "link", "set", device, "up")


def _in_thread(function: Callable[[], Result]) -> Result:
    """Call it in a thread of its own, which may end up in whatever namespace."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def _new_namespace() -> int:
    """A descriptor of a new namespace, which the calling thread is then in."""
    _check(_LIBC.unshare(_CLONE_NEWNET))
    return os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _enter(fd: int) -> None:
    _check(_LIBC.setns(fd, _CLONE_NEWNET))


def _check(result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


async def _end_tasks() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
