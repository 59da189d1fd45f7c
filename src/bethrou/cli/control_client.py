"""Asking a running program through its control socket: for commands, so without an event loop."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from bethrou.errors import ControlError, DecodeError, NotRunning, UserError
from bethrou.ops.json_text import from_json
from bethrou.printable import printable
from bethrou.snapshots import ConnectionSnapshot, ReachabilitySnapshot, StatusSnapshot, WhySnapshot

TIMEOUT = 10.0
"""Seconds that a program has for an answer."""

REACHABILITY_TIMEOUT = 120.0
"""Seconds that it has to have peers try its addresses: four, one after the other, and each may take 15 s."""

RELOAD_TIMEOUT = 60.0
"""Seconds that it has to read its configuration again."""

MAX_ANSWER = 64 << 20
"""Longest answer read, in bytes: 32,768 connections make 10 MB."""

_MAX_EVENT = 64 * 1024  # bytes of one line of the stream of events; ours have a kilobyte
_THE_USERS_FAULT = frozenset({400, 404, 405, 409})

T = TypeVar("T")


class ControlClient:
    """Asks the program whose control socket is at `path`. Raises ControlErrors, and UserErrors for what it refuses."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def status(self) -> StatusSnapshot:
        """What it is and how it does."""
        return _decoded(StatusSnapshot, self.ask("GET", "status"))

    def connections(self) -> list[ConnectionSnapshot]:
        """Its connections."""
        listed = self.ask("GET", "connections").get("connections")
        return [_decoded(ConnectionSnapshot, item) for item in listed or ()]

    def why(self, target: str, user: str) -> WhySnapshot:
        """How it would choose an exit for `target`."""
        return _decoded(WhySnapshot, self.ask("GET", why_path(target, user)))

    def reachability(self) -> ReachabilitySnapshot:
        """How it is reached; peers are asked, which takes a moment."""
        return _decoded(ReachabilitySnapshot, self.ask("GET", "reachability", REACHABILITY_TIMEOUT))

    def close_connection(self, connection: str) -> None:
        """Have it end a connection."""
        self.ask("DELETE", f"connections/{quote(connection, safe='')}")

    def reload(self) -> list[str]:
        """Have it read its configuration again; what has changed."""
        answer = self.ask("POST", "reload", RELOAD_TIMEOUT)
        return [str(line) for line in answer.get("changes") or ()]

    def drain(self) -> None:
        """Have it take nothing new."""
        self.ask("POST", "drain")

    def ask(self, method: str, path: str, timeout: float = TIMEOUT) -> dict[str, Any]:
        """The JSON object with which it answers."""
        connection = _UnixConnection(self._path, timeout)
        try:
            response = self._request(connection, method, path)
            body = response.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise _lost(error) from None
        finally:
            connection.close()
        if len(body) > MAX_ANSWER:
            raise ControlError(f"the running program's answer is longer than {MAX_ANSWER} bytes")
        answer = _object(body)
        if response.status != HTTPStatus.OK:
            raise _refusal(response, answer)
        return answer

    def events(self) -> Iterator[dict[str, Any]]:
        """What happens from now on; ends when the program does."""
        connection = _UnixConnection(self._path, TIMEOUT)
        try:
            response = self._request(connection, "GET", "events")
            connection.sock.settimeout(None)
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise _lost(error) from None
        return _events(connection, response)

    def _request(self, connection: _UnixConnection, method: str, path: str) -> http.client.HTTPResponse:
        try:
            connection.connect()
        except (FileNotFoundError, ConnectionRefusedError):
            raise NotRunning(f"nothing runs at {printable(str(self._path))}") from None
        connection.request(method, f"/v1/{path}")
        return connection.getresponse()


def why_path(target: str, user: str) -> str:
    """The path that asks how an exit is chosen."""
    fields = {"target": target, "user": user} if user else {"target": target}
    return f"why?{urlencode(fields)}"


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _events(connection: _UnixConnection, response: http.client.HTTPResponse) -> Iterator[dict[str, Any]]:
    try:
        if response.status != HTTPStatus.OK:
            raise _refusal(response, _object(response.read(MAX_ANSWER)))
        while line := response.readline(_MAX_EVENT):
            if line.startswith(b"data: "):
                yield _object(line.removeprefix(b"data: "))
    except http.client.IncompleteRead:
        return  # it ended before it could say so
    except (OSError, http.client.HTTPException) as error:
        raise _lost(error) from None
    finally:
        connection.close()


def _refusal(response: http.client.HTTPResponse, answer: dict[str, Any]) -> UserError | ControlError:
    message = printable(str(answer.get("error", response.reason)), 2000)
    return UserError(message) if response.status in _THE_USERS_FAULT else ControlError(message)


def _decoded(kind: type[T], data: object) -> T:
    try:
        return from_json(kind, data)
    except DecodeError as error:
        raise ControlError(f"the running program is of another version: {error}; restart it") from None


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise ControlError("the running program's answer is no JSON object")
    return answer


def _lost(error: OSError | http.client.HTTPException) -> ControlError:
    reason = (error.strerror if isinstance(error, OSError) else "") or str(error) or type(error).__name__
    return ControlError(f"the running program did not answer: {printable(reason)}")
