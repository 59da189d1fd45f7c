"""The program `bethrou-client`, a drop-in for Go's, and the commands `bethrou client ...`."""

from __future__ import annotations

from typing import Annotated, NoReturn

import typer

from bethrou.cli import operate, options
from bethrou.cli.program import run_program

app = options.new_app(
    "The client: applications' traffic enters the private network here, through SOCKS5.", "bethrou-client"
)


@app.callback()
def client() -> None:
    """The client: applications' traffic enters the private network here, through SOCKS5."""


@app.command("start", help="The same as connect.")
@app.command()
def connect(
    context: typer.Context,
    config: Annotated[str, typer.Option(metavar="PATH", help="The configuration.")] = "client.yaml",
    key: options.KeyOption = None,
    listen: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Where applications connect. Default: the configuration's server.listen, else 127.0.0.1:1080.",
            show_default=False,
        ),
    ] = None,
    open_to_all: options.OpenOption = False,
    security: options.SecurityOption = None,
    proxy: options.ProxyOption = None,
    directory: options.StateOption = None,
    instance: options.InstanceOption = None,
    grace: options.GraceOption = None,
    metrics: options.MetricsOption = None,
    log_level: options.LogLevelOption = None,
    log_format: options.LogFormatOption = None,
    hide_destinations: options.HideDestinationsOption = False,
) -> None:
    """Connect to the network's exits and serve applications. SIGTERM or Ctrl-C stops it."""
    from bethrou.cli.start_client import start_client
    from bethrou.cli.state_dir import StateChoice

    options.warn_of_visible_proxy(context, "bethrou-client", proxy)
    given = {
        "key": key,
        "listen": listen,
        "open": open_to_all or None,
        "security": security,
        "proxy": proxy,
        "grace": grace,
        "metrics": metrics,
        "log": options.log_options(log_level, log_format, hide_destinations),
    }
    given = {field: value for field, value in given.items() if value is not None}
    start_client(config, given, StateChoice(directory, instance))


operate.add_drain(app, operate.CLIENT)


def run() -> NoReturn:
    """The program `bethrou-client`."""
    run_program("bethrou-client", app)


if __name__ == "__main__":
    run()
