"""A DNS server for tests: answers from a table, after a delay, wrongly, or not at all."""

from __future__ import annotations

import asyncio
import socket
import struct
from ipaddress import ip_address

from bethrou.config.values import DnsServer

A, AAAA = 1, 28
NOERROR, SERVFAIL, NXDOMAIN, REFUSED = 0, 2, 3, 5


class DnsServerForTests(asyncio.DatagramProtocol):
    """Zones: name -> record texts (none: the name exists, without addresses). Other names do not exist."""

    def __init__(self) -> None:
        self.zone: dict[str, list[str]] = {}
        self.ttl = 60
        self.silent: set[tuple[str, int]] = set()
        """(name, kind) of questions that are never answered."""
        self.broken: dict[str, int] = {}
        """Names whose answer is this error code."""
        self.questions: list[tuple[str, int]] = []
        self.asked = asyncio.Event()

    @classmethod
    async def start(cls) -> DnsServerForTests:
        loop = asyncio.get_running_loop()
        transport, server = await loop.create_datagram_endpoint(cls, local_addr=("127.0.0.1", 0))
        server.transport = transport
        # Hundreds of questions may come in one turn of the loop.
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        return server

    transport: asyncio.DatagramTransport

    @property
    def address(self) -> DnsServer:
        host, port = self.transport.get_extra_info("sockname")
        return DnsServer(ip_address(host), port)

    def never_answer(self, *names: str) -> None:
        self.silent.update((name, kind) for name in names for kind in (A, AAAA))

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        name, end = _read_name(data)
        (kind,) = struct.unpack_from("!H", data, end)
        self.questions.append((name, kind))
        self.asked.set()
        if (name, kind) not in self.silent:
            self.transport.sendto(self._answer(data[:2], data[12 : end + 4], name, kind), address)

    def _answer(self, number: bytes, question: bytes, name: str, kind: int) -> bytes:
        code = self.broken.get(name, NOERROR if name in self.zone else NXDOMAIN)
        records = [] if code else [ip_address(text).packed for text in self.zone[name]]
        records = [packed for packed in records if len(packed) == (4 if kind == A else 16)]
        header = struct.pack("!HHHHH", 0x8180 | code, 1, len(records), 0, 0)
        body = b"".join(
            b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, self.ttl, len(packed)) + packed for packed in records
        )
        return number + header + question + body


def _read_name(data: bytes) -> tuple[str, int]:
    labels, position = [], 12
    while data[position]:
        end = position + 1 + data[position]
        labels.append(data[position + 1 : end].decode())
        position = end
    return ".".join(labels), position + 1
