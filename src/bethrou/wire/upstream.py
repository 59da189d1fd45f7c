"""Proxies in front of us: where one is, and how it is asked for a connection, over SOCKS5 or by HTTP CONNECT.

A conversation is fed what the proxy sends, in any chunking, and says what to send next. Names are left to the proxy:
in networks that need one, nobody else can look them up. Specs: RFC 1928, RFC 1929; RFC 9110, sections 9.3.6 and 11.7.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import unquote, urlsplit

from bethrou.errors import ConfigError, PeerError
from bethrou.printable import printable
from bethrou.wire.destination import pack_address
from bethrou.wire.multiaddr import Multiaddr

_PORTS = {"http": 80, "socks5": 1080}
_HOW = "write http://[USER:PASSWORD@]HOST:PORT or socks5://[USER:PASSWORD@]HOST:PORT"
_ESCAPES = "; in user and password, / ? # [ ] @ are %2F %3F %23 %5B %5D %40"
_MAX_CREDENTIAL = 255  # bytes (RFC 1929)
_SHOWN = 80


class Conversation(Protocol):
    """Asking a proxy for one connection."""

    surplus: bytes
    """What came behind the answer: the destination's first bytes."""
    done: bool
    """Whether the connection is there."""

    def start(self) -> bytes:
        """What to send first."""
        ...

    def receive(self, data: bytes) -> bytes:
        """What to send next, if anything. Raises `UpstreamRefused`."""
        ...


class UpstreamRefused(PeerError):
    """A proxy does not give us the connection."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """A proxy that connections to peers go through. Its text and repr show no password."""

    scheme: str
    """`http` or `socks5`."""
    host: str
    port: int
    user: str | None = None
    password: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str) -> Upstream:
        """Read a URL. Raises ConfigError, which does not repeat it: a password may be in it."""
        try:
            parts = urlsplit(text.strip())
            host, port = parts.hostname, parts.port
        except ValueError:
            raise ConfigError(f"the proxy's URL has no usable host or port ({_HOW}{_ESCAPES})") from None
        scheme = "socks5" if parts.scheme == "socks5h" else parts.scheme
        if scheme not in _PORTS or not parts.netloc:
            raise ConfigError(f"the proxy's URL begins with an unknown scheme ({_HOW})")
        if not host or not host.isascii() or not host.isprintable() or " " in host or port == 0:
            raise ConfigError(f"the proxy's URL has no usable host, or the port 0 ({_HOW})")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"the proxy's URL has something behind its port ({_HOW}{_ESCAPES})")
        user = unquote(parts.username) if parts.username is not None else None
        password = unquote(parts.password or "")
        if any(len(word.encode()) > _MAX_CREDENTIAL for word in (user or "", password)):
            raise ConfigError(f"user and password of the proxy have at most {_MAX_CREDENTIAL} bytes each")
        if user is not None and (not user or (scheme == "http" and ":" in user)):
            raise ConfigError("the user of the proxy must not be empty, nor have a colon in it over HTTP")
        return cls(scheme, host, port or _PORTS[scheme], user, password)

    @property
    def address(self) -> Multiaddr:
        """Where it is."""
        if pack_address(self.host) is not None:
            return Multiaddr.tcp(self.host, self.port)
        return Multiaddr.parse(f"/dns/{self.host}/tcp/{self.port}")

    def ask_for(self, host: str, port: int) -> Conversation:
        """Begin to ask for a connection to `host`, a name or an IP address."""
        kind = _Socks5 if self.scheme == "socks5" else _HttpConnect
        return kind(host, port, self.user, self.password)

    def __str__(self) -> str:
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


_VERSION, _CONNECT, _AUTH_VERSION = 5, 1, 1
_NO_AUTHENTICATION, _USER_PASSWORD = 0x00, 0x02
_IPV4, _NAME, _IPV6 = 1, 3, 4
_ADDRESS_SIZES = {_IPV4: 4, _IPV6: 16}
_REPLIES = {
    1: "it failed",
    2: "its rules do not allow that",
    3: "network unreachable",
    4: "no such host, or it is unreachable",
    5: "connection refused",
    6: "the time was up",
    7: "it does not know CONNECT",
    8: "it does not know this kind of address",
}


class _Socks5:
    """The client's side of SOCKS5."""

    def __init__(self, host: str, port: int, user: str | None, password: str) -> None:
        self.surplus = b""
        self.done = False
        self._host = host
        self._port = port
        self._credentials = None if user is None else (user.encode(), password.encode())
        self._buffer = b""
        self._step = self._read_method

    def start(self) -> bytes:
        methods = [_NO_AUTHENTICATION] + [_USER_PASSWORD] * (self._credentials is not None)
        return bytes((_VERSION, len(methods), *methods))

    def receive(self, data: bytes) -> bytes:
        self._buffer += data
        out = b""
        while not self.done:
            step = self._step
            out += step()
            if step == self._step:
                break
        return out

    def _take(self, size: int) -> bytes | None:
        if len(self._buffer) < size:
            return None
        taken, self._buffer = self._buffer[:size], self._buffer[size:]
        return taken

    def _read_method(self) -> bytes:
        if self._buffer[:1] not in (b"", b"\x05"):
            raise UpstreamRefused("it does not speak SOCKS5")
        chosen = self._take(2)
        if chosen is None:
            return b""
        if chosen[1] == _NO_AUTHENTICATION:
            self._step = self._read_reply
            return self._request()
        if chosen[1] == _USER_PASSWORD and self._credentials is not None:
            self._step = self._read_verdict
            user, password = self._credentials
            return bytes((_AUTH_VERSION, len(user))) + user + bytes((len(password),)) + password
        if self._credentials is None:
            raise UpstreamRefused("it wants a user and a password, and none is configured")
        raise UpstreamRefused("it takes no user and password")

    def _read_verdict(self) -> bytes:
        verdict = self._take(2)
        if verdict is None:
            return b""
        if verdict[1] != 0:
            raise UpstreamRefused("it does not accept this user and password")
        self._step = self._read_reply
        return self._request()

    def _request(self) -> bytes:
        packed = pack_address(self._host)
        if packed is None:
            name = self._host.encode("ascii")
            where = bytes((_NAME, len(name))) + name
        else:
            where = bytes((_IPV4 if len(packed) == 4 else _IPV6,)) + packed
        return bytes((_VERSION, _CONNECT, 0)) + where + self._port.to_bytes(2, "big")

    def _read_reply(self) -> bytes:
        code = self._buffer[1] if len(self._buffer) > 1 else 0
        if code:
            raise UpstreamRefused(_REPLIES.get(code, f"it answered with code {code}"))
        if len(self._buffer) < 5:
            return b""
        kind = self._buffer[3]
        size = 1 + self._buffer[4] if kind == _NAME else _ADDRESS_SIZES.get(kind)
        if size is None:
            raise UpstreamRefused("its answer makes no sense")
        if self._take(4 + size + 2) is not None:
            self.done = True
            self.surplus, self._buffer = self._buffer, b""
        return b""


