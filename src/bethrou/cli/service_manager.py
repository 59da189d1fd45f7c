"""What systemd wants to know of a service: that it is ready, that it stops, and, with a watchdog, that it lives.

Protocol: sd_notify(3), datagrams of NAME=VALUE lines to the socket in $NOTIFY_SOCKET. Where there is none, nothing
is said. The watchdog's sign of life comes from the event loop's own timer: a loop that hangs gives none.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Mapping

_SOCKET, _WATCHDOG, _WATCHDOG_PID = "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"


class ServiceManager:
    """Speaks to the service manager that `environment` names, if any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, environment: Mapping[str, str], pid: int) -> None:
        self._loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._socket: socket.socket | None = None
        self._interval = 0.0
        """Seconds between two signs of life; 0 for none."""
        address = environment.get(_SOCKET, "")
        if address[:1] not in ("/", "@"):
            return
        self._interval = _watchdog_seconds(environment, pid) / 2  # systemd's advice: twice as often as needed
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)
        try:
            self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            self._socket.close()
            self._socket = None

    @classmethod
    def of_this_process(cls, loop: asyncio.AbstractEventLoop) -> ServiceManager:
        """The one that has started this process."""
        return cls(loop, os.environ, os.getpid())

    def ready(self, status: str) -> None:
        """The service serves; `status` says it for people, in one line."""
        self._tell("READY=1", f"STATUS={status}")
        if self._socket is not None and self._interval:
            self._timer = self._loop.call_later(self._interval, self._live)

    def stopping(self) -> None:
        """The service takes nothing new, and will end."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Say no more."""
        if self._timer is not None:
            self._timer.cancel()
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _live(self) -> None:
        self._timer = self._loop.call_later(self._interval, self._live)
        self._tell("WATCHDOG=1")

    def _tell(self, *lines: str) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is away, or has much to read: nothing depends on one sign
                self._socket.send("\n".join(lines).encode())


def _watchdog_seconds(environment: Mapping[str, str], pid: int) -> float:
    """How often a sign of life is wanted, or 0. Another process's watchdog is not ours."""
    if environment.get(_WATCHDOG_PID, str(pid)) != str(pid):
        return 0.0
    microseconds = environment.get(_WATCHDOG, "")
    return int(microseconds) / 1e6 if microseconds.isdecimal() else 0.0
