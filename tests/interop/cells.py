"""One cell of the matrix at work: programs of ours as users run them, peers as processes, and what has to pass."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

from bethrou.cli.control_client import ControlClient
from bethrou.cli.control_path import find_socket
from bethrou.printable import printable
from bethrou.snapshots import ExitSnapshot, MemberSnapshot, StatusSnapshot
from bethrou.wire.psk import NetworkKey
from interop.matrix import OURS, Cell
from interop.peers import Line, Peer, Peers, open_peers
from interop.report import Outcome
from live.applications import application
from live.payload import MIB, Payload
from live.processes import ClientProgram, NodeProgram, Program, Programs, programs
from live.targets import echo, fingerprint, target
from live.waiting import PATIENCE, until

TIMEOUT = 60.0
"""Seconds for a cell, the starts of its programs included."""

BULK = 10 * MIB
_WORDS = {"noise": "/noise", "tls": "/tls/1.0.0"}
"""What peers call a security."""


async def run_cell(cell: Cell, folder: Path) -> Outcome:
    """Start the programs of a cell, in an empty folder that is there, have it pass or fail, and end them."""
    started = time.monotonic()
    versions: dict[str, str] = {}
    error = ""
    try:
        async with asyncio.timeout(TIMEOUT):
            await _pass(cell, folder, versions)
    except TimeoutError:
        error = f"not within {TIMEOUT:g} s"
    except (AssertionError, OSError, asyncio.IncompleteReadError) as problem:
        lines = str(problem).strip().splitlines()
        error = printable(lines[0] if lines else type(problem).__name__)
    return Outcome(cell, time.monotonic() - started, error, versions)


async def _pass(cell: Cell, folder: Path, versions: dict[str, str]) -> None:
    with programs(folder) as ours:
        key = NetworkKey.parse((folder / "network.key").read_bytes())
        async with open_peers(key, folder) as theirs:
            lab = _Lab(cell, ours, theirs, versions)
            relay = await lab.relay() if cell.relay else None
            exit_ = await lab.exit(relay)
            client = await lab.client(exit_)
            await client.knows(exit_)
            await exit_.knows(client)
            await client.pings()
            await _request_passes(client)
            await _bulk_passes(client)
            await _half_close_passes(client)


# -- what has to pass ------------------------------------------------------------------------------------------------


async def _request_passes(client: _Client) -> None:
    async with target(echo) as far:
        hashes = await client.exchange(far.address, 5, end=False)
        assert hashes.received == hashes.sent, "a request: other bytes came back"


async def _bulk_passes(client: _Client) -> None:
    """Up and down at the same time, hashed at both ends."""
    async with target(echo) as far:
        hashes = await client.exchange(far.address, BULK, end=True)
        arrived = ", ".join(f"{visit.received} until {visit.end or 'now'}" for visit in far.visits)
        assert [visit.sha256 for visit in far.visits] == [hashes.sent], (
            f"10 MiB up: other bytes arrived ({arrived})"
        )
        assert hashes.received == hashes.sent, f"10 MiB down: other bytes came back ({hashes.count})"


async def _half_close_passes(client: _Client) -> None:
    """The destination answers only when it has seen the end."""
    async with target(fingerprint) as far:
        hashes = await client.exchange(far.address, 100_000, end=True)
        answer = hashlib.sha256(hashes.sent.encode()).hexdigest()
        assert hashes.received == answer, "half-close: no answer after the end, or another one"


# -- roles -----------------------------------------------------------------------------------------------------------


class Hashes(NamedTuple):
    """SHA-256 of what an application sent and got, in hex, and how many bytes it got."""

    sent: str
    received: str
    count: int


class _Relay(Protocol):
    address: str


class _Exit(Protocol):
    id: str
    address: str
    """Where the client dials it, maybe through a relay; with its peer ID."""

    async def knows(self, client: _Client) -> None:
        """Wait until identify said who the client is, and check what it has to be."""


class _Client(Protocol):
    id: str

    async def knows(self, exit_: _Exit) -> None:
        """Wait until identify said who the exit is, and check what it has to be."""

    async def pings(self) -> None:
        """See a ping of this client answered."""

    async def exchange(self, address: str, size: int, *, end: bool) -> Hashes:
        """Ask for `address` and send `size` bytes; read as many, or with `end` end, and read to the other end."""


Link = TypeVar("Link", ExitSnapshot, MemberSnapshot)


class _OurProgram:
    def __init__(self, cell: Cell, program: Program, versions: dict[str, str]) -> None:
        self._cell = cell
        self._versions = versions
        self._control = ControlClient(find_socket(program.folder / "state"))

    async def status(self) -> StatusSnapshot:
        status = await asyncio.to_thread(self._control.status)
        self._versions[OURS] = status.version
        return status

    async def seen(self, find: Callable[[StatusSnapshot], list[Link]]) -> Link:
        """The link that `find` finds in the program's status, when identify has told who is there."""
        deadline = time.monotonic() + PATIENCE
        while not (links := [link for link in find(await self.status()) if link.agent]):
            assert time.monotonic() < deadline, "identify said nothing"
            await asyncio.sleep(0.05)
        (link,) = links
        return link

    def check_link(self, path: str, security: str) -> None:
        assert (path, security) == (self._cell.path, self._cell.security), f"a link by {path}, {security}"


