"""What the commands do that ask running programs: status, why, connections, events, reload, drain.

Each returns the command's exit status: 0, or 1 when a new request would not be carried. What goes wrong is raised;
cli/program.py makes status 2 of what was given or refused, and 3 of a program that does not run.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

from bethrou.cli.control_client import why_path
from bethrou.cli.instances import Wanted, find_running
from bethrou.errors import ConfigError
from bethrou.printable import printable, quoted
from bethrou.quantities import counted

SERVES, SERVES_NOT = 0, 1

_PEER_END = 8  # the end of a peer ID tells peers apart; the beginning is the same for all
_SHOWN = 300  # characters of a value that somebody else wrote
_PLAIN_MARKS = frozenset(' "=\\')


def show_status(wanted: Wanted, as_json: bool, check: bool) -> int:
    """How the program does; with `check` in one line."""
    from bethrou.cli.control_tables import Screen, serves, summary

    running = find_running(wanted)
    status = running.status()
    if as_json:
        _print_json(running.ask("GET", "status"))
    elif check:
        Screen().line(summary(status))
    else:
        Screen().show_status(status)
    return SERVES if serves(status) else SERVES_NOT


def watch_status(wanted: Wanted) -> int:
    """How the program does, again and again, until Ctrl-C. Raises ConfigError beside a terminal."""
    from bethrou.cli.status_watch import watch

    if not sys.stdout.isatty():
        raise ConfigError("--watch: needs a terminal; for programs there are --json and `bethrou events`")
    watch(find_running(wanted), time.monotonic, time.sleep)
    return SERVES


def show_why(wanted: Wanted, target: str, user: str, as_json: bool) -> int:
    """Which exit a request would get."""
    from bethrou.cli.control_tables import Screen

    running = find_running(wanted)
    why = running.why(target, user)
    if as_json:
        _print_json(running.ask("GET", why_path(target, user)))
    else:
        Screen().show_why(why)
    carried = why.action == "direct" or any(candidate.place is not None for candidate in why.candidates)
    return SERVES if carried and why.action != "block" else SERVES_NOT


def show_connections(wanted: Wanted, as_json: bool) -> int:
    """What is being carried."""
    from bethrou.cli.control_tables import Screen

    running = find_running(wanted)
    if as_json:
        _print_json(running.ask("GET", "connections"))
    else:
        Screen().show_connections(running.connections(), running.status())
    return SERVES


def close_connection(wanted: Wanted, connection: str) -> int:
    """End one connection."""
    find_running(wanted).close_connection(connection)
    print(f"Connection {printable(connection)} is closed.")
    return SERVES


def follow_events(wanted: Wanted, as_json: bool) -> int:
    """What happens, a line each, until the program ends or nobody reads any more."""
    events = find_running(wanted).events()
    print("Waiting for events; Ctrl-C ends this.", file=sys.stderr, flush=True)
    try:
        for event in events:
            print(json.dumps(event) if as_json else event_line(event), flush=True)
    except BrokenPipeError:
        # Python would flush once more at its end, and complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return SERVES
    print("The program has stopped.", file=sys.stderr)
    return SERVES


def reload(wanted: Wanted) -> int:
    """Have the configuration read again."""
    for line in find_running(wanted).reload() or ["Nothing has changed."]:
        print(printable(line))
    return SERVES


def drain(wanted: Wanted) -> int:
    """Have nothing new taken, and the program end when what it carries has finished."""
    running = find_running(wanted)
    status = running.status()  # afterwards there may be nobody to ask
    running.drain()
    print(
        f"The {printable(status.role)} takes nothing new; {counted(status.connections, 'connection')} may go on.\n"
        "It ends when they have finished, or when its grace is over."
    )
    return SERVES


def event_line(event: dict[str, Any]) -> str:
    """An event for people: when, what, and what there is to say of it."""
    rest = dict(event)
    name, at = str(rest.pop("event", "?")), rest.pop("time", 0)
    clock = time.strftime("%H:%M:%S", time.localtime(at if isinstance(at, int | float) else 0))
    fields = " ".join(
        f"{printable(key)}={_shown(key, value)}" for key, value in rest.items() if value not in ("", None)
    )
    return f"{clock} {printable(name).replace('_', ' '):<18} {fields}".rstrip()


def _shown(key: str, value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)[-_PEER_END:] if key == "peer" else str(value)
    return quoted(text, _SHOWN) if _PLAIN_MARKS & set(text) else printable(text, _SHOWN)


def _print_json(answer: dict[str, Any]) -> None:
    print(json.dumps(answer, indent=2))
