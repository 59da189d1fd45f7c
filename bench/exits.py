"""Several real exit nodes in one process: exits.py KEY_FILE REDIS_URL COUNT

They are what `bethrou-node start --discover` runs, without a log and without a state directory. Each listens on a
loopback port of its own and may dial loopback, where the target is. "ready" is printed when all listen.
"""

import asyncio
import os
import sys
from pathlib import Path

from bethrou.cli.keyfiles import read_network_key
from bethrou.cli.process import new_event_loop, raise_descriptor_limit, settle
from bethrou.cli.running_node import RunningNode
from bethrou.config import load_node_config
from bethrou.wire.keys import Identity


async def serve(key_file: Path, redis_url: str, count: int) -> None:
    loop = asyncio.get_running_loop()
    key = read_network_key(key_file)
    options = {
        "listen": ["/ip4/127.0.0.1/tcp/0"],
        "allow": ["127.0.0.0/8"],
        "discovery": {"enabled": True, "address": redis_url},
    }
    config = load_node_config(None, options)
    nodes = [
        RunningNode(loop, config, key, Identity.generate(os.urandom), lambda event: None)
        for _ in range(count)
    ]
    settle()
    print("ready", flush=True)
    await asyncio.Event().wait()
    del nodes


def main() -> None:
    key_file, redis_url, count = sys.argv[1:]
    raise_descriptor_limit()
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(Path(key_file), redis_url, int(count)))


if __name__ == "__main__":
    main()