class _OurNode(_OurProgram):
    def __init__(
        self, cell: Cell, program: NodeProgram, relay: _Relay | None, versions: dict[str, str]
    ) -> None:
        super().__init__(cell, program, versions)
        self.id = program.id
        self.address = f"{relay.address}/p2p-circuit/p2p/{program.id}" if relay else program.address

    async def knows(self, client: _Client) -> None:
        link = await self.seen(lambda status: [link for link in status.members if link.id == client.id])
        self.check_link(link.path, link.security)


class _OurClient(_OurProgram):
    def __init__(self, cell: Cell, program: ClientProgram, id_: str, versions: dict[str, str]) -> None:
        super().__init__(cell, program, versions)
        self.id = id_
        self._proxy = program.proxy

    async def knows(self, exit_: _Exit) -> None:
        link = await self.seen(lambda status: [link for link in status.exits if link.id == exit_.id])
        self.check_link(link.path, link.security)

    async def pings(self) -> None:
        link = await self.seen(lambda status: [link for link in status.exits if link.round_trip])
        assert link.round_trip, "no ping of ours was answered"

    async def exchange(self, address: str, size: int, *, end: bool) -> Hashes:
        payload = Payload(size, seed=size)
        host, _, port = address.rpartition(":")
        async with application(self._proxy, host, int(port)) as app:
            sending = asyncio.create_task(app.send(payload, end=end))
            count, received = await app.receive(None if end else size)
            await sending
        return Hashes(payload.sha256, received, count)


class _TheirPeer:
    def __init__(self, cell: Cell, name: str, peer: Peer, versions: dict[str, str]) -> None:
        self.id = peer.id
        self._cell = cell
        self._peer = peer
        versions.update((name, line["libp2p"]) for line in peer.lines if "libp2p" in line)

    def check_link(self, identified: Line) -> None:
        assert identified["agent"], "identify said nothing"
        path = "circuit" if "/p2p-circuit" in identified["remote_addr"] else "direct"
        security = identified["security"]
        if path == "circuit" and not security:  # Go does not say: nothing else was offered, at least
            security = _WORDS[self._cell.security]
        assert (path, security) == (self._cell.path, _WORDS[self._cell.security]), (
            f"a link by {path}, {security}"
        )


class _TheirExit(_TheirPeer):
    def __init__(self, cell: Cell, peer: Peer, relay: _Relay | None, versions: dict[str, str]) -> None:
        super().__init__(cell, cell.exit, peer, versions)
        self.address = f"{relay.address}/p2p-circuit/p2p/{peer.id}" if relay else peer.address

    async def knows(self, client: _Client) -> None:
        self.check_link(await self._peer.event("identified", lambda line: line["peer"] == client.id))


class _TheirRelay(_TheirPeer):
    def __init__(self, cell: Cell, name: str, peer: Peer, versions: dict[str, str]) -> None:
        super().__init__(cell, name, peer, versions)
        self.address = peer.address


