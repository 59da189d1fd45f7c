"""`--metrics` on real programs: who may ask, and what a scrape finds."""

from __future__ import annotations

import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from cli.commands import run
from live.applications import application, refusal
from live.processes import Programs, programs
from live.targets import banner, target
from live.waiting import until


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as running:
        yield running


def scraped(url: str) -> dict[str, float]:
    with urllib.request.urlopen(url, timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        text = answer.read().decode()
    return {
        sample.name + str(sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_client_and_node(started: Programs) -> None:
    node = started.node("--metrics", "127.0.0.1:0", "--name", "berlin")
    client = started.client([node], "--metrics", "127.0.0.1:0")
    at_client = (await client.logged("metrics for Prometheus are served"))["address"]
    at_node = (await node.logged("metrics for Prometheus are served"))["address"]
    await client.connected()
    async with target(banner(b"hello")) as far, application(client.proxy, far.host, far.port) as app:
        assert await app.reader.readexactly(5) == b"hello"
        assert scraped(at_client)["bethrou_connections[]"] == 1
    assert await refusal(client.proxy, "10.0.0.1", 80) != 0
    await client.logged("request", result="denied")
    await until(lambda: scraped(at_node).get("bethrou_requests_total['', 'denied']") == 1)
    found = scraped(at_client)
    assert found["bethrou_requests_total['berlin', 'denied']"] == 1
    ended = [value for name, value in found.items() if name.startswith("bethrou_requests_total['berlin'")]
    assert sum(ended) == 2
    assert found["bethrou_request_connect_seconds_count[]"] == 1
    assert 0 < found["bethrou_request_first_byte_seconds_sum[]"] < 5
    assert found["bethrou_link_bytes_total['berlin', 'received']"] > 0
    assert found["bethrou_links['direct']"] == 1


async def test_what_is_not_answered(started: Programs) -> None:
    node = started.node("--metrics", "127.0.0.1:0")
    url = str((await node.logged("metrics for Prometheus are served"))["address"])
    for path, headers, status in (
        ("/", {}, 404),
        ("/metrics", {"Origin": "http://evil.example"}, 403),
        ("/v1/status", {}, 404),
        ("//[", {}, 400),
        ("/metrics", {"Host": "rebound.example:9464"}, 403),
    ):
        request = urllib.request.Request(url.replace("/metrics", path), headers=headers)
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(request, timeout=10)
        assert caught.value.code == status
        caught.value.close()


def test_an_address_that_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        run("bethrou", "key", "new", cwd=tmp_path)
        done = run(
            "bethrou-node",
            "start",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--metrics",
            f"127.0.0.1:{port}",
            cwd=tmp_path,
        )
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith(f"cannot listen on 127.0.0.1:{port}: Address already in use")
