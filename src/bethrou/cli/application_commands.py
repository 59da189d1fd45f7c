"""`bethrou env` and `bethrou run`: other people's programs through the running client, by the usual variables.

All of them name the client as an HTTP proxy: every program that knows these variables understands that, while SOCKS
takes some a library that they may not have. The client looks no names up for them either way.
"""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from urllib.parse import quote

from bethrou.cli.instances import Wanted, find_running
from bethrou.cli.program import WORLD_FAILED, warn
from bethrou.config import HostPort, parse_listen
from bethrou.errors import ConfigError, ControlError
from bethrou.printable import printable
from bethrou.snapshots import StatusSnapshot

NOT_FOUND, NOT_EXECUTABLE = 127, 126  # as shells have it

_PROXY = ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_EXCEPT = ("no_proxy", "NO_PROXY")
_LOCAL = "localhost,127.0.0.1,::1"
_LOOK_EVERY = 0.1  # seconds
_ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}

_SHELLS: Mapping[str, tuple[Callable[[str, str], str], Callable[[str], str]]] = {
    "sh": (lambda name, value: f"export {name}={shlex.quote(value)}", lambda name: f"unset {name}"),
    "fish": (lambda name, value: f"set -gx {name} {shlex.quote(value)}", lambda name: f"set -e {name}"),
    "csh": (lambda name, value: f"setenv {name} {shlex.quote(value)}", lambda name: f"unsetenv {name}"),
}
_FAMILY = {"fish": "fish", "csh": "csh", "tcsh": "csh"}


def proxy_variables(listening: HostPort, user: str = "") -> dict[str, str]:
    """The variables for a client that listens there; `user` chooses exits, as a user name does."""
    # some programs leave a user without a password out
    login = f"{quote(user, safe='')}:x@" if user else ""
    address = HostPort(_ANYWHERE.get(listening.host, listening.host), listening.port)
    url = f"http://{login}{address}"
    return {**dict.fromkeys(_PROXY, url), **dict.fromkeys(_EXCEPT, _LOCAL)}


def show_environment(wanted: Wanted, shell: str, user: str, unset: bool) -> None:
    """Print lines for `eval`, in the words of `shell` ("": of the user's). Raises ConfigError for an unknown one."""
    known = shell or _FAMILY.get(os.path.basename(os.environ.get("SHELL", "")), "sh")  # noqa: PTH119 - no file
    if known not in _SHELLS:
        raise ConfigError(f"--shell: must be one of {', '.join(_SHELLS)}")
    setting, unsetting = _SHELLS[known]
    if unset:
        print("\n".join(unsetting(name) for name in (*_PROXY, *_EXCEPT)))
        return
    variables = proxy_variables(_listening(find_running(wanted).status()), user)
    print("\n".join(setting(name, value) for name, value in variables.items()))


def run_command(wanted: Wanted, command: Sequence[str], user: str, wait: float) -> int:
    """Become `command`, with the variables set, as soon as the client has an exit. Returns only when that fails."""
    from bethrou.cli.control_tables import serves

    running = find_running(wanted)
    deadline = time.monotonic() + wait
    status = running.status()
    while not serves(status):
        if time.monotonic() >= deadline:
            raise ControlError(
                f"the client has had no exit for {wait:g} s; `bethrou status` says why (--wait waits longer)"
            )
        time.sleep(_LOOK_EVERY)
        status = running.status()
    environment = {**os.environ, **proxy_variables(_listening(status), user)}
    sys.stdout.flush()
    try:
        os.execvpe(command[0], list(command), environment)
    except OSError as error:
        warn("bethrou", f"{printable(command[0])}: {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return WORLD_FAILED


def _listening(status: StatusSnapshot) -> HostPort:
    if not status.listening:
        raise ControlError("the client is stopping, and listens no more")
    return parse_listen(status.listening[0])
