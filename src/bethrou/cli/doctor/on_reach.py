"""How a client or node is reached: its addresses, the NAT before it, holes, relays."""

from __future__ import annotations

from collections.abc import Iterator

from bethrou.cli.doctor.facts import CLIENT, NODE, Facts
from bethrou.cli.doctor.finding import Finding, ok, problem, unknown, warning
from bethrou.cli.doctor.words import peer_name, peer_names
from bethrou.net.nat_kind import INDEPENDENT, NONE, SYMMETRIC
from bethrou.quantities import circuit_limits, counted, duration, size
from bethrou.snapshots import AddressReachability, RelaySnapshot
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.reach import is_public

FULL = 0.9
"""Share of a relay's places that are taken when it is time to say so."""


def addresses(facts: Facts) -> Iterator[Finding]:
    """Which of its addresses others can reach, as members found that tried."""
    reach = facts.reach
    if reach is None:
        return
    through_relays = any("/p2p-circuit" in address for address in reach.own)
    for each in reach.addresses:
        yield _address(each, facts, through_relays)
    if reach.addresses:
        return
    if facts.role == CLIENT:
        yield ok("reachability", "no public address of this client is known; it needs none")
    elif through_relays:
        yield ok("reachability", "no public address is known; members come through a relay")
    elif any(is_public(Multiaddr.parse(seen)) for seen in reach.nat.seen_at):
        text = f"members see this node at {reach.nat.seen_at[0]}, but nobody sees a port on which it listens"
        fix = "forward a port in the router to the one on which it listens, or name a relay with --connect-relay"
        yield problem("reachability", text, fix)
    else:
        own = reach.own[0] if reach.own else "none"
        yield unknown("reachability", f"no public address is known: only its own network reaches it ({own})")


def _address(found: AddressReachability, facts: Facts, through_relays: bool) -> Finding:
    address, asked = found.address, counted(found.asked, "member")
    if found.verdict == "reachable":
        by = f"{found.confirmed} of {asked} got through: {peer_names(found.confirmed_by)}"
        return ok("reachability", f"{address} is reachable ({by})", address)
    if found.verdict != "unreachable":
        why = "members do not agree" if found.confirmed or found.denied else "no member could try it"
        return unknown("reachability", f"{address}: {why}", address)
    by = f"{found.denied} of {asked} tried in vain: {peer_names(found.denied_by)}"
    text = f"{address} is not reachable ({by})"
    if facts.role == CLIENT:
        return ok("reachability", f"{text}; a client need not be", address)
    fix = _way_in(address, facts)
    if through_relays:
        return warning("reachability", f"{text}; members come through a relay", fix, address)
    return problem("reachability", text, f"{fix}; or name a relay with --connect-relay", address)


def _way_in(address: str, facts: Facts) -> str:
    """What to do so that a node can be reached."""
    listening = facts.status.listening if facts.status is not None else ()
    port = next((Multiaddr.parse(each).tcp_port for each in listening if each.startswith("/")), None)
    if facts.reach is not None and facts.reach.nat.kind == NONE:
        return f"open TCP port {Multiaddr.parse(address).tcp_port} in the firewall"
    return f"forward a TCP port of the router to port {port} of this machine, and open it in its firewall"


def nat(facts: Facts) -> Iterator[Finding]:
    """What kind of NAT there is, which decides whether holes can be punched."""
    if facts.reach is None:
        return
    seen = facts.reach.nat
    places = ", ".join(seen.seen_at[:2])
    if seen.kind == NONE:
        yield ok("nat", f"none: members see this machine's own address {places}")
    elif seen.kind == INDEPENDENT:
        name = "port-preserving NAT" if seen.keeps_port else "NAT that changes ports"
        text = f"{name}: from {seen.observers} places one port is seen at {places}; holes can be punched"
        yield ok("nat", text)
    elif seen.kind == SYMMETRIC:
        text = f"symmetric NAT: each place sees another port ({places}); holes cannot be punched"
        fix = "forward a TCP port in the router, or give one side of each pair a public address"
        yield warning("nat", text, fix)
    elif seen.seen_at:
        text = f"NAT of unknown kind: one port is seen at {places}, from {counted(seen.observers, 'place')}"
        yield unknown("nat", f"{text}; two that agree would tell")
    else:
        yield unknown("nat", "no member outside this network sees this machine")


def punching(facts: Facts) -> Iterator[Finding]:
    """Whether direct ways are opened in the place of circuits."""
    reach = facts.reach
    if reach is None:
        return
    if not reach.punching:
        yield ok("punching", "off")
        return
    opened = sum(each.ok for each in reach.punches)
    tried = f"; direct ways to {opened} of {counted(len(reach.punches), 'peer')}" if reach.punches else ""
    if reach.punchable:
        yield ok("punching", f"peers are told of {', '.join(reach.punchable[:2])}{tried}")
    else:
        yield unknown(
            "punching", f"no member sees a port of this {facts.role} at a public address yet{tried}"
        )


def relays(facts: Facts) -> Iterator[Finding]:
    """Relays through which it is reached, or which carry its circuits, and what they let a circuit carry."""
    if facts.status is None:
        return
    found = (
        facts.status.relays if facts.role == NODE else facts.reach.relays if facts.reach is not None else ()
    )
    for relay in found:
        yield _relay(relay, facts.role)


def _relay(relay: RelaySnapshot, role: str) -> Finding:
    name = f"relay {peer_name(relay.id)}"
    if role == NODE and not relay.reserved:
        reason = relay.reason or "nothing heard of it yet"
        fix = "see that it runs with --relay-mode, that its address is right, and that it has room"
        return warning("relays", f"{name} brings no members: {reason}", fix, relay.id)
    limits = circuit_limits(relay.duration, relay.data)
    does = "carries circuits of this client"
    if role == NODE:
        left = "" if relay.expires_in is None else f" for {duration(relay.expires_in, 1)} unless renewed"
        does = f"brings members here{left}"
    if relay.duration or relay.data:
        fix = "have its operator allow more (--relay-duration, --relay-data), or use another relay"
        return warning("relays", f"{name} {does}, and cuts a circuit off after {limits}", fix, relay.id)
    return ok("relays", f"{name} {does}; {limits}", relay.id)


def relaying(facts: Facts) -> Iterator[Finding]:
    """What a relay carries, and whether it has room."""
    relaying = facts.status.relaying if facts.status is not None else None
    if relaying is None:
        return
    limits = circuit_limits(relaying.duration, relaying.data)
    text = (
        f"relays for {relaying.reservations} of {counted(relaying.max_reservations, 'node')}, "
        f"{relaying.circuits} of {counted(relaying.max_circuits, 'circuit')}, {size(relaying.relayed)} so far; "
        f"a circuit: {limits}"
    )
    shares = {
        "--relay-reservations": relaying.reservations / relaying.max_reservations,
        "--relay-circuits": relaying.circuits / relaying.max_circuits,
    }
    tight = [option for option, share in shares.items() if share >= FULL]
    if tight:
        yield warning(
            "relaying", f"nearly full: {text}", f"raise {' and '.join(tight)}, or start another relay"
        )
    else:
        yield ok("relaying", text)
