"""What the proxy itself answers over HTTP: why a request failed, a page about the port, the PAC file.

A browser's pages can ask this port, too, and with a name that leads here they can read the answers. So nothing in them
is a secret: no rule, no exit, no user, and nothing changes by asking.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import NamedTuple

from bethrou.errors import Failure, RequestError
from bethrou.printable import printable
from bethrou.wire.destination import check_host, split_address

PAC_PATH = "/proxy.pac"


class Answer(NamedTuple):
    """A whole answer, its framing excepted."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "text/plain; charset=utf-8"

    @property
    def fields(self) -> list[tuple[str, str]]:
        """All its headers."""
        return [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
            *self.headers,
        ]

    @property
    def phrase(self) -> str:
        """The reason phrase."""
        return HTTPStatus(self.status).phrase

    def encoded(self) -> bytes:
        """The answer as it is written where nothing can follow on the connection."""
        lines = [
            f"HTTP/1.1 {self.status} {self.phrase}",
            *(f"{name}: {value}" for name, value in self.fields),
        ]
        return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + self.body


_FAILURES = {
    Failure.REFUSED: (502, "connection_refused"),
    Failure.HOST_UNREACHABLE: (502, "destination_ip_unroutable"),
    Failure.NET_UNREACHABLE: (502, "destination_ip_unroutable"),
    Failure.NO_SUCH_HOST: (502, "dns_error"),
    Failure.TIMEOUT: (504, "connection_timeout"),
    Failure.DENIED: (403, "http_request_denied"),
    Failure.BAD_REQUEST: (400, "http_request_error"),
    Failure.DRAINING: (503, "destination_unavailable"),
    Failure.OVERLOADED: (503, "destination_unavailable"),
    Failure.INTERNAL: (502, "proxy_internal_error"),
    Failure.NO_EXIT: (503, "destination_unavailable"),
}
"""Status and `Proxy-Status` error type (RFC 9209, section 2.3) of each failure."""


def answer_to(error: RequestError, destination: str) -> Answer:
    """What an application is told when its request was not carried out."""
    status, kind = _FAILURES[error.failure]
    # which rule it was is the user's business, and a page might read it
    blocked = error.failure is Failure.DENIED and not error.exit
    reason = "blocked by a rule of the client" if blocked else str(error) or error.failure.value
    return refusal(status, f"{destination}: {reason}", kind)


def refusal(status: int, sentence: str, kind: str = "") -> Answer:
    """An error in one line. `kind`: the error type of RFC 9209, if there is one."""
    headers = (("Proxy-Status", f"bethrou; error={kind}"),) if kind else ()
    return Answer(status, f"bethrou: {printable(sentence)}\n".encode(), headers)


def login_wanted(reason: str) -> Answer:
    """The challenge of RFC 9110, section 11.7.1."""
    headers = (("Proxy-Authenticate", 'Basic realm="bethrou", charset="UTF-8"'),)
    return refusal(407, reason)._replace(headers=headers)


def answer_locally(method: str, target: str, host: str | None, login: bool) -> Answer:
    """The answer to a request that is for this port itself. `host`: its Host header; `login`: whether users log in."""
    path = target.partition("?")[0]
    if path not in ("/", PAC_PATH):
        return refusal(404, "this port is a proxy (SOCKS5, SOCKS4, HTTP); only its /proxy.pac is served here")
    if method not in ("GET", "HEAD"):
        return refusal(405, "this port is a proxy; what it serves itself can only be read")._replace(
            headers=(("Allow", "GET, HEAD"),)
        )
    try:
        where = _checked(host or "")
    except RequestError as error:
        return refusal(400, f"Host: {error}")
    if path == PAC_PATH:
        return Answer(200, proxy_pac(where, login).encode(), (), "application/x-ns-proxy-autoconfig")
    return Answer(200, _PAGE.format(where=where).encode())


def proxy_pac(where: str, login: bool) -> str:
    """The PAC file of the proxy at `where` (host:port, checked).

    Rules are not in it: the proxy obeys them, and a page could load this file as a script. No browser can log in to a
    SOCKS proxy.
    """
    proxies = f"PROXY {where}" if login else f"SOCKS5 {where}; PROXY {where}"
    return _PAC.replace("PROXIES", proxies)


def _checked(host: str) -> str:
    """`host` with a port, if nothing but an address or a name is in it. Raises RequestError."""
    try:
        name, port = split_address(host)
    except RequestError:
        name, port = check_host(host.removeprefix("[").removesuffix("]")), 80
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


_PAGE = """\
This is the port of a Bethrou client. It is no web server but a proxy: set it in an application as
SOCKS5, SOCKS4 or HTTP proxy {where}, or as automatic configuration http://{where}/proxy.pac
"""

_PAC = """\
// What stays on this machine or its network goes there directly; all else goes through Bethrou, or not at all.
function FindProxyForURL(url, host) {
    host = host.toLowerCase().replace(/^\\[|\\]$|\\.$/g, "");
    if (host.indexOf(":") >= 0 ? host === "::1" : isPlainHostName(host)
        || /(^|\\.)(localhost|local)$/.test(host)
        || /^127\\.\\d+\\.\\d+\\.\\d+$/.test(host)) {
        return "DIRECT";
    }
    return "PROXIES";
}
"""