class _TheirClient(_TheirPeer):
    async def knows(self, exit_: _Exit) -> None:
        (said,) = self._peer.events("connected")
        assert said["peer"] == exit_.id
        self.check_link(said)

    async def pings(self) -> None:
        answer = await self._peer.command("ping", timeout=10)
        assert answer["ok"], f"ping: {answer}"

    async def exchange(self, address: str, size: int, *, end: bool) -> Hashes:
        answer = await self._peer.command(
            "request",
            address=address,
            send_random={"bytes": size, "seed": "matrix"},
            **({"half_close": True, "read_until_eof": True} if end else {"read_bytes": size}),
        )
        trouble = {name: answer.get(name) for name in ("status", "message", "error", "send_error", "end")}
        assert answer["status"] == "ok", f"request: {trouble}"
        assert answer["sent"] == size and not answer.get("send_error"), f"request: {trouble}"
        assert answer["end"] == ("eof" if end else "open"), f"request: {trouble}"
        return Hashes(answer["sent_sha256"], answer["received_sha256"], answer["received"])


# -- starting --------------------------------------------------------------------------------------------------------


class _Lab:
    """Starts the programs of one cell."""

    def __init__(self, cell: Cell, ours: Programs, theirs: Peers, versions: dict[str, str]) -> None:
        self._cell = cell
        self._ours = ours
        self._theirs = theirs
        self._versions = versions
        self._listen = "/ip4/127.0.0.1/tcp/0" + ("/ws" if cell.transport == "ws" else "")
        self._security = ("--security", cell.security)

    async def relay(self) -> _Relay:
        assert self._cell.relay is not None
        if self._cell.relay == OURS:
            return _OurNode(self._cell, await self._node("--relay-mode", "--no-exit"), None, self._versions)
        options = ("--relay", "unlimited", *self._security)
        peer = await self._theirs.exit(self._cell.relay, *options, listen=self._listen)
        return _TheirRelay(self._cell, self._cell.relay, peer, self._versions)

    async def exit(self, relay: _Relay | None) -> _Exit:
        """An exit that can be reached."""
        options = ("--connect-relay", relay.address) if relay else ()
        if self._cell.exit == OURS:
            node = await self._node(*options)
            if relay:
                await node.logged("reachable through relay")
            return _OurNode(self._cell, node, relay, self._versions)
        peer = await self._theirs.exit(self._cell.exit, *options, *self._security, listen=self._listen)
        if relay and self._cell.exit != "js":  # which listens only then
            await until(
                lambda: peer.events("reserved") or peer.events("reservation-failed"), what="a reservation"
            )
            assert peer.events("reserved"), peer.events("reservation-failed")[0]["error"]
        return _TheirExit(self._cell, peer, relay, self._versions)

    async def client(self, exit_: _Exit) -> _Client:
        """A client with a link to the exit."""
        if self._cell.client == OURS:
            return await self._our_client(exit_)
        peer = await self._theirs.client(self._cell.client, exit_.address, *self._security)
        await until(lambda: peer.events("connected") or peer.events("failed"), what="the client's link")
        assert peer.events("connected"), f"the client: {peer.events('failed')[0]['error']}"
        return _TheirClient(self._cell, self._cell.client, peer, self._versions)

    async def _our_client(self, exit_: _Exit) -> _Client:
        program = await asyncio.to_thread(
            self._ours.client_of,
            [exit_.address],
            "--dir",
            "state",
            security=[self._cell.security],
            half_close_wait="200ms",  # towards exits that speak 1.0.0
            discovery={"members": False},  # a relay of ours would tell that its exit is on this machine
        )
        await program.connected()
        status = await asyncio.to_thread(ControlClient(find_socket(program.folder / "state")).status)
        return _OurClient(self._cell, program, status.id, self._versions)

    async def _node(self, *options: str) -> NodeProgram:
        start = functools.partial(self._ours.node, listen=self._listen)
        node: NodeProgram = await asyncio.to_thread(start, "--dir", "state", *self._security, *options)
        return node
