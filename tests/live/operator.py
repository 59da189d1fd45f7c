"""An operator, a node and a device, and what they sign, for tests of invites and member lists."""

from __future__ import annotations

from bethrou.wire.grant import CLIENT, NODE, Admission, Grant, seal_redemption
from bethrou.wire.keys import Identity
from bethrou.wire.member_list import Member, MemberList, Removed
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.psk import NetworkKey

NOW = 1_800_000_000
KEY = NetworkKey(bytes(range(32)))


def identity(name: str) -> Identity:
    return Identity(name.encode().ljust(32, b"."))


OPERATOR, NODE_A, NODE_B = identity("operator"), identity("node a"), identity("node b")
DEVICE, THIEF, OTHER_OPERATOR = identity("device"), identity("thief"), identity("other operator")
SECRET = identity("secret of the invite")
ADDRESS = Multiaddr.parse(f"/ip4/203.0.113.7/tcp/4000/p2p/{NODE_A.peer_id}")


def grant(
    secret: Identity = SECRET,
    *,
    name: str = "laptop",
    role: str = CLIENT,
    exits: tuple[str, ...] = (),
    issued: int = NOW,
    expires: int = NOW + 3600,
    network: str = KEY.fingerprint,
) -> Grant:
    return Grant(network, secret.peer_id, name, role, exits, issued, expires)


def admission(
    peer: Identity = DEVICE,
    node: Identity = NODE_A,
    *,
    granted: Grant | None = None,
    secret: Identity = SECRET,
    operator: Identity = OPERATOR,
    time: int = NOW + 10,
) -> bytes:
    """The envelope in which `node` says that `peer` has come by an invite."""
    granted = granted or grant(secret)
    redemption = seal_redemption(secret, peer.peer_id)
    return Admission.seal(node, granted.seal(operator), redemption, time)


def member_list(
    serial: int = 1,
    members: tuple[Member, ...] = (Member(NODE_A.peer_id, "a", NODE),),
    removed: tuple[Removed, ...] = (),
    network: str = KEY.fingerprint,
) -> MemberList:
    return MemberList(network, serial, NOW, members, removed, "home")
