"""Several real exit nodes in one process: exits.py KEY_FILE REDIS_PORT COUNT

They are what `bethrou-node start --discover` runs, without a log and without a state directory. Each listens on a
loopback port of its own and may dial loopback, where the target is. Redis is as far from each as from the stand-ins, up
to LONGEST_ROUND_TRIP_S away. "ready" is printed when all listen.
"""

import asyncio
import os
import sys
from pathlib import Path

from far_redis import LONGEST_ROUND_TRIP_S, far_redis

from bethrou.assembly.keyfiles import read_network_key
from bethrou.assembly.running_node import RunningNode
from bethrou.cli.process import new_event_loop, raise_descriptor_limit, settle
from bethrou.config import load_node_config
from bethrou.wire.keys import Identity


async def serve(key_file: Path, redis_port: int, count: int) -> None:
    loop = asyncio.get_running_loop()
    key = read_network_key(key_file)
    nodes = []
    for number in range(count):
        redis = await far_redis(redis_port, LONGEST_ROUND_TRIP_S / 2 * (number + 0.5) / count)
        options = {
            "listen": ["/ip4/127.0.0.1/tcp/0"],
            "allow": ["127.0.0.0/8"],
            "discovery": {"enabled": True, "address": redis},
        }
        identity = Identity.generate(os.urandom)
        nodes.append(RunningNode(loop, load_node_config(None, options), key, identity, lambda event: None))
    settle()
    print("ready", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    key_file, redis_port, count = sys.argv[1:]
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Path(key_file), int(redis_port), int(count)))


if __name__ == "__main__":
    main()
