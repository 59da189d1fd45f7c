"""A running program's state directory and control socket: what others on this machine find it by."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from bethrou.cli.control_socket import ControlSocket
from bethrou.cli.state_dir import StateChoice, StateDirectory
from bethrou.errors import ConfigError
from bethrou.events import DescriptorsShort, Emit
from bethrou.net.listener import Acceptor
from bethrou.net.tasks import Tasks
from bethrou.ops.control import Control, Metrics
from bethrou.ops.control_server import ControlServer
from bethrou.ops.logs import Logger

_WITHOUT = "going on without control socket: `bethrou status` and the like will not find this program"


def take_state(choice: StateChoice, program: str, log: Logger) -> StateDirectory | None:
    """The state directory of a `program`; None where there can be none and none was asked for. Raises ConfigError."""
    try:
        state = StateDirectory.open(choice, program)
    except ConfigError as error:
        if choice.said:
            raise
        log.warning(_WITHOUT, reason=str(error))
        return None
    if not choice.said and state.path.name != program:
        log.info(f"another {program} runs here: this one is told apart as {state.path.name}")
    return state


class ControlEndpoint:
    """Offers `control` on the socket of the state directory `state` until it is closed. Raises ConfigError."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: Path,
        control: Control,
        emit: Emit,
        metrics: Metrics | None = None,
    ) -> None:
        self._socket = ControlSocket(state, os.environ)
        self._tasks = Tasks(loop)
        self._server = ControlServer(control, self._tasks, os.getuid(), time.time, metrics)
        self._acceptor = Acceptor(
            loop,
            self._socket.socket,
            self._server.accept,
            lambda short: emit(DescriptorsShort("control", short)),
        )

    @classmethod
    def offer(
        cls,
        loop: asyncio.AbstractEventLoop,
        state: StateDirectory | None,
        control: Control,
        emit: Emit,
        log: Logger,
        metrics: Metrics | None = None,
    ) -> ControlEndpoint | None:
        """An endpoint, where there can be one: no program fails for want of it."""
        if state is None:
            return None
        try:
            return cls(loop, state.path, control, emit, metrics)
        except ConfigError as error:
            log.warning(_WITHOUT, reason=str(error))
            return None

    async def close(self) -> None:
        """End every conversation; nothing of the socket is left."""
        self._acceptor.close()
        self._socket.close()
        await self._tasks.close()
        self._server.close()
