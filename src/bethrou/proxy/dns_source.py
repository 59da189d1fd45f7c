"""Asking DNS servers, with c-ares: every look-up is datagrams, so one that gets no answer holds up no other.

The A and AAAA records are asked for in parallel. c-ares brings a thread of its own, which waits for answers,
repeats questions, follows changes of resolv.conf and asks again over TCP when an answer does not fit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import aiodns
import pycares
from aiodns import error as dns_error

from bethrou.config.values import DnsServer
from bethrou.errors import ConfigError, Failure, RequestError
from bethrou.proxy.hosts_file import HostsFile
from bethrou.proxy.name_source import MAX_ADDRESSES, Address, Answer, no_such_host

FIRST_TIMEOUT = 1.0
"""Seconds until a question to a server not yet known is repeated; then twice as long each time. For a server
that it knows c-ares starts from its usual time to answer, but never below 0.25 s."""

TRIES = 5
"""How often a server is asked: from 0.25 s that is 7.75 s, just within the limit of a whole look-up."""

SECOND_FAMILY_DELAY = 0.3
"""Seconds that one family's addresses wait for the other's (RFC 8305 section 3 has 50 ms, for hosts that want
IPv6 first). Some servers never answer AAAA questions."""

PARTIAL_TTL = 10.0
"""How long an answer is kept, in seconds, that lacks a family which was late."""

HOSTS_TTL = 5.0
"""How long a name of /etc/hosts is kept, in seconds."""

HOSTS_PATH = Path("/etc/hosts")

_NO_SUCH_NAME = frozenset({dns_error.ARES_ENOTFOUND, dns_error.ARES_EBADNAME, dns_error.ARES_ENONAME})


@dataclass(frozen=True, slots=True)
class Records:
    """What one question brought: addresses, or none and c-ares's error number."""

    addresses: tuple[Address, ...] = ()
    ttl: float = 0.0
    error: int = dns_error.ARES_SUCCESS


class DnsSource:
    """Looks names up in /etc/hosts, then with DNS servers: the given ones or those of resolv.conf."""

    def __init__(
        self, servers: Sequence[DnsServer], clock: Callable[[], float], hosts: Path = HOSTS_PATH
    ) -> None:
        """Start c-ares; needs a running loop. Raises ConfigError."""
        self._hosts = HostsFile(hosts, clock)
        try:
            self._resolver = aiodns.DNSResolver(
                nameservers=[str(server) for server in servers] or None,
                loop=asyncio.get_running_loop(),
                timeout=FIRST_TIMEOUT,
                tries=TRIES,
            )
        except pycares.AresError as error:
            raise ConfigError(f"the DNS resolver cannot be started: {error}") from error

    async def look_up(self, name: str) -> Answer:
        """Find the addresses of a name, IPv6 first. Raises RequestError."""
        listed = self._hosts.addresses(name)
        if listed:
            return Answer(listed, HOSTS_TTL)
        questions = [self._resolver.query_dns(name, kind) for kind in ("AAAA", "A")]
        try:
            await _wait(questions)
            return combine(name, [_records(question) for question in questions if question.done()])
        finally:
            for question in questions:
                # c-ares still sees it through, but what it brings is dropped.
                question.cancel()

    async def close(self) -> None:
        """Cancel what c-ares still does, and end its thread."""
        await self._resolver.close()


async def _wait(questions: list[asyncio.Future[pycares.DNSResult]]) -> None:
    """Wait until enough is known: both answers, or one that need not wait for the other."""
    done, pending = await asyncio.wait(questions, return_when=asyncio.FIRST_COMPLETED)
    if pending:
        first = _records(done.pop())
        if first.error not in _NO_SUCH_NAME:
            await asyncio.wait(pending, timeout=SECOND_FAMILY_DELAY if first.addresses else None)


def _records(question: asyncio.Future[pycares.DNSResult]) -> Records:
    problem = question.exception()
    if isinstance(problem, dns_error.DNSError):
        return Records(error=problem.args[0])
    answer = question.result().answer
    found = tuple(
        ip_address(record.data.addr)
        for record in answer
        if isinstance(record.data, pycares.ARecordData | pycares.AAAARecordData)
    )
    if not found:
        return Records(error=dns_error.ARES_ENODATA)
    return Records(found[: MAX_ADDRESSES // 2], float(min(record.ttl for record in answer)))


def combine(name: str, both: Sequence[Records]) -> Answer:
    """Make one answer of those for IPv6 and IPv4, of which one may be missing. Raises RequestError."""
    addresses = tuple(address for records in both for address in records.addresses)
    if addresses:
        ttl = min(records.ttl for records in both if records.addresses)
        return Answer(addresses, ttl if len(both) > 1 else min(ttl, PARTIAL_TTL))
    errors = {records.error for records in both}
    if errors & _NO_SUCH_NAME or errors == {dns_error.ARES_ENODATA}:
        # "No such name" holds for every kind of record (RFC 8020), so the other answer does not matter.
        raise no_such_host(name)
    if dns_error.ARES_ETIMEOUT in errors:
        raise RequestError(Failure.TIMEOUT, f"lookup {name}: no answer from the DNS server")
    reasons = sorted(str(pycares.errno.strerror(error)) for error in errors - {dns_error.ARES_ENODATA})
    raise RequestError(Failure.INTERNAL, f"lookup {name}: {', '.join(reasons)}")
