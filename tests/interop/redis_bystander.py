"""A Redis server, and somebody on it who is no member: sees what is said, says what no member would."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from conftest import needs
from live.waiting import PATIENCE, wait_until

_OWN_CHANNEL = "bystander"


class Bystander:
    """Hears everything on every channel, from the moment on when it is made."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._client: Any = redis.Redis.from_url(url)
        self._channels: Any = self._client.pubsub()
        self._channels.psubscribe("*")
        assert self._next()["type"] == "psubscribe"

    def hear(self) -> list[tuple[str, bytes]]:
        """Channel and payload of each message since the last time."""
        heard = []
        self.publish(_OWN_CHANNEL, b"")  # is behind all that Redis was given before now
        while (message := self._next())["channel"] != _OWN_CHANNEL.encode():
            heard.append((message["channel"].decode(), message["data"]))
        return heard

    def _next(self) -> dict[str, Any]:
        message: dict[str, Any] | None = self._channels.get_message(timeout=PATIENCE)
        assert message is not None
        return message

    def publish(self, channel: str, payload: bytes) -> None:
        self._client.publish(channel, payload)

    def subscribers(self, topic: str) -> int:
        """How many are subscribed to `topic` by its name."""
        return int(self._client.pubsub_numsub(topic)[0][1])

    def close(self) -> None:
        self._channels.close()
        self._client.close()


@contextlib.contextmanager
def redis_server(folder: Path) -> Iterator[str]:
    """A server for the length of a block: its URL."""
    (program,) = needs("redis-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: _accepts(port))
            yield f"redis://127.0.0.1:{port}"
        finally:
            process.terminate()


def _accepts(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
