"""SOCKS4 and 4a, the server's side (specs: Ying-Da Lee, "SOCKS: A protocol for TCP proxy across firewalls" and "SOCKS
4A: A Simple Extension to SOCKS 4 Protocol").

    VN 4 | CD 1 | port 2 | IPv4 4 | user-id, NUL [| name, NUL if the address is 0.0.0.x and x is not 0]

Fed and asked like `Socks5Server`. There is no password: the user-id only says what a SOCKS5 user name says. All of a
request comes in one message, and what stands behind it belongs to the destination.
"""

from __future__ import annotations

from enum import IntEnum

from bethrou.errors import Failure, RequestError
from bethrou.wire.destination import MAX_HOST, check_host, check_port, pack_address
from bethrou.wire.socks5 import Connect, Credentials, Event, Violation

VERSION = 4

MAX_USER_ID = 255
"""Longest user-id in bytes: as long as a user name of SOCKS5."""

_CONNECT, _BIND = 1, 2
_START = 8
_IPV4, _NAME = 1, 3  # address types as in SOCKS5


class Reply(IntEnum):
    """The field CD of a reply."""

    GRANTED = 90
    REFUSED = 91
    """Refused or failed: there is no finer reason."""
    OTHER_USER = 93
    """The user-id is not accepted."""


class _State(IntEnum):
    REQUEST = 0
    JUDGEMENT = 1
    DONE = 2


class Socks4Server:
    """The conversation on one connection up to its request.

    `allow_anonymous`: whether an application without a password is let in; none has one here.
    """

    __slots__ = ("_allow_anonymous", "_buffer", "_name_at", "_out", "_state")

    def __init__(self, allow_anonymous: bool) -> None:
        self._allow_anonymous = allow_anonymous
        self._buffer = b""
        self._out = b""
        self._state = _State.REQUEST
        self._name_at = 0
        """Where the destination's name starts; 0 before the user-id is complete."""

    def receive(self, data: bytes | bytearray | memoryview) -> Event | None:
        """Take bytes of the application; return the event they complete, if any. Never raises.

        After Credentials nothing more is read until `answer_credentials`; after Connect or Violation never again.
        """
        self._buffer += bytes(data)
        return self._advance()

    def answer_credentials(self, accepted: bool) -> Event | None:
        """Tell the verdict on Credentials; return the event that bytes already here complete, if any.

        When refused, send `data_to_send` and close. RuntimeError when nothing was asked.
        """
        if self._state is not _State.JUDGEMENT:
            raise RuntimeError("no credentials are waiting for a verdict")
        if not accepted:
            self._out = reply(Reply.OTHER_USER)
            self._state = _State.DONE
            return None
        self._state = _State.REQUEST
        return self._advance()

    def data_to_send(self) -> bytes:
        """Return what must be written now, once; empty when there is nothing."""
        out, self._out = self._out, b""
        return out

    @property
    def surplus(self) -> bytes:
        """The application's bytes behind its request, which belong to the destination; empty before it."""
        return self._buffer if self._state is _State.DONE else b""

    def granted(self, bound: tuple[str, int] | None) -> bytes:
        """The reply when the destination is connected; `bound` is the exit's address towards it, if it is known."""
        return reply(Reply.GRANTED, bound)

    def refused(self, failure: Failure) -> bytes:
        """The reply when there is no connection; it is the same for all reasons."""
        return reply(Reply.REFUSED)

    def _advance(self) -> Event | None:
        if self._state is not _State.REQUEST:
            return None
        buffer = self._buffer
        if len(buffer) < 2:
            return None
        if buffer[0] != VERSION:
            return self._refuse(f"request has version {buffer[0]}, not 4")
        if buffer[1] != _CONNECT:
            name = "BIND" if buffer[1] == _BIND else f"command {buffer[1]}"
            return self._refuse(f"application asks for {name}; only CONNECT is offered")
        if not self._allow_anonymous:
            reason = "SOCKS4 has no password, and one is required: SOCKS5 and HTTP have"
            return self._end(Violation(reply(Reply.OTHER_USER), reason))
        if len(buffer) < _START:
            return None
        return self._read_name() if self._name_at else self._read_user_id()

    def _read_user_id(self) -> Event | None:
        end = self._buffer.find(b"\0", _START, _START + MAX_USER_ID + 1)
        if end < 0:
            if len(self._buffer) <= _START + MAX_USER_ID:
                return None
            return self._refuse(f"user-id is longer than {MAX_USER_ID} bytes")
        self._name_at = end + 1
        if end == _START:
            return self._read_name()  # nobody: there is nothing to judge
        self._state = _State.JUDGEMENT
        return Credentials(self._buffer[_START:end], b"")

    def _read_name(self) -> Event | None:
        buffer, start = self._buffer, self._name_at
        port = buffer[2] << 8 | buffer[3]
        address = buffer[4:_START]
        if address[:3] != b"\0\0\0" or address[3] == 0:
            self._buffer = buffer[start:]
            return self._judge(".".join(map(str, address)), port, _IPV4)
        end = buffer.find(b"\0", start, start + MAX_HOST + 1)
        if end < 0:
            if len(buffer) <= start + MAX_HOST:
                return None
            return self._refuse(f"name is longer than {MAX_HOST} bytes")
        self._buffer = buffer[end + 1 :]
        return self._judge(buffer[start:end].decode("latin-1"), port, _NAME)

    def _judge(self, host: str, port: int, address_type: int) -> Event:
        try:
            return self._end(Connect(check_host(host), check_port(port), address_type))
        except RequestError as error:
            return self._refuse(str(error))

    def _refuse(self, reason: str) -> Event:
        return self._end(Violation(reply(Reply.REFUSED), reason))

    def _end(self, event: Event) -> Event:
        self._state = _State.DONE
        return event


def reply(code: Reply, bound: tuple[str, int] | None = None) -> bytes:
    """Return the answer to a request. `bound` is the exit's address and port; zeros stand where it is not IPv4."""
    packed = pack_address(bound[0]) if bound is not None else None
    if bound is None or packed is None or len(packed) != 4:
        return bytes((0, code)) + bytes(6)
    return bytes((0, code)) + bound[1].to_bytes(2, "big") + packed
