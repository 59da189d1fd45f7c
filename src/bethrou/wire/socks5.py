"""SOCKS5, the server's side (specs: RFC 1928; RFC 1929 for user name and password).

One object a connection is fed what the application sends, in any chunking, and returns one event at a time:

    greeting --> [Credentials --> answer_credentials] --> Connect | Violation
             --> Stranger

What must be written meanwhile is in `data_to_send`; the reply to a Connect is made by `granted` or `refused` once its
outcome is known. Applications may send everything at once, payload included: nothing is lost, see `surplus`.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from enum import IntEnum

from bethrou.errors import Failure, RequestError
from bethrou.wire.destination import check_host, check_port, pack_address

VERSION = 5

NO_AUTHENTICATION = 0x00
USER_PASSWORD = 0x02

_CONNECT = 1
_IPV4, _NAME, _IPV6 = 1, 3, 4
_AUTH_VERSION = 1
_COMMANDS = {2: "BIND", 3: "UDP ASSOCIATE"}


class Reply(IntEnum):
    """The reply field of RFC 1928, section 6."""

    SUCCEEDED = 0x00
    FAILURE = 0x01
    NOT_ALLOWED = 0x02
    NETWORK_UNREACHABLE = 0x03
    HOST_UNREACHABLE = 0x04
    REFUSED = 0x05
    TIMED_OUT = 0x06
    COMMAND_NOT_SUPPORTED = 0x07
    ADDRESS_TYPE_NOT_SUPPORTED = 0x08


_REPLIES = {
    Failure.REFUSED: Reply.REFUSED,
    Failure.HOST_UNREACHABLE: Reply.HOST_UNREACHABLE,
    Failure.NO_SUCH_HOST: Reply.HOST_UNREACHABLE,
    Failure.BAD_REQUEST: Reply.HOST_UNREACHABLE,
    Failure.NET_UNREACHABLE: Reply.NETWORK_UNREACHABLE,
    Failure.TIMEOUT: Reply.TIMED_OUT,
    Failure.DENIED: Reply.NOT_ALLOWED,
}


@dataclass(slots=True)
class Credentials:
    """A user name and password to be judged; then call `answer_credentials`."""

    user: bytes
    password: bytes = field(repr=False)


@dataclass(slots=True)
class Connect:
    """A connection is wanted. `host` is an IP address, or a name to be looked up at the exit."""

    host: str
    port: int
    address_type: int
    """As it was sent: 1 IPv4, 3 name, 4 IPv6. A name of type 3 may be an IP address in text form, too."""


@dataclass(slots=True)
class Violation:
    """The application breaks a rule, or asks for what is not there: send `reply`, log `reason`, close."""

    reply: bytes
    reason: str


@dataclass(slots=True)
class Stranger:
    """The application does not speak SOCKS5. All that it has said is in `surplus`, with this byte in front."""

    first: int


Event = Credentials | Connect | Violation | Stranger


class _State(IntEnum):
    GREETING = 0
    AUTHENTICATION = 1
    JUDGEMENT = 2
    REQUEST = 3
    DONE = 4


class Socks5Server:
    """The conversation on one connection up to its request.

    `allow_anonymous`: whether an application that offers no user name is let in. User name and password are
    asked for whenever they are offered: the user name carries routing wishes.
    """

    __slots__ = ("_allow_anonymous", "_buffer", "_out", "_state")

    def __init__(self, allow_anonymous: bool) -> None:
        self._allow_anonymous = allow_anonymous
        self._buffer = b""
        self._out = b""
        self._state = _State.GREETING

    def receive(self, data: bytes | bytearray | memoryview) -> Event | None:
        """Take bytes of the application; return the event they complete, if any. Never raises.

        After Credentials nothing more is read until `answer_credentials`; after Connect or Violation never
        again. Bytes that come meanwhile are kept, without a bound: the caller stops reading the connection.
        """
        self._buffer = self._buffer + bytes(data) if self._buffer else bytes(data)
        return self._advance()

    def answer_credentials(self, accepted: bool) -> Event | None:
        """Tell the verdict on Credentials; return the event that bytes already here complete, if any.

        When refused, send `data_to_send` and close (RFC 1929). RuntimeError when nothing was asked.
        """
        if self._state is not _State.JUDGEMENT:
            raise RuntimeError("no credentials are waiting for a verdict")
        self._out += b"\x01\x00" if accepted else b"\x01\x01"
        self._state = _State.REQUEST if accepted else _State.DONE
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
        """The reply when the destination is connected; `bound` as in `reply`."""
        return reply(Reply.SUCCEEDED, bound)

    def refused(self, failure: Failure) -> bytes:
        """The reply when there is no connection."""
        return reply(reply_code(failure))

    def _advance(self) -> Event | None:
        event: Event | None = None
        if self._state is _State.GREETING:
            event = self._read_greeting()
        if self._state is _State.AUTHENTICATION and event is None:
            event = self._read_credentials()
        elif self._state is _State.REQUEST and event is None:
            event = self._read_request()
        return event

    def _read_greeting(self) -> Event | None:
        buffer = self._buffer
        if not buffer:
            return None
        if buffer[0] != VERSION:
            return self._end(Stranger(buffer[0]))
        if len(buffer) < 2 or len(buffer) < 2 + buffer[1]:
            return None
        end = 2 + buffer[1]
        methods = buffer[2:end]
        self._buffer = buffer[end:]
        if USER_PASSWORD in methods:
            self._out = b"\x05\x02"
            self._state = _State.AUTHENTICATION
        elif NO_AUTHENTICATION in methods and self._allow_anonymous:
            self._out = b"\x05\x00"
            self._state = _State.REQUEST
        elif NO_AUTHENTICATION in methods:
            return self._end(
                Violation(b"\x05\xff", "application offers no user name and password, which are required")
            )
        else:
            return self._end(Violation(b"\x05\xff", "application offers no authentication method known here"))
        return None

    def _read_credentials(self) -> Event | None:
        # VER 1 | ULEN 1 | UNAME | PLEN 1 | PASSWD
        buffer = self._buffer
        size = len(buffer)
        if not size:
            return None
        if buffer[0] != _AUTH_VERSION:
            return self._end(Violation(b"\x01\x01", f"user name message has version {buffer[0]}, not 1"))
        if size < 2 or size < 3 + buffer[1]:
            return None
        name_end = 2 + buffer[1]
        end = name_end + 1 + buffer[name_end]
        if size < end:
            return None
        self._buffer = buffer[end:]
        self._state = _State.JUDGEMENT
        return Credentials(buffer[2:name_end], buffer[name_end + 1 : end])

    def _read_request(self) -> Event | None:
        # VER 1 | CMD 1 | RSV 1 | ATYP 1 | address | port 2
        buffer = self._buffer
        size = len(buffer)
        if size < 4:
            return None
        version, command, address_type = buffer[0], buffer[1], buffer[3]
        if version != VERSION:
            return self._end(Violation(reply(Reply.FAILURE), f"request has version {version}, not 5"))
        if command != _CONNECT:
            name = _COMMANDS.get(command, f"command {command}")
            return self._end(
                Violation(
                    reply(Reply.COMMAND_NOT_SUPPORTED),
                    f"application asks for {name}; only CONNECT is offered",
                )
            )
        if address_type == _NAME:
            if size < 5:
                return None
            start, end = 5, 5 + buffer[4]
        elif address_type == _IPV4:
            start, end = 4, 8
        elif address_type == _IPV6:
            start, end = 4, 20
        else:
            return self._end(
                Violation(
                    reply(Reply.ADDRESS_TYPE_NOT_SUPPORTED),
                    f"request has the unknown address type {address_type}",
                )
            )
        if size < end + 2:
            return None
        self._buffer = buffer[end + 2 :]
        return self._end(_judge(address_type, buffer[start:end], buffer[end] << 8 | buffer[end + 1]))

    def _end(self, event: Event) -> Event:
        self._state = _State.DONE
        return event


def reply(code: Reply, bound: tuple[str, int] | None = None) -> bytes:
    """Return the answer to a request. `bound` is the exit's IP address and port towards the destination.

    Without one, or with one that is no IP address, the address is 0.0.0.0:0. Never a name: applications such
    as netcat cannot read replies with address type 3.
    """
    if bound is None:
        return _PLAIN_REPLIES[code]
    packed = pack_address(bound[0])
    if packed is None:
        return _PLAIN_REPLIES[code]
    kind = _IPV4 if len(packed) == 4 else _IPV6
    return bytes((VERSION, code, 0, kind)) + packed + bound[1].to_bytes(2, "big")


def reply_code(failure: Failure) -> Reply:
    """Return the reply that tells an application of `failure`; FAILURE for all that has no code of its own."""
    return _REPLIES.get(failure, Reply.FAILURE)


_PLAIN_REPLIES = {code: bytes((VERSION, code, 0, _IPV4, 0, 0, 0, 0, 0, 0)) for code in Reply}


def _judge(address_type: int, raw: bytes, port: int) -> Event:
    try:
        if address_type == _NAME:
            host = check_host(raw.decode("latin-1"))
        elif address_type == _IPV4:
            host = f"{raw[0]}.{raw[1]}.{raw[2]}.{raw[3]}"
        else:
            host = str(ipaddress.IPv6Address(raw))
        return Connect(host, check_port(port), address_type)
    except RequestError as error:
        return Violation(reply(reply_code(error.failure)), str(error))
