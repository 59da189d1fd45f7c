"""Which NAT we are behind, by what peers say: RFC 4787's kinds, and what says nothing."""

from __future__ import annotations

import pytest

from bethrou.net.nat_kind import INDEPENDENT, NONE, SYMMETRIC, UNKNOWN, Observation, nat_kind
from bethrou.snapshots import NatSnapshot
from bethrou.wire.multiaddr import Multiaddr

HOME = Multiaddr.parse("/ip4/10.0.0.2/tcp/4001")
OTHER_PORT = Multiaddr.parse("/ip4/10.0.0.2/tcp/50123")
SERVER = Multiaddr.parse("/ip4/5.5.1.1/tcp/4001")


def seen(
    at: str, by: str, local: Multiaddr = HOME, outbound: bool = True, peer: str | None = None
) -> Observation:
    """`by` sees `local` at the address and port `at`."""
    host, _, port = at.partition(":")
    return Observation(peer or by, by, local, Multiaddr.tcp(host, int(port)), outbound)


@pytest.mark.parametrize(
    ("observations", "kind", "keeps_port"),
    [
        ([seen("5.5.2.1:4001", "5.5.0.1"), seen("5.5.2.1:4001", "5.5.0.2")], INDEPENDENT, True),
        ([seen("5.5.2.1:61000", "5.5.0.1"), seen("5.5.2.1:61000", "5.5.0.2")], INDEPENDENT, False),
        ([seen("5.5.2.1:61000", "5.5.0.1"), seen("5.5.2.1:61001", "5.5.0.2")], SYMMETRIC, False),
        # the mapping may depend on the destination's port alone
        (
            [seen("5.5.2.1:61000", "5.5.0.1"), seen("5.5.2.1:61001", "5.5.0.1", peer="other")],
            SYMMETRIC,
            False,
        ),
        # one place sees it, however many peers there are
        ([seen("5.5.2.1:4001", "5.5.0.1"), seen("5.5.2.1:4001", "5.5.0.1", peer="other")], UNKNOWN, True),
        ([seen("5.5.2.1:4001", "5.5.0.1")], UNKNOWN, True),
        # two ports of ours cannot be compared
        ([seen("5.5.2.1:4001", "5.5.0.1"), seen("5.5.2.1:7", "5.5.0.2", OTHER_PORT)], UNKNOWN, True),
        # two ways out: two networks, or a NAT with several addresses
        ([seen("5.5.2.1:4001", "5.5.0.1"), seen("5.5.3.1:4001", "5.5.0.2")], UNKNOWN, True),
        # who came in by a forwarded port says nothing of what the NAT makes of ours
        (
            [
                seen("5.5.2.1:4001", "5.5.0.1"),
                seen("5.5.2.1:4001", "5.5.0.2"),
                seen("5.5.2.1:80", "5.5.0.3", outbound=False),
            ],
            INDEPENDENT,
            True,
        ),
        ([seen("5.5.2.1:4001", "5.5.0.1", outbound=False)], UNKNOWN, False),
        # on the Internet itself
        ([seen("5.5.1.1:4001", "5.5.0.1", SERVER, outbound=False)], NONE, False),
        # from the same network or machine nothing can be seen of a NAT
        ([seen("10.0.0.2:4001", "10.0.0.3")], UNKNOWN, False),
        ([seen("10.0.0.2:4001", "10.0.0.3"), seen("5.5.2.1:4001", "5.5.0.1")], UNKNOWN, True),
        ([], UNKNOWN, False),
    ],
)
def test_kinds(observations: list[Observation], kind: str, keeps_port: bool) -> None:
    found = nat_kind(observations)
    assert (found.kind, found.keeps_port) == (kind, keeps_port)
    assert nat_kind(observations[::-1]).kind == kind


def test_what_it_goes_by_is_told() -> None:
    found = nat_kind([seen("5.5.2.1:61000", "5.5.0.1"), seen("5.5.2.1:61001", "5.5.0.2")])
    assert found == NatSnapshot(SYMMETRIC, ("/ip4/5.5.2.1/tcp/61000", "/ip4/5.5.2.1/tcp/61001"), 2)
