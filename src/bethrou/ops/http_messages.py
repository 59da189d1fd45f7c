"""HTTP on the control socket as values: what is asked, what is answered, how long is waited for either."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bethrou.ops.json_text import to_json

JSON = "application/json"


@dataclass(frozen=True)
class Patience:
    """How long a connection is waited for, in seconds."""

    request: float = 10.0
    """For a request, from its first byte (of the first one: from connecting) to its last; as long for its answer."""
    idle: float = 60.0
    """For the next request on a connection that has had one."""


@dataclass(frozen=True)
class Request:
    """A request, its body read and forgotten."""

    method: str
    target: str
    """Path and query as they were written."""
    from_browser: bool = False
    """Whether it names an origin: only a page in a browser does."""


@dataclass(frozen=True)
class Answer:
    """What a request is answered with."""

    status: int
    body: bytes
    content_type: str = JSON
    headers: Sequence[tuple[str, str]] = ()


class HttpError(Exception):
    """A request that is answered with an error. Never leaves the control server."""

    def __init__(self, status: int, message: str, headers: Sequence[tuple[str, str]] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers

    @property
    def answer(self) -> Answer:
        """What the peer is told."""
        return Answer(self.status, to_json({"error": str(self)}), headers=self.headers)


def answer_json(value: object) -> Answer:
    """The answer to a request that went well."""
    return Answer(200, to_json(value))


def turned_away(status: int, reason: str, message: str) -> bytes:
    """A whole response for a connection that is closed before it was read from."""
    body = to_json({"error": message})
    lines = (
        f"HTTP/1.1 {status} {reason}",
        f"Content-Type: {JSON}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body
