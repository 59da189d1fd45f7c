"""The program `bethrou`: try it out, make keys, ask running programs, and all that bethrou-node and -client do."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from bethrou.cli import client, membership, node, operate, options
from bethrou.cli.program import run_program

app = options.new_app(
    "A private peer-to-peer proxy network: your applications' traffic leaves through servers that you own.",
    "bethrou",
)
keys = options.new_app("Network keys: whoever holds one is a member of the network.", "bethrou")
app.add_typer(keys, name="key")
app.add_typer(node.app, name="node")
app.add_typer(client.app, name="client")


@app.command()
def up(
    socks: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where applications connect.")
    ] = "127.0.0.1:1080",
    directory: Annotated[
        str | None,
        typer.Option(
            "--dir",
            metavar="DIR",
            help="Where keys and state live. Default: bethrou/up in $XDG_STATE_HOME or ~/.local/state.",
            show_default=False,
        ),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CIDR[:PORT]",
            help="Permit destinations that are denied by default, such as 127.0.0.0/8; repeatable.",
            show_default=False,
        ),
    ] = None,
    open_to_all: options.OpenOption = False,
    log_level: options.LogLevelOption = None,
    log_format: options.LogFormatOption = None,
    hide_destinations: options.HideDestinationsOption = False,
) -> None:
    """Start a whole private network on this machine: an exit node and a client. Ctrl-C stops it."""
    from bethrou.cli.up import UpOptions, start_up

    log = options.log_options(log_level, log_format, hide_destinations)
    start_up(UpOptions(socks, directory, tuple(allow or ()), open_to_all, log))


membership.add_commands(app)
operate.add_commands(app)


@app.command()
def env(
    shell: Annotated[
        str,
        typer.Option(metavar="SHELL", help="sh, fish or csh. Default: what $SHELL says.", show_default=False),
    ] = "",
    user: options.WishOption = "",
    unset: Annotated[
        bool, typer.Option("--unset", metavar=" ", help="Take the variables away again.", show_default=False)
    ] = False,
    directory: operate.DirOption = None,
    instance: operate.InstanceOption = None,
) -> None:
    """Print shell lines that have programs use the running client: eval "$(bethrou env)"."""
    from bethrou.cli.application_commands import show_environment

    show_environment(operate.wanted(directory, instance, operate.CLIENT), shell, user, unset)


@app.command("run", context_settings={"allow_interspersed_args": False})
def run_through(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND [ARGUMENT]...", help="What to run.")],
    user: options.WishOption = "",
    wait: Annotated[float, typer.Option(metavar="SECONDS", help="How long to wait for an exit.", min=0)] = 30,
    directory: operate.DirOption = None,
    instance: operate.InstanceOption = None,
) -> None:
    """Run a command whose traffic goes through the running client, as soon as that has an exit."""
    from bethrou.cli.application_commands import run_command

    wanted = operate.wanted(directory, instance, operate.CLIENT)
    raise typer.Exit(run_command(wanted, command, user, wait))


@app.command()
def completion(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish.")],
) -> None:
    """Print what the shell needs to complete commands and options: source <(bethrou completion bash)."""
    from bethrou.cli.completion import completion_script

    programs = {"bethrou": app, "bethrou-node": node.app, "bethrou-client": client.app}
    print(completion_script(shell, programs))


@keys.command("new")
def key_new(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="The file to write.")] = "network.key",
) -> None:
    """Make a network key. A file that is already there is never touched."""
    from bethrou.cli.key_commands import new_key

    new_key(path)


@keys.command("identity")
def key_identity(
    path: Annotated[str, typer.Argument(metavar="[PATH]", help="The file to write.")] = "node.key",
) -> None:
    """Make a node's identity, and print its peer ID. A file that is already there is never touched."""
    from bethrou.cli.key_commands import new_identity

    new_identity(path)


@keys.command("show")
def key_show(
    path: Annotated[str, typer.Argument(metavar="PATH", help="A network key or a node's identity.")],
) -> None:
    """Show a network key's fingerprint or an identity's peer ID; never the key itself."""
    from bethrou.cli.key_commands import show_key

    show_key(path)


def run() -> NoReturn:
    """The program `bethrou`."""
    run_program("bethrou", app, node.SWITCHES)


if __name__ == "__main__":
    run()
