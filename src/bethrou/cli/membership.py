"""The commands by which a network begins, devices join, and its operator says who belongs to it."""

from __future__ import annotations

from typing import Annotated

import typer

from bethrou.cli import options

_DirArgument = Annotated[str, typer.Argument(metavar="[DIR]", help="The network's directory.")]
_ListenOption = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Where to listen. A node: a multiaddr, else /ip4/0.0.0.0/tcp/4000; a client: HOST:PORT, else "
        "127.0.0.1:1080.",
        show_default=False,
    ),
]
_NodeOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="MULTIADDR",
        help="Where a node is, beside those that are known; repeatable.",
        show_default=False,
    ),
]
_ExitsOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="TAG",
        help="Only exits with this tag let it out; repeatable. Default: all.",
        show_default=False,
    ),
]
_RoleOption = Annotated[str, typer.Option(metavar="ROLE", help="client or node.")]
_WhoArgument = Annotated[
    str, typer.Argument(metavar="WHO", help="Its name, its peer ID, or the end of that.")
]

members = options.new_app("Who belongs to the network: needs the operator's key.", "bethrou")


def add_commands(app: typer.Typer) -> None:
    """Give `bethrou` its commands `init`, `invite`, `join` and `members`."""
    for command in (init, invite, join):
        app.command()(command)
    app.add_typer(members, name="members")


def init(
    directory: Annotated[str, typer.Argument(metavar="[DIR]", help="Where; made if it is not there.")] = ".",
    name: Annotated[
        str,
        typer.Option(metavar="NAME", help="What the network is called. Default: as DIR.", show_default=False),
    ] = "",
    listen: Annotated[
        str, typer.Option(metavar="MULTIADDR", help="Where the first node will listen.")
    ] = "/ip4/0.0.0.0/tcp/4000",
    node_name: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What the first node is called. Default: as this machine.",
            show_default=False,
        ),
    ] = "",
) -> None:
    """Make a network: its keys, the operator's key, and the first node. Files that are there are never touched."""
    from bethrou.cli.init import start_network

    start_network(name, directory, listen, node_name)


def invite(
    directory: _DirArgument = ".",
    role: _RoleOption = "client",
    name: Annotated[
        str | None,
        typer.Option(metavar="DEVICE", help="What the device will be called.", show_default=False),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="DURATION", help="How long the link can be used.")] = "24h",
    exits: _ExitsOption = None,
    qr: Annotated[
        bool,
        typer.Option("--qr", metavar=" ", help="Draw the link as a QR code, too.", show_default=False),
    ] = False,
    qr_file: Annotated[
        str | None,
        typer.Option(metavar="PATH", help="Write the QR code to a .png or .svg file.", show_default=False),
    ] = None,
    address: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MULTIADDR",
            help="Where the device finds the node, when the node cannot know it (behind NAT, a DNS name); repeatable.",
            show_default=False,
        ),
    ] = None,
    node: _NodeOption = None,
) -> None:
    """Print a link by which one device can join, once. It holds the network key."""
    from bethrou.cli.invite import InviteOptions
    from bethrou.cli.invite import invite as make_invite

    make_invite(
        InviteOptions(directory, qr, qr_file, expires, role, name, exits or (), address or (), node or ())
    )


def join(
    link: Annotated[
        str,
        typer.Argument(
            metavar="LINK",
            help="The link; - reads it from standard input, a file name from that file: so it stays out of the shell's "
            "history.",
        ),
    ],
    directory: Annotated[
        str, typer.Argument(metavar="[DIR]", help="Where its files go; made if it is not there.")
    ] = ".",
    listen: _ListenOption = None,
) -> None:
    """Join the network that a link of `bethrou invite` leads to, and say what to do next."""
    from bethrou.cli.join import join as join_network

    join_network(link, directory, listen)


@members.command("list")
def list_(
    directory: _DirArgument = ".",
    as_json: Annotated[
        bool, typer.Option("--json", metavar=" ", help="Print JSON.", show_default=False)
    ] = False,
    node: _NodeOption = None,
) -> None:
    """List who belongs to the network, as its nodes know it. Status 1: a node could not be reached."""
    from bethrou.cli.members import Where, list_members

    raise typer.Exit(list_members(Where(directory, node or ()), as_json))


@members.command()
def remove(who: _WhoArgument, directory: _DirArgument = ".", node: _NodeOption = None) -> None:
    """Put a device out; its links end at once. With an invite's ID: nobody can join by it."""
    from bethrou.cli.members import Where, remove_member

    raise typer.Exit(remove_member(Where(directory, node or ()), who))


@members.command("name")
def name_(
    who: _WhoArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it will be called.")],
    directory: _DirArgument = ".",
    node: _NodeOption = None,
) -> None:
    """Call a member something else."""
    from bethrou.cli.members import Where, name_member

    raise typer.Exit(name_member(Where(directory, node or ()), who, name))


@members.command()
def add(
    peer: Annotated[str, typer.Argument(metavar="PEER-ID", help="Its peer ID.")],
    directory: _DirArgument = ".",
    name: Annotated[str, typer.Option(metavar="NAME", help="What it is called.", show_default=False)] = "",
    role: _RoleOption = "client",
    exits: _ExitsOption = None,
    node: _NodeOption = None,
) -> None:
    """Add a device by its peer ID, or change what a member may."""
    from bethrou.cli.members import Where, add_member

    raise typer.Exit(add_member(Where(directory, node or ()), peer, name, role, exits or ()))
