"""What a node says of itself: a signed record of where it is, made anew before it runs out and when it has changed."""

from __future__ import annotations

from collections.abc import Callable

from bethrou.net.host import Host
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.node_record import NodeRecord
from bethrou.wire.reach import Reach, reach

LIFETIME = 3600
"""Seconds that a record is good for: a node that has gone is forgotten within the hour by those it never told."""

_SECOND = 1_000_000_000


class OwnRecord:
    """The record of the node that `host` is, signed with `identity`. `time_ns` gives Unix time in nanoseconds.

    There is one record for whoever asks. One for neighbours on this machine and another for the rest of the world
    would both travel on, and the one with the higher number would win everywhere.
    """

    def __init__(
        self,
        host: Host,
        identity: Identity,
        time_ns: Callable[[], int],
        *,
        name: str = "",
        tags: tuple[str, ...] = (),
        roles: tuple[str, ...] = ("exit",),
        agent: str = "",
    ) -> None:
        self._host = host
        self._identity = identity
        self._time_ns = time_ns
        self._name = name
        self._tags = tags
        self._roles = roles
        self._agent = agent
        self._addresses: tuple[Multiaddr, ...] = ()
        self._sealed_at = 0
        self._seq = 0
        self._current: tuple[int, bytes] | None = None

    def current(self) -> tuple[int, bytes] | None:
        """The record's number and its envelope; None while there is no address worth telling.

        The number rises with every new record, also from one start of the program to the next.
        """
        addresses = addresses_to_tell(self._host)
        age = self._time_ns() - self._sealed_at
        if addresses != self._addresses or not 0 <= age < LIFETIME * _SECOND // 2:
            self._addresses = addresses
            self._current = self._seal() if addresses else None
        return self._current

    def describe(self, name: str, tags: tuple[str, ...]) -> None:
        """Say this of the node from now on."""
        if (name, tags) != (self._name, self._tags):
            self._name, self._tags = name, tags
            self._addresses = ()  # so that there is a new record

    def _seal(self) -> tuple[int, bytes]:
        now = self._time_ns()
        # Two in the same nanosecond, or a clock that was set back, must not make the later one the older.
        self._seq = max(now, self._seq + 1)
        record = NodeRecord(
            peer_id=self._identity.peer_id,
            seq=self._seq,
            expires=now // _SECOND + LIFETIME,
            addrs=self._addresses,
            name=self._name,
            tags=self._tags,
            roles=self._roles,
            agent=self._agent,
        )
        self._sealed_at = now
        return self._seq, record.trimmed().seal(self._identity)


def addresses_to_tell(host: Host) -> tuple[Multiaddr, ...]:
    """Where other members may find `host`, each address once.

    That is where it listens, and where its peers see it if it listens on all addresses: behind NAT nothing else
    leads to it. Addresses that only this machine can use are told when there are no others, so that a network on one
    machine works.
    """
    found = list(dict.fromkeys([*host.seen_addresses, *host.listen_addresses]))
    far = [address for address in found if reach(address) < Reach.LINK_LOCAL]
    return tuple(far or [address for address in found if reach(address) is Reach.LOOPBACK])
