"""Our own programs' insides at work in network namespaces: a relay, an exit, a client, each on a loop in there."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Any

from bethrou.net.link import DIRECT
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey
from live.applications import application
from live.members import Client, Kind, Node, running_client, running_node
from live.namespaces import Call, Namespace, Result
from live.targets import echo, target
from live.waiting import until

LISTEN = "/ip4/0.0.0.0/tcp/4001"


@contextlib.asynccontextmanager
async def on(call: Call, context: AbstractAsyncContextManager[Result]) -> AsyncIterator[Result]:
    """An async context whose both ends are run by `call`."""
    entered = await call(context.__aenter__())  # type: ignore[arg-type]
    try:
        yield entered
    finally:
        await call(context.__aexit__(None, None, None))  # type: ignore[arg-type]


class RelayInThere:
    """A relay of ours with a public address."""

    def __init__(self, call: Call, node: Node, host: str) -> None:
        self.id = str(node.app.host.peer_id)
        self.address = f"/ip4/{host}/tcp/4001/p2p/{self.id}"
        self._call = call
        self._node = node

    async def told(self, peer: str, protocol: str) -> None:
        """Wait until a peer has told that it answers `protocol`."""

        def lists() -> bool:
            links = self._node.app.host.links.get(PeerId.parse(peer), [])
            return any(link.statement and protocol in link.statement.protocols for link in links)

        await self._call(until(lists))

    async def knows(self, peer: str) -> None:
        """Wait until it has heard of a member."""
        known = self._node.app.discovery.directory.entries
        await self._call(until(lambda: PeerId.parse(peer) in known))

    async def tells_of_circuits_to(self, peer: str) -> None:
        """Wait until members are told that a node can be reached by a circuit."""
        known = self._node.app.discovery.directory.entries

        def tells() -> bool:
            entry = known.get(PeerId.parse(peer))
            return entry is not None and any(address.is_circuit for address in entry.addresses)

        await self._call(until(tells, what=lambda: known))

    async def reserved(self) -> set[str]:
        """Who can be reached through it now."""

        async def look() -> set[str]:
            relay = self._node.app._relay
            assert relay is not None
            return set(map(str, relay.reservations))

        return await self._call(look())


@contextlib.asynccontextmanager
async def relay_at(place: Namespace, key: NetworkKey, **options: Any) -> AsyncIterator[RelayInThere]:
    """A relay for the length of a block."""
    with place.loop() as call:
        async with on(
            call, running_node(key, listen=LISTEN, relay_mode=True, no_exit=True, **options)
        ) as node:
            yield RelayInThere(call, node, place.address)


@contextlib.asynccontextmanager
async def exit_at(place: Namespace, key: NetworkKey, relay: RelayInThere) -> AsyncIterator[str]:
    """An exit of ours that is reached through `relay`; its peer ID."""
    with place.loop() as call:
        async with on(call, running_node(key, listen=LISTEN, connect_relay=[relay.address])) as node:
            await call(until(lambda: any(each.is_circuit for each in node.app.host.listen_addresses)))
            yield str(node.app.host.peer_id)


class ClientInThere:
    """A client of ours in a namespace."""

    def __init__(self, call: Call, client: Client) -> None:
        self._call = call
        self._client = client

    async def direct(self, exit_: str) -> tuple[str, bool]:
        """Wait until requests go to the exit without a relay: its address as seen, and whether we initiated."""

        async def wait() -> tuple[str, bool]:
            await until(
                lambda: (
                    self._client.app.core.pool.exits[exit_].link is not None
                    and self._client.link_to(exit_).path == DIRECT
                )
            )
            link = self._client.link_to(exit_)
            return str(link.remote), link.initiator

        return await self._call(wait())

    async def reaches(self, exit_: str) -> None:
        """Wait until requests can go to the exit, whichever way."""

        def usable() -> bool:
            exits = self._client.app.core.pool.exits
            return exit_ in exits and exits[exit_].usable

        await self._call(until(usable, what=lambda: self._client.events.all))

    async def path(self, exit_: str) -> str:
        """How requests go to the exit now."""

        async def look() -> str:
            return self._client.link_to(exit_).path

        return await self._call(look())

    async def told(self, kind: type[Kind]) -> Kind:
        """The first event of this kind, once it is there."""
        return await self._call(self._client.events.wait(kind))

    async def echoed(self, host: str, port: int) -> None:
        """Send something to an echoing target through the exit, and have it back."""

        async def talk() -> None:
            async with application(self._client.proxy, host, port) as app:
                app.writer.write(b"there and back")
                assert await app.reader.readexactly(14) == b"there and back"

        await self._call(talk())


@contextlib.asynccontextmanager
async def client_at(
    place: Namespace, key: NetworkKey, relay: RelayInThere, exit_: str
) -> AsyncIterator[ClientInThere]:
    """A client of ours that knows of one exit, behind `relay`; requests can be sent to it."""
    with place.loop() as call:
        address = f"{relay.address}/p2p-circuit/p2p/{exit_}"
        async with on(call, running_client(key, [address])) as client:
            yield ClientInThere(call, client)


@contextlib.asynccontextmanager
async def echo_at(place: Namespace) -> AsyncIterator[int]:
    """A target on loopback in there that sends back what it gets; its port."""
    with place.loop() as call:
        async with on(call, target(echo)) as there:
            yield there.port
