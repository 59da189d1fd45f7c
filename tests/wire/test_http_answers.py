"""What the proxy says itself: statuses, the page, and the PAC file as a JavaScript engine reads it."""

from __future__ import annotations

import json
import subprocess

import pytest

from bethrou.errors import Failure, RequestError
from bethrou.wire.http_answers import answer_locally, answer_to, login_wanted, proxy_pac
from conftest import needs

HOSTS = {
    "example.com": False,
    "EXAMPLE.com.": False,
    "only.at.exit.test": False,
    "localhost.example": False,
    "notlocal": True,
    "10.0.0.1": False,
    "192.168.1.1": False,
    "128.0.0.1": False,
    "127.0.0.1.example": False,
    "127.0.0.1": True,
    "127.1.2.3": True,
    "localhost": True,
    "LocalHost": True,
    "app.localhost": True,
    "printer.local": True,
    "::1": True,
    "[::1]": True,
    "2001:db8::1": False,
    "fe80::1": False,
}


@pytest.mark.parametrize(
    ("login", "proxies"),
    [(False, "SOCKS5 127.0.0.1:1080; PROXY 127.0.0.1:1080"), (True, "PROXY 127.0.0.1:1080")],
)
def test_the_pac_file_sends_only_what_is_local_past_the_proxy(login: bool, proxies: str) -> None:
    (node,) = needs("node")
    # isPlainHostName as browsers define it
    script = (
        "function isPlainHostName(host) { return host.indexOf('.') < 0; }\n"
        + proxy_pac("127.0.0.1:1080", login)
        + f"const hosts = {json.dumps(list(HOSTS))};\n"
        + "console.log(JSON.stringify(hosts.map(host => FindProxyForURL('http://' + host + '/', host))));"
    )
    done = subprocess.run([node, "-e", script], check=True, capture_output=True, text=True)
    assert dict(zip(HOSTS, json.loads(done.stdout), strict=True)) == {
        host: "DIRECT" if local else proxies for host, local in HOSTS.items()
    }


@pytest.mark.parametrize(
    ("host", "where"),
    [
        ("127.0.0.1:1080", "127.0.0.1:1080"),
        ("[::1]:1080", "[::1]:1080"),
        ("[::1]", "[::1]:80"),
        ("proxy.lan", "proxy.lan:80"),
        ("proxy.lan:99", "proxy.lan:99"),
    ],
)
def test_the_pac_file_names_the_address_at_which_it_was_asked_for(host: str, where: str) -> None:
    answer = answer_locally("GET", "/proxy.pac?x", host, login=False)
    assert (answer.status, answer.content_type) == (200, "application/x-ns-proxy-autoconfig")
    assert f'return "SOCKS5 {where}; PROXY {where}";' in answer.body.decode()


@pytest.mark.parametrize(
    "host", [None, "", '"; alert(1); "', "a b", "a:b", "a\\", "a/", "a\x00", "a:1:2", "é", "a:0"]
)
def test_nothing_else_gets_into_the_script(host: str | None) -> None:
    for path in ("/proxy.pac", "/"):
        assert answer_locally("GET", path, host, login=False).status == 400


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("HEAD", "/proxy.pac", 200),
        ("GET", "/proxy.pac/", 404),
        ("GET", "//proxy.pac", 404),
        ("POST", "/proxy.pac", 405),
        ("DELETE", "/", 405),
        ("OPTIONS", "*", 404),
        ("GET", "/v1/status", 404),
    ],
)
def test_what_is_asked_of_the_port_itself(method: str, path: str, status: int) -> None:
    answer = answer_locally(method, path, "127.0.0.1:1080", login=False)
    assert answer.status == status
    names = {name.lower() for name, _ in answer.fields}
    assert not any(name.startswith("access-control") for name in names)
    assert ("x-content-type-options" in names, "cache-control" in names) == (True, True)


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Failure.REFUSED, 502),
        (Failure.HOST_UNREACHABLE, 502),
        (Failure.NET_UNREACHABLE, 502),
        (Failure.NO_SUCH_HOST, 502),
        (Failure.INTERNAL, 502),
        (Failure.TIMEOUT, 504),
        (Failure.DENIED, 403),
        (Failure.BAD_REQUEST, 400),
        (Failure.DRAINING, 503),
        (Failure.OVERLOADED, 503),
        (Failure.NO_EXIT, 503),
    ],
)
def test_failures_become_statuses(failure: Failure, status: int) -> None:
    answer = answer_to(RequestError(failure, "why\x1b[31m\n", "12D3KooW"), "example.com:80")
    assert answer.status == status
    assert answer.body == b"bethrou: example.com:80: why\\x1b[31m\\n\n"
    head, _, body = answer.encoded().partition(b"\r\n\r\n")
    assert body == answer.body
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nProxy-Status: bethrou; error=" in head


def test_every_failure_has_a_status() -> None:
    assert all(answer_to(RequestError(failure, ""), "a:1").status >= 400 for failure in Failure)


def test_which_rule_it_was_is_not_told() -> None:
    error = RequestError(Failure.DENIED, "blocked by rules[0] (domain: secret.corp, use: block)")
    assert answer_to(error, "a:1").body == b"bethrou: a:1: blocked by a rule of the client\n"


def test_a_login_is_asked_for() -> None:
    answer = login_wanted("no")
    assert answer.status == 407
    assert ("Proxy-Authenticate", 'Basic realm="bethrou", charset="UTF-8"') in answer.fields
