"""Connections to peers through a proxy in front of us, which alone gets out of this network."""

from __future__ import annotations

import asyncio

from bethrou.errors import LinkLost
from bethrou.net.addresses import endpoint
from bethrou.net.dialer import connect
from bethrou.net.reader import reader_of
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.upstream import Upstream, UpstreamRefused

ANSWER_TIMEOUT = 10.0
"""Seconds that the proxy has to connect and say so, the way to it not included."""


async def connect_through(
    loop: asyncio.AbstractEventLoop, address: Multiaddr, proxy: Upstream
) -> asyncio.Transport:
    """A connection to the TCP port in `address`, made by `proxy`; a `ByteReader` keeps what comes.

    Raises `LinkLost` or `AddressError`.
    """
    where = endpoint(address)
    try:
        transport = await connect(loop, proxy.address)
    except LinkLost as error:
        raise LinkLost(f"{address}: the proxy {proxy} cannot be reached: {error}") from None
    done = False
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            await _ask(transport, proxy, where.host, where.port)
        done = True
        return transport
    except TimeoutError:
        late = f"no answer within {ANSWER_TIMEOUT:.0f} s"
        raise LinkLost(f"{address}: through the proxy {proxy}: {late}") from None
    except (UpstreamRefused, LinkLost, OSError) as error:
        raise LinkLost(f"{address}: through the proxy {proxy}: {error}") from None
    finally:
        if not done:
            transport.abort()


async def _ask(transport: asyncio.Transport, proxy: Upstream, host: str, port: int) -> None:
    reader = reader_of(transport)
    conversation = proxy.ask_for(host.partition("%")[0], port)
    reader.write(conversation.start())
    while not conversation.done:
        data = await reader.read_some()
        if not data:
            raise LinkLost("it closed the connection without an answer")
        more = conversation.receive(data)
        if more:
            reader.write(more)
    reader.push_back(conversation.surplus)
