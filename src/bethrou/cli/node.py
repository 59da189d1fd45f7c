"""The program `bethrou-node`, a drop-in for Go's, and the commands `bethrou node ...`."""

from __future__ import annotations

from typing import Annotated, Any, NoReturn

import typer

from bethrou.cli import operate, options
from bethrou.cli.program import run_program, warn

SWITCHES = ("--discover", "--relay-mode")
"""Options without a value that Go's program has too."""

_PROGRAM = "bethrou-node"

app = options.new_app("An exit node: members' traffic leaves the private network here.", _PROGRAM)


@app.callback()
def node() -> None:
    """An exit node: members' traffic leaves the private network here."""


_DISCOVERY = "Discovery through Redis"
_RELAYS = "Relays"
_MEMBERS = "Members"
_USUAL_REDIS = "redis://localhost:6379"


@app.command()
def start(
    context: typer.Context,
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A node.yaml with these options as keys; what is given here counts for more.",
            show_default=False,
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MULTIADDR",
            help="Where to listen; repeatable. Default: /ip4/0.0.0.0/tcp/4000.",
            show_default=False,
        ),
    ] = None,
    announce: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MULTIADDR",
            help="Tell members that the node can be reached there, too: a web server in front of it; repeatable.",
            show_default=False,
        ),
    ] = None,
    proxy: options.ProxyOption = None,
    key: options.KeyOption = None,
    identity: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The node's private key, made if it is not there. Default: node.key.",
            show_default=False,
        ),
    ] = None,
    operator: Annotated[
        str | None,
        typer.Option(
            metavar="PEER-ID",
            help="Whose member list counts, and whose invites are redeemed here: see `bethrou init`.",
            rich_help_panel=_MEMBERS,
            show_default=False,
        ),
    ] = None,
    members: Annotated[
        str | None,
        typer.Option(
            metavar="POLICY",
            help="required: only members of that list get in; open (default): whoever holds the network key.",
            rich_help_panel=_MEMBERS,
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR[:PORT]",
            help="Permit destinations that are denied by default (private, local and reserved addresses); repeatable.",
            show_default=False,
        ),
    ] = None,
    deny: Annotated[
        list[str] | None,
        typer.Option(metavar="CIDR[:PORT]", help="Deny destinations; repeatable.", show_default=False),
    ] = None,
    resolver: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS[:PORT]",
            help="Name server to ask, repeatable; or the word system. Default: those of resolv.conf.",
            show_default=False,
        ),
    ] = None,
    security: options.SecurityOption = None,
    directory: options.StateOption = None,
    instance: options.InstanceOption = None,
    grace: options.GraceOption = None,
    metrics: options.MetricsOption = None,
    name: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="What members may call this node.", show_default=False),
    ] = None,
    tag: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TAG", help="What members may choose this node by; repeatable.", show_default=False
        ),
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MULTIADDR",
            help="Another node of this network, ending in /p2p/ID: the two tell each other, and whoever asks them, of "
            "all nodes that they know; repeatable.",
            show_default=False,
        ),
    ] = None,
    tls_certificate: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="The certificate for listening on /wss, with its chain (PEM).",
            show_default=False,
        ),
    ] = None,
    tls_key: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Its private key. Default: in the file of the certificate.",
            show_default=False,
        ),
    ] = None,
    tls_ca: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Certificates by which /wss servers are known. Default: the system's.",
            show_default=False,
        ),
    ] = None,
    log_level: options.LogLevelOption = None,
    log_format: options.LogFormatOption = None,
    hide_destinations: options.HideDestinationsOption = False,
    discover: Annotated[
        bool,
        typer.Option(
            "--discover",
            metavar=" ",
            help="Announce this node on Redis.",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = False,
    discover_address: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="The Redis server, redis://HOST:PORT or rediss://HOST:PORT (TLS).",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = None,
    discover_user: Annotated[
        str | None,
        typer.Option(metavar="USER", help="User on Redis.", rich_help_panel=_DISCOVERY, show_default=False),
    ] = None,
    discover_pass: Annotated[
        str | None,
        typer.Option(
            metavar="PASSWORD",
            help="Password on Redis. Others on this machine can see it: set the variable instead.",
            envvar="BETHROU_DISCOVER_PASS",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = None,
    discover_topic: Annotated[
        str | None,
        typer.Option(
            metavar="TOPIC",
            help="Topic for announcements. Default: one made of the network key.",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = None,
    discover_sealed: Annotated[
        bool,
        typer.Option(
            "--discover-sealed",
            metavar=" ",
            help="Nothing readable for whoever runs Redis; Go programs can then not read it either.",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = False,
    discover_ca: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Certificates by which a rediss:// server is known. Default: the system's.",
            rich_help_panel=_DISCOVERY,
            show_default=False,
        ),
    ] = None,
    connect_relay: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MULTIADDR",
            help="Be reachable through this relay, too; ends in /p2p/ID; repeatable.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    no_auto_relay: Annotated[
        bool,
        typer.Option(
            "--no-auto-relay",
            metavar=" ",
            help="Use no relays but those that are named, also when nobody can reach this node.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = False,
    relay_mode: Annotated[
        bool,
        typer.Option(
            "--relay-mode",
            metavar=" ",
            help="Relay for other members.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = False,
    no_exit: Annotated[
        bool,
        typer.Option(
            "--no-exit",
            metavar=" ",
            help="Only relay: no traffic leaves the network here.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = False,
    no_punch: Annotated[
        bool,
        typer.Option(
            "--no-punch",
            metavar=" ",
            help="Open no direct ways through NATs in place of relays.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = False,
    relay_reservations: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Nodes that can be reached through this relay. Default: 2048.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_circuits: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Circuits at once. Default: 4096.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_circuits_per_peer: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            help="Circuits that a member may have opened, and that may lead to one. Default: 1024.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Bytes a second of all circuits together (10MB, 512KiB). Default: no limit.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_circuit_rate: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Bytes a second of one circuit. Default: no limit.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_duration: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long a circuit may last. Default: no limit.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
    relay_data: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Bytes that a circuit may carry each way. Default: no limit.",
            rich_help_panel=_RELAYS,
            show_default=False,
        ),
    ] = None,
) -> None:
    """Start the node. SIGTERM or Ctrl-C stops it; live connections may finish."""
    from bethrou.cli.start_node import start_node
    from bethrou.cli.state_dir import StateChoice

    options.warn_of_visible_proxy(context, _PROGRAM, proxy)
    if discover_pass and _is_on_command_line(context, "discover_pass"):
        warn(
            _PROGRAM, "everybody on this machine can read --discover-pass; set BETHROU_DISCOVER_PASS instead"
        )

    given = {
        "listen": listen,
        "announce": announce,
        "proxy": proxy,
        "tls_certificate": tls_certificate,
        "tls_key": tls_key,
        "tls_ca": tls_ca,
        "key": key,
        "identity": identity,
        "operator": operator,
        "members": members,
        "allow": allow,
        "deny": deny,
        "resolver": resolver,
        "security": security,
        "grace": grace,
        "metrics": metrics,
        "name": name,
        "tags": tag,
        "peers": peer,
        "log": options.log_options(log_level, log_format, hide_destinations),
        "connect_relay": [address for address in connect_relay or () if address],
        "auto_relay": False if no_auto_relay else None,
        "relay_mode": relay_mode or None,
        "no_exit": no_exit or None,
        "punch": False if no_punch else None,
        "relay_reservations": relay_reservations,
        "relay_circuits": relay_circuits,
        "relay_circuits_per_peer": relay_circuits_per_peer,
        "relay_rate": relay_rate,
        "relay_circuit_rate": relay_circuit_rate,
        "relay_duration": relay_duration,
        "relay_data": relay_data,
        "discovery": _said(
            {
                "enabled": discover or None,
                "address": discover_address or (_USUAL_REDIS if discover and config is None else None),
                "user": discover_user,
                "pass": discover_pass,
                "topic": discover_topic,
                "sealed": discover_sealed or None,
                "ca": discover_ca,
            }
        ),
    }
    start_node(config, _said(given), StateChoice(directory, instance))


def _said(given: dict[str, Any]) -> dict[str, Any]:
    """What was said, of all that can be."""
    return {field: value for field, value in given.items() if value not in (None, [], {})}


def _is_on_command_line(context: typer.Context, parameter: str) -> bool:
    source = context.get_parameter_source(parameter)
    return source is not None and source.name == "COMMANDLINE"


operate.add_drain(app, operate.NODE)


def run() -> NoReturn:
    """The program `bethrou-node`."""
    run_program(_PROGRAM, app, SWITCHES)


if __name__ == "__main__":
    run()
