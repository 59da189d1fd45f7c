"""A client whose machine moves to another network."""

from __future__ import annotations

import asyncio
import time

from faults.figures import Figures
from faults.load import load
from faults.namespace import namespace
from live.processes import ClientProgram, NodeProgram, Programs


async def test_links_are_dialled_again_at_once_when_the_address_is_another_one(
    started: Programs, figures: Figures
) -> None:
    applications, exits = 0, 1
    with namespace() as elsewhere:
        listen = f"/ip4/{elsewhere.here(exits)}/tcp/0"
        node: NodeProgram = await asyncio.to_thread(started.node, "--listen", listen)
        client: ClientProgram = await asyncio.to_thread(
            started.client_of,
            [node.said(rf"- (/ip4/{elsewhere.here(exits)}/\S+)")],
            server={"listen": f"{elsewhere.there(applications)}:0", "open": True},
            within=elsewhere.within,
        )
        try:
            await client.connected()
            async with load(client.proxy) as running:
                elsewhere.remove_address(exits)
                elsewhere.add_address(exits, 3)
                moved = time.monotonic()
                await client.connected(2)
                figures.seconds("link up again after", time.monotonic() - moved, promised=5)
                (down,) = client.lines_of("exit down")
                assert "silent" in down["reason"]
                first = await running.next()
                assert not first.fault
        finally:
            client.stop()
        figures.seconds("slowest request", max(transfer.took for transfer in running.done))
        figures.count("requests", len(running.done))
        figures.count("cut off", len(running.failed))
        assert figures.count("refused", len(running.refused)) == 0, running.refused
        assert all(transfer.began < moved for transfer in running.failed), running.failed
