"""Requests and answers of the control socket as values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from bethrou.ops.json_text import to_json

JSON = "application/json"


@dataclass(frozen=True)
class Request:
    """A request, its body read and forgotten."""

    method: str
    target: str
    """Path and query as they were written."""
    from_browser: bool = False
    """Whether it names an origin: only a page in a browser does."""
    host: str = ""
    """The header of this name; "" without."""

    @property
    def url(self) -> SplitResult:
        """The target taken apart. Raises HttpError."""
        try:
            return urlsplit(self.target)
        except ValueError as error:
            raise HttpError(400, f"the request's target is no URL: {error}") from None


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
        return Answer(self.status, _json_line({"error": str(self)}), headers=self.headers)


def answer_json(value: object) -> Answer:
    """The answer to a request that went well."""
    return Answer(200, _json_line(value))


def turned_away(status: HTTPStatus, message: str) -> bytes:
    """A whole response for a connection that is closed before it was read from."""
    body = _json_line({"error": message})
    lines = (
        f"HTTP/1.1 {status} {status.phrase}",
        f"Content-Type: {JSON}",
        f"Content-Length: {len(body)}",
        "Connection: close",
        "\r\n",
    )
    return "\r\n".join(lines).encode() + body


def _json_line(value: object) -> bytes:
    return to_json(value) + b"\n"
