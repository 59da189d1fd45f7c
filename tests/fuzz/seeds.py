"""Writes the first corpus: what real peers say (tests/vectors), and hand-made openings of what has no vectors.

.venv/bin/python -m fuzz.seeds        in tests/
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from bethrou.wire import (
    announcement,
    grant,
    member_exchange,
    member_list,
    multistream,
    protobuf,
    proxy_request,
)
from fuzz.targets import IDENTITY, KEYS

TESTS = Path(__file__).parents[1]
CORPUS = Path(__file__).parent / "corpus"
WHOLE = b"\x00"  # fed in one piece

CLIENT_YAML = b"""key: network.key
server: {listen: 127.0.0.1:1080, user: a, pass: b}
routing: {strategy: sticky, pool: 4, wait: 5s}
nodes: [{id: 12D3KooWBLwyw79za4NEBnXhPqYqrNii63QmSAsTMgY8KdSAEgdU, addrs: [/ip4/1.2.3.4/tcp/4000]}]
rules: [{domain: example.com, use: direct}]
discovery: {enabled: true, address: "redis://a:b@c:1"}
"""
NODE_YAML = b"listen: [/ip4/0.0.0.0/tcp/4000]\nallow: [10.0.0.0/8:80]\nrelay_mode: true\nrelay_rate: 10MB\n"
UPGRADE = (
    b"GET /path HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
SWITCHING = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
)


def seeds() -> Iterator[tuple[str, bytes]]:
    """(target, input)"""
    for each in _vectors("multiaddrs")["valid"]:
        yield "multiaddr", bytes.fromhex(each["bytes"])
        yield "multiaddr", each["text"].encode()
    for each in _vectors("messages")["messages"]:
        kind = {
            "hop": "circuit",
            "stop": "circuit",
            "dcutr": "circuit",
            "autonat2": "autonat",
            "identify": "identify",
        }
        target = next((name for word, name in kind.items() if each["name"].startswith(word)), "circuit")
        yield target, bytes.fromhex(each["hex"])
    for each in _vectors("envelopes")["envelopes"]:
        yield "record", bytes.fromhex(each["envelope"])
    for protocol in ("/noise", "/yamux/1.0.0", "/bethrou/proxy/1.0.0"):
        yield "multistream", WHOLE + multistream.opening(protocol)
        yield "multistream", b"\x03" + multistream.opening(protocol) + multistream.frame("na")
    yield "noise", b"\x20" + bytes(range(32)) + bytes(96)
    header = bytes.fromhex
    yield "yamux", WHOLE + header("000100010000000100000000") + header("00000001000000010000000568656c6c6f")
    yield "yamux", b"\x05" + header("000200010000000000000007") + header("000300000000000000000000")
    yield "socks", WHOLE + b"\x05\x01\x00\x05\x01\x00\x03\x0bexample.com\x01\xbb"
    yield "socks", WHOLE + b"\x05\x01\x02\x01\x03bob\x01x\x05\x01\x00\x01\x01\x02\x03\x04\x00\x50"
    yield "socks", WHOLE + b"\x04\x01\x00\x50\x00\x00\x00\x01tag=eu\x00example.com\x00"
    yield "http", WHOLE + b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
    yield (
        "http",
        b"\x07" + b"GET http://a.b/c?d HTTP/1.1\r\nHost: a.b\r\nProxy-Authorization: Basic YTpi\r\n\r\n",
    )
    yield (
        "http",
        WHOLE + b"POST http://a.b/ HTTP/1.1\r\nHost: a.b\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    )
    yield "websocket", UPGRADE
    yield "websocket", SWITCHING
    yield (
        "websocket",
        WHOLE + b"\x82\x85\x01\x02\x03\x04hello\x89\x80\x01\x02\x03\x04\x88\x82\x00\x00\x00\x00\x03\xe8",
    )
    request = proxy_request.ProxyRequest("example.com", 443, "00" * 8, "ann")
    yield "request", WHOLE + proxy_request.encode_request_v1_0(request)
    yield "request", b"\x04" + proxy_request.encode_request_v1_1(request)
    yield "request", WHOLE + proxy_request.encode_answer_v1_1(proxy_request.Connected(("1.2.3.4", 5)))
    yield from (("membership", each) for each in _membership())
    yield "announcement", announcement.encode_request("reply-to", KEYS)
    yield "announcement", announcement.encode_presence(IDENTITY.peer_id, 5, 45.0, b"record", KEYS)
    yield "config", CLIENT_YAML
    yield "config", NODE_YAML
    yield "config", b"/key/swarm/psk/1.0.0/\n/base16/\n" + b"ab" * 32 + b"\n"
    yield "config", b"bob,tag=eu,session=7,ttl=1h"
    yield "certificate", (Path(__file__).parent / "certificate.der").read_bytes()


def write() -> None:
    """Write each seed under the name that libFuzzer would give it."""
    for target, data in seeds():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)


def _membership() -> Iterator[bytes]:
    """Payloads, whose signatures the target makes, and one side of a conversation."""
    network, peer = bytes(16), IDENTITY.peer_id
    granted = grant.Grant(network.hex(), peer, "laptop", "client", ("eu",), 1_800_000_000, 1_800_003_600)
    listed = member_list.MemberList(network.hex(), 3, 1_800_000_000, (member_list.Member(peer, "a", "node"),))
    for sealed in (granted.seal(IDENTITY), listed.seal(IDENTITY)):
        yield sealed
        yield next(
            value for number, _, value in protobuf.fields(sealed) if number == 3 and isinstance(value, bytes)
        )
    redemption = grant.seal_redemption(IDENTITY, peer)
    admission = grant.Admission.seal(IDENTITY, granted.seal(IDENTITY), redemption, 1_800_000_010)
    yield admission
    header = member_exchange.Header(3, "00" * 32, admission)
    items = (
        (member_exchange.Kind.LIST, listed.seal(IDENTITY)),
        (member_exchange.Kind.ADMISSION, admission),
    )
    told = b"".join(member_exchange.encode_item(*item) for item in items)
    yield WHOLE + header.encode() + told + member_exchange.END


def _vectors(name: str) -> dict[str, list[dict[str, str]]]:
    loaded: dict[str, list[dict[str, str]]] = json.loads((TESTS / "vectors" / f"{name}.json").read_text())
    return loaded


if __name__ == "__main__":
    write()
