"""A host under want: what it says of itself when the system gives it nothing."""

import errno

from bethrou.net import identify
from bethrou.net.interfaces import MAX_AGE
from bethrou.wire.multiaddr import Multiaddr

from .hosts import two_hosts


async def test_who_asks_a_host_without_file_descriptors_keeps_the_link() -> None:
    async with two_hosts() as (_, listener, link, _other):
        listener.listen(Multiaddr.parse("/ip4/0.0.0.0/tcp/0"))
        before = listener.listen_addresses
        assert len(before) > 1

        def fail() -> frozenset[object]:
            raise OSError(errno.EMFILE, "Too many open files")

        listener._interfaces._read = fail  # type: ignore[assignment]
        listener._interfaces._read_at -= 2 * MAX_AGE
        statement = await identify.ask(link)
        assert statement is not None
        assert statement.listen_addrs == tuple(before)
        assert link.alive
