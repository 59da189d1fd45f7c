"""The configurations that `bethrou init` and `bethrou join` write, with the options that a user wants."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId


def node_yaml(
    *, key: Path, identity: Path, operator: PeerId, name: str, listen: str, peers: Sequence[Multiaddr] = ()
) -> bytes:
    """Return a node.yaml. Paths in it are absolute, so that the node can be started from anywhere."""
    lines = [
        "# A Bethrou node. README.md, Reference, has every key; an option on the command line wins over this file.",
        f"# Start it:  bethrou node start --config {key.parent / 'node.yaml'}",
        "",
        f"key: {_quoted(key)}",
        f"identity: {_quoted(identity)}",
        "",
        "# Where members connect. This port has to be open to them. Add /ip6/::/tcp/4000 for IPv6.",
        "listen:",
        f"  - {listen}",
        "# Where members find it, too, when it cannot know: a port of a router that leads here, a DNS name.",
        "# announce:",
        "#   - /dns4/exit.example.org/tcp/4000",
        "",
        "# What members see, and choose by: exit=NAME or tag=TAG in a SOCKS user name.",
        f"name: {json.dumps(name)}",
        "tags: []",
        "# tags: [eu, fast]",
        "",
        "# Who gets in. The operator signs the member list; invites are redeemed at this node.",
        "#   required  only devices of the list, and those that came by an invite",
        "#   open      whoever holds the network key (the Go program, too), except devices that were removed",
        f"operator: {operator}",
        "members: required",
        "",
        "# Other nodes of the network: they tell each other, and members, which nodes there are.",
        *_listed("peers", peers),
        "",
        "# Where traffic may leave to. Private, local and reserved addresses and port 25 are denied by default.",
        "# allow:",
        "#   - 10.20.0.0/16",
        "#   - 192.168.1.10:443",
        "# deny:",
        "#   - 198.51.100.0/24",
        "",
        "# Relay for members who cannot reach each other; with no_exit it does nothing else.",
        "relay_mode: false",
        "# no_exit: true",
        "",
        "# How long live connections may go on when the node is stopped.",
        "grace: 30s",
        "",
        "# Read this file again whenever it changes.",
        "watch: true",
        "",
        "log:",
        "  level: info",
        "  format: text",
        "  hide_destinations: false",
        "",
    ]
    return "\n".join(lines).encode()


def client_yaml(
    *, key: Path, identity: Path, operator: PeerId, listen: str, nodes: Sequence[Multiaddr]
) -> bytes:
    """Return a client.yaml. `nodes`: addresses that say whose they are, at least one."""
    by_peer: dict[PeerId, list[Multiaddr]] = {}
    for address in nodes:
        if address.peer_id is not None:
            by_peer.setdefault(address.peer_id, []).append(address)
    lines = [
        "# A Bethrou client. README.md, Reference, has every key.",
        f"# Start it:  bethrou client start --config {key.parent / 'client.yaml'}",
        "",
        f"key: {_quoted(key)}",
        "# Who this device is: the member list knows it by this.",
        f"identity: {_quoted(identity)}",
        f"operator: {operator}",
        "# required: only nodes of the member list serve this client.",
        "members: required",
        "",
        "# Where applications connect.",
        "server:",
        f'  listen: "{listen}"',
        "",
        "# Exits. Others are found by themselves: members tell each other.",
        "nodes:",
    ]
    for peer, addresses in by_peer.items():
        lines += [f"  - id: {peer}", "    addrs:", *(f"      - {each.without_peer()}" for each in addresses)]
    lines += [
        "",
        "routing:",
        "  strategy: random  # round-robin, fastest, ordered, least-loaded, sticky",
        "",
        "# Which destinations take which exits: README.md, Rules.",
        "# rules:",
        "#   - {domain: corp.example, use: exit=berlin}",
        "#   - {domain: [ads.example], use: block}",
        "",
        "# Read this file again whenever it changes.",
        "watch: true",
        "",
        "log:",
        "  level: info",
        "",
    ]
    return "\n".join(lines).encode()


def _listed(key: str, items: Sequence[object]) -> list[str]:
    return [f"{key}:", *(f"  - {item}" for item in items)] if items else [f"{key}: []"]


def _quoted(path: Path) -> str:
    return json.dumps(str(path), ensure_ascii=False)
