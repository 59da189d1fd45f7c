"""Many members in one process, for a relay to serve:

    relay_hosts.py reserve KEY_FILE RELAY COUNT FILE           COUNT members that keep a reservation
    relay_hosts.py dial KEY_FILE RELAY COUNT FILE OPEN SAMPLES HOLD  COUNT members that open circuits to those

RELAY is the relay's multiaddr. They are the product's own hosts and, where they reserve, its `RelayKeeper`; of a node
nothing else is there. `reserve` writes peer IDs to FILE, prints "reserved" when all have a place, and then "back T" (of
CLOCK_MONOTONIC) each time that one has a place again. `dial` opens OPEN circuits, a few for each member, each to
another of those in FILE, prints "open SECONDS", waits for HOLD seconds, makes SAMPLES more one after the other, each
closed before the next, and prints how long each took until the link inside was up: "took MS MS MS ...".
"""

import asyncio
import itertools
import os
import random
import sys
import time
from pathlib import Path

from bethrou.assembly.keyfiles import read_network_key
from bethrou.cli.process import new_event_loop, raise_descriptor_limit, settle
from bethrou.events import Event, RelayReserved
from bethrou.net.buffers import Buffers
from bethrou.net.host import Host, HostConfig
from bethrou.net.relay_keeper import RelayKeeper
from bethrou.wire.keys import Identity
from bethrou.wire.multiaddr import Multiaddr
from bethrou.wire.peer_id import PeerId
from bethrou.wire.psk import NetworkKey

BATCH = 50
"""Members that begin at once."""

AT_ONCE = 16
"""Circuits that are opened at a time: as many as one client dials exits."""


def new_host(key: NetworkKey, buffers: Buffers) -> Host:
    """A member; those of a process share their scratch memory, as links of one program do."""
    config = HostConfig(
        key, Identity.generate(os.urandom), os.urandom, time.time_ns, time.perf_counter, "bench-relay"
    )
    host = Host(asyncio.get_running_loop(), config)
    host.buffers = buffers
    return host


async def reserve(key: NetworkKey, relay: Multiaddr, count: int, file: Path) -> None:
    loop, buffers = asyncio.get_running_loop(), Buffers()
    reserved = asyncio.Semaphore(0)
    complete = False

    def note(event: Event) -> None:
        if isinstance(event, RelayReserved):
            reserved.release()
            if complete:
                print(f"back {time.monotonic()}", flush=True)

    hosts, keepers = [], []
    for begun in range(0, count, BATCH):
        batch = range(begun, min(begun + BATCH, count))
        for _ in batch:
            host = new_host(key, buffers)
            keeper = RelayKeeper(loop, host, [relay], note, random.Random(os.urandom(16)), time.time)
            keeper.start()
            hosts.append(host)
            keepers.append(keeper)
        for _ in batch:
            await reserved.acquire()
    complete = True
    file.write_text("\n".join(str(host.peer_id) for host in hosts))
    settle()
    print("reserved", flush=True)
    await asyncio.Event().wait()


async def dial(
    key: NetworkKey, relay: Multiaddr, count: int, file: Path, circuits: int, samples: int, hold: float
) -> None:
    buffers, way = Buffers(), relay.circuit()
    hosts = [new_host(key, buffers) for _ in range(count)]
    targets = itertools.cycle(PeerId.parse(line) for line in file.read_text().split())
    dialers = itertools.cycle(hosts)
    slots = asyncio.Semaphore(AT_ONCE)

    async def open_one(host: Host, target: PeerId) -> None:
        async with slots:
            await host.dial(target, [way])

    began = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(circuits):
            group.create_task(open_one(next(dialers), next(targets)))
    settle()
    print(f"open {time.monotonic() - began}", flush=True)
    await asyncio.sleep(hold)
    took = []
    for _ in range(samples):
        host, target = next(dialers), next(targets)
        began = time.monotonic()
        link = await host.dial(target, [way])
        took.append(time.monotonic() - began)
        link.close()
        await link.closed
    print("took", *(f"{1e3 * seconds:.3f}" for seconds in took), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    what, key_file, relay, count, file, *numbers = sys.argv[1:]
    raise_descriptor_limit()
    key, address = read_network_key(Path(key_file)), Multiaddr.parse(relay)
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        if what == "reserve":
            runner.run(reserve(key, address, int(count), Path(file)))
        else:
            circuits, samples, hold = numbers
            work = dial(key, address, int(count), Path(file), int(circuits), int(samples), float(hold))
            runner.run(work)


if __name__ == "__main__":
    main()
