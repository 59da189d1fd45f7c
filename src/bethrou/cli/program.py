"""How a command-line program of ours begins and ends: arguments in, exit status out, no traceback for a user's slip.

Status 0: done, or stopped by a signal. 1: the world failed (an address in use is the user's choice, so that is 2).
2: what the user gave cannot be used; one line says what. 3: the program that was to be asked does not run.
130: Ctrl-C before there was anything to stop.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from bethrou import __version__
from bethrou.errors import BethrouError, NotRunning, UserError
from bethrou.printable import printable

if TYPE_CHECKING:
    import typer

WORLD_FAILED = 1
USER_ERROR = 2
NOT_RUNNING = 3
INTERRUPTED = 130

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def run_program(name: str, app: typer.Typer, switches: Sequence[str] = ()) -> NoReturn:
    """Run `app` on this process's arguments as the program `name`, and end the process.

    `switches` are the options without a value that Go's programs have too: there `--discover=false` is usual.
    """
    if sys.argv[1:] == ["--version"]:
        print(f"{name} {__version__}")
        sys.exit(0)
    # Until there is something to stop, a request to stop is simply carried out.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(0))
    try:
        app(args=list(plain_switches(sys.argv[1:], switches)), prog_name=name)
    except UserError as error:
        fail(name, str(error), USER_ERROR)
    except NotRunning as error:
        fail(name, str(error), NOT_RUNNING)
    except (BethrouError, OSError) as error:
        fail(name, str(error), WORLD_FAILED)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    sys.exit(0)


def warn(name: str, message: str) -> None:
    """Say something on stderr before there is a log."""
    print(f"{name}: {printable(message)}", file=sys.stderr)


def fail(name: str, message: str, status: int) -> NoReturn:
    """End the process with one line on stderr."""
    warn(name, message)
    sys.exit(status)


def plain_switches(arguments: Sequence[str], switches: Sequence[str]) -> list[str]:
    """Turn `--switch=true` into `--switch`, and leave `--switch=false` out, as Go's flag package means them."""
    plain = []
    for argument in arguments:
        option, _, value = argument.partition("=")
        if option not in switches or value not in _TRUE | _FALSE:
            plain.append(argument)
        elif value in _TRUE:
            plain.append(option)
    return plain
