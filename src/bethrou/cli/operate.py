"""The commands that ask running programs, as they are typed; cli/control_commands.py is what they do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from bethrou.errors import ConfigError

if TYPE_CHECKING:
    from bethrou.cli.instances import Wanted

CLIENT, NODE = "client", "node"

DirOption = Annotated[
    str | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="The program whose state is in DIR. Default: the one that runs.",
        show_default=False,
    ),
]
InstanceOption = Annotated[
    str | None,
    typer.Option(
        "--instance", metavar="NAME", help="The program that was started with this name.", show_default=False
    ),
]
_NodeOption = Annotated[bool, typer.Option("--node", metavar=" ", help="The node.", show_default=False)]
_ClientOption = Annotated[bool, typer.Option("--client", metavar=" ", help="The client.", show_default=False)]
_JsonOption = Annotated[
    bool, typer.Option("--json", metavar=" ", help="For programs, with all there is.", show_default=False)
]


def add_commands(app: typer.Typer) -> None:
    """Give `app` the commands for programs of either kind."""
    for command in (status, doctor, why, connections, events, reload):
        app.command()(command)


def add_drain(app: typer.Typer, role: str) -> None:
    """Give the group of commands of one kind `drain`."""

    @app.command(help=f"Have the running {role} take nothing new, and end when what is open has finished.")
    def drain(directory: DirOption = None, instance: InstanceOption = None) -> None:
        from bethrou.cli import control_commands

        raise typer.Exit(control_commands.drain(wanted(directory, instance, role)))


def status(
    directory: DirOption = None,
    instance: InstanceOption = None,
    node: _NodeOption = False,
    client: _ClientOption = False,
    as_json: _JsonOption = False,
    check: Annotated[
        bool, typer.Option("--check", metavar=" ", help="One line is enough.", show_default=False)
    ] = False,
    watch: Annotated[
        bool, typer.Option("--watch", metavar=" ", help="Go on showing it, live.", show_default=False)
    ] = False,
) -> None:
    """Show how the running client or node does. Status: 0 it serves, 1 it does not, 3 nothing runs."""
    from bethrou.cli import control_commands

    found = wanted(directory, instance, _role(node, client))
    if watch:
        raise typer.Exit(control_commands.watch_status(found))
    raise typer.Exit(control_commands.show_status(found, as_json, check))


def doctor(
    config: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="A client.yaml or node.yaml to look at. Default: that of the running program, else client.yaml.",
            show_default=False,
        ),
    ] = None,
    directory: DirOption = None,
    instance: InstanceOption = None,
    node: _NodeOption = False,
    client: _ClientOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Find out what is wrong with a client or node, why, and what to do. Status 1: something does not work."""
    from bethrou.cli.doctor.command import doctor as examine

    raise typer.Exit(examine(wanted(directory, instance, _role(node, client)), config, as_json))


def why(
    target: Annotated[str, typer.Argument(metavar="HOST:PORT", help="Where the request would go.")],
    user: Annotated[
        str,
        typer.Option(
            metavar="USER", help="The user name of the application, with its wishes.", show_default=False
        ),
    ] = "",
    directory: DirOption = None,
    instance: InstanceOption = None,
    as_json: _JsonOption = False,
) -> None:
    """Explain which exit a request would get from the running client. Status 1: none."""
    from bethrou.cli import control_commands

    raise typer.Exit(control_commands.show_why(wanted(directory, instance, CLIENT), target, user, as_json))


def connections(
    directory: DirOption = None,
    instance: InstanceOption = None,
    node: _NodeOption = False,
    client: _ClientOption = False,
    as_json: _JsonOption = False,
    close: Annotated[
        str | None,
        typer.Option(metavar="ID", help="End this connection instead of listing.", show_default=False),
    ] = None,
) -> None:
    """List what is being carried, or end one connection."""
    from bethrou.cli import control_commands

    found = wanted(directory, instance, _role(node, client))
    if close is not None:
        raise typer.Exit(control_commands.close_connection(found, close))
    raise typer.Exit(control_commands.show_connections(found, as_json))


def events(
    directory: DirOption = None,
    instance: InstanceOption = None,
    node: _NodeOption = False,
    client: _ClientOption = False,
    as_json: _JsonOption = False,
) -> None:
    """Follow what happens, a line each, until Ctrl-C."""
    from bethrou.cli import control_commands

    found = wanted(directory, instance, _role(node, client))
    raise typer.Exit(control_commands.follow_events(found, as_json))


def reload(
    directory: DirOption = None,
    instance: InstanceOption = None,
    node: _NodeOption = False,
    client: _ClientOption = False,
) -> None:
    """Have the configuration read again, and say what changed. A bad file changes nothing."""
    from bethrou.cli import control_commands

    raise typer.Exit(control_commands.reload(wanted(directory, instance, _role(node, client))))


def _role(node: bool, client: bool) -> str:
    if node and client:
        raise ConfigError("--node: and --client exclude each other; leave one of them out")
    return NODE if node else CLIENT if client else ""


def wanted(directory: str | None, instance: str | None, role: str) -> Wanted:
    """The program that the options mean; `role` is client, node, or "" for either."""
    from bethrou.cli.instances import Wanted
    from bethrou.cli.state_dir import StateChoice

    return Wanted(StateChoice(directory, instance), role)
