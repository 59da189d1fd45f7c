"""Options that several commands share. Values stay text here: the configuration's models check them."""

from __future__ import annotations

from typing import Annotated

import typer

from bethrou.cli.program import warn

KeyOption = Annotated[
    str | None,
    typer.Option(
        "--key",
        metavar="PATH",
        help="The network key. Default: network.key in this directory or one of the two above it.",
        show_default=False,
    ),
]
OpenOption = Annotated[
    bool,
    typer.Option(
        "--open",
        metavar=" ",
        help="Listen beyond this machine although no user is set: whoever reaches the port gets in.",
        show_default=False,
    ),
]
ProxyOption = Annotated[
    str | None,
    typer.Option(
        "--proxy",
        metavar="URL",
        help="Reach members through this proxy: http://[USER:PASSWORD@]HOST:PORT or socks5://... Others on this "
        "machine can see it: with a password, set the variable instead.",
        envvar="BETHROU_PROXY",
        show_default=False,
    ),
]
StateOption = Annotated[
    str | None,
    typer.Option(
        "--dir",
        metavar="DIR",
        help="Where its state lives, and its control socket. "
        "Default: bethrou/client or bethrou/node in $XDG_STATE_HOME or ~/.local/state.",
        show_default=False,
    ),
]
InstanceOption = Annotated[
    str | None,
    typer.Option(
        "--instance",
        metavar="NAME",
        help="Tell several on one machine apart by name.",
        show_default=False,
    ),
]
SecurityOption = Annotated[
    str | None,
    typer.Option(
        "--security",
        metavar="LIST",
        help="How links are secured: noise, tls, or both, the one to propose first in front. Default: noise,tls.",
        show_default=False,
    ),
]
GraceOption = Annotated[
    str | None,
    typer.Option(
        "--grace",
        metavar="DURATION",
        help="How long live connections may go on after SIGTERM. Default: 30s.",
        show_default=False,
    ),
]
LogLevelOption = Annotated[
    str | None,
    typer.Option(
        "--log-level", metavar="LEVEL", help="debug, info, warn or error. Default: info.", show_default=False
    ),
]
LogFormatOption = Annotated[
    str | None,
    typer.Option("--log-format", metavar="FORMAT", help="text or json. Default: text.", show_default=False),
]
HideDestinationsOption = Annotated[
    bool,
    typer.Option(
        "--hide-destinations", metavar=" ", help="Name no destination in the log.", show_default=False
    ),
]


WishOption = Annotated[
    str,
    typer.Option(
        "--user",
        metavar="USER",
        help="A user name that chooses the exit, such as tag=eu.",
        show_default=False,
    ),
]


MetricsOption = Annotated[
    str | None,
    typer.Option(
        "--metrics",
        metavar="HOST:PORT",
        help="Serve metrics for Prometheus there. Default: nowhere.",
        show_default=False,
    ),
]


def log_options(level: str | None, log_format: str | None, hide_destinations: bool) -> dict[str, str | bool]:
    """The configuration's `log` block, as far as options were given."""
    given = {"level": level, "format": log_format, "hide_destinations": hide_destinations or None}
    return {key: value for key, value in given.items() if value is not None}


def warn_of_visible_proxy(context: typer.Context, program: str, proxy: str | None) -> None:
    """Say so if a proxy's password stands on the command line."""
    source = context.get_parameter_source("proxy")
    if proxy and "@" in proxy and source is not None and source.name == "COMMANDLINE":
        warn(program, "everybody on this machine can read the password in --proxy; set BETHROU_PROXY instead")


def new_app(text: str, program: str) -> typer.Typer:
    """An empty `program` (or group of commands), described by `text`."""
    return typer.Typer(
        help=text,
        epilog=f"[dim]{program} --version[/] shows the version.",
        add_completion=False,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