_STATUSES = {
    403: "it does not allow that",
    500: "it could not connect: no such host, or nobody answers there",  # tinyproxy's
    502: "it could not connect: no such host, or nobody answers there",
    503: "it could not connect",
    504: "it had no answer in time",
}


class _HttpConnect:
    """HTTP CONNECT, by h11."""

    def __init__(self, host: str, port: int, user: str | None, password: str) -> None:
        import h11  # only where such a proxy is used

        self.surplus = b""
        self.done = False
        self._h11 = h11
        self._connection = h11.Connection(h11.CLIENT)
        self._authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._user = user
        self._headers = [("Host", self._authority)]
        if user is not None:
            secret = base64.b64encode(f"{user}:{password}".encode()).decode()
            self._headers.append(("Proxy-Authorization", f"Basic {secret}"))

    def start(self) -> bytes:
        request = self._h11.Request(method="CONNECT", target=self._authority, headers=self._headers)
        first = self._connection.send(request) or b""
        return first + (self._connection.send(self._h11.EndOfMessage()) or b"")

    def receive(self, data: bytes) -> bytes:
        try:
            self._connection.receive_data(data)
            event = self._connection.next_event()
            while isinstance(event, self._h11.InformationalResponse):
                event = self._connection.next_event()
        except self._h11.RemoteProtocolError:
            raise UpstreamRefused("it does not speak HTTP/1.1") from None
        if isinstance(event, self._h11.Response):
            if not 200 <= event.status_code < 300:
                raise UpstreamRefused(self._why(event.status_code, bytes(event.reason)))
            self.done = True
            self.surplus = self._connection.trailing_data[0]
        return b""

    def _why(self, status: int, reason: bytes) -> str:
        if status in (407, 401):  # tinyproxy says 401 of a wrong password
            if self._user is None:
                return f"it wants a user and a password, and none is configured ({status})"
            return f"it does not accept this user and password ({status})"
        said = printable(reason.decode("latin-1"), _SHOWN)
        meaning = _STATUSES.get(status)
        return f"{meaning} ({status} {said})" if meaning else f"it answered {status} {said}"
