"""Running programs whose configuration changes: real processes, real signals, files replaced as editors do it."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from bethrou.cli.reloading import LOOK, FileWatch, Reloading
from bethrou.errors import ConfigError
from cli.commands import run
from live.applications import application, echoed, refusal
from live.processes import ClientProgram, Program, Programs, programs
from live.targets import echo, target
from live.waiting import PATIENCE, until

OBEYED = "configuration obeyed anew: "
REFUSED = "configuration not obeyed, all stays as it is"


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as all_of_them:
        yield all_of_them


def config_file(program: Program) -> Path:
    return program.folder / ("client.yaml" if isinstance(program, ClientProgram) else "node.yaml")


def changed(program: Program, **fields: Any) -> str:
    """The text of its configuration with other values at the top."""
    return json.dumps({**json.loads(config_file(program).read_text()), **fields})


def rewrite(path: Path, text: str) -> None:
    path.write_text(text)


def replace(path: Path, text: str) -> None:
    """As most editors do it."""
    beside = path.with_name("beside")
    beside.write_text(text)
    beside.rename(path)


# -- a client -------------------------------------------------------------------------------------------------------


async def test_a_client_obeys_anew_at_sighup_and_drops_no_connection(started: Programs) -> None:
    nodes = [started.node(), started.node()]
    # otherwise a node that is no longer named is still one that members tell of
    client = started.client(nodes[:1], discovery={"members": False})
    await client.connected()
    async with target(echo) as far, application(client.proxy, far.host, far.port) as app:
        both = [{"addrs": [node.address]} for node in nodes]
        rules = [{"domain": ["blocked.test"], "use": "block"}]
        rewrite(
            config_file(client), changed(client, nodes=both, routing={"strategy": "ordered"}, rules=rules)
        )
        client.signal(signal.SIGHUP)
        await client.logged(f"{OBEYED}nodes: 1 new, 0 gone, 2 in all")
        await client.logged(f"{OBEYED}routing.strategy: random -> ordered")
        await client.logged(f"{OBEYED}rules: 1 instead of 0")
        await client.connected(2)
        assert await refusal(client.proxy, "blocked.test", 80) == 0x02

        rewrite(config_file(client), changed(client, nodes=both[1:], rules=[]))
        client.signal(signal.SIGHUP)
        await client.logged(f"{OBEYED}nodes: 0 new, 1 gone, 1 in all")
        async with application(client.proxy, far.host, far.port) as other:
            assert await echoed(other, b"through the other") == b"through the other"
        await client.logged("request", result="ok", exit=nodes[1].short)
        assert await echoed(app, b"still here") == b"still here"
    await client.logged("exit down", exit=nodes[0].short, reason="no longer in the configuration")
    client.signal(signal.SIGHUP)
    await client.logged(f"{OBEYED}nothing has changed")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("server: {listen: 'x'}\n", 'client.yaml: server.listen: "x" has no port'),
        ("grace: 5\nnodes: [\n", "client.yaml: line 3: not valid YAML"),
        ("", "client.yaml: the file is empty"),
        (
            "discovery: {enabled: true, address: 'ftp://u:hunter2@x'}\n",
            "client.yaml: discovery address begins",
        ),
        ("discovery: {enabled: true, address: 'rediss://u:hunter2@x', ca: absent.pem}\n", "absent.pem"),
    ],
)
async def test_a_wrong_file_changes_nothing_and_is_one_line(
    started: Programs, text: str, reason: str
) -> None:
    node = started.node()
    client = started.client([node])
    await client.connected()
    rewrite(config_file(client), text)
    client.signal(signal.SIGHUP)
    line = await client.logged(REFUSED)
    assert reason in line["reason"]
    assert "hunter2" not in str(client.lines)
    async with target(echo) as far:
        assert await refusal(client.proxy, far.host, far.port) == 0
    assert not client.lines_of(OBEYED)
    config_file(client).unlink()
    client.signal(signal.SIGHUP)
    await client.logged(REFUSED, count=2)
    assert client.running


async def test_without_discovery_only_the_exits_that_are_named_are_used(
    started: Programs, tmp_path: Path
) -> None:
    async def sources() -> set[str]:
        asked = ("bethrou", "status", "--client", "--json")
        done = await asyncio.to_thread(run, *asked, cwd=tmp_path, XDG_STATE_HOME=str(tmp_path))
        return {source["name"] for source in json.loads(done.stdout)["sources"]}

    named = started.node()
    other = started.node("--peer", named.address)
    client = started.client([named])
    await client.logged("exit up", exit=other.short)
    assert await sources() == {"static", "members", "cache"}
    rewrite(config_file(client), changed(client, discovery={"members": False}))
    client.signal(signal.SIGHUP)
    await client.logged(f"{OBEYED}discovery: changed")
    await client.logged("exit down", exit=other.short, reason="no longer in the configuration")
    assert await sources() == {"static"}
    assert not client.lines_of("exit down", exit=named.short)

    rewrite(config_file(client), changed(client, discovery={"members": True}))
    client.signal(signal.SIGHUP)
    await client.logged("exit up", count=2, exit=other.short)


async def test_users_that_are_taken_away_are_let_in_no_more(started: Programs) -> None:
    server = {"listen": "127.0.0.1:0", "users": {"bob": "old", "eve": "x"}}
    client = started.client([started.node()], server=server)
    await client.connected()
    async with target(echo) as far, application(client.proxy, far.host, far.port, user=("eve", "x")) as app:
        server["users"] = {"bob": "new"}
        rewrite(config_file(client), changed(client, server=server))
        client.signal(signal.SIGHUP)
        await client.logged(f"{OBEYED}server: 1 user")
        for user in (("eve", "x"), ("bob", "old")):
            with pytest.raises(PermissionError):
                async with application(client.proxy, far.host, far.port, user=user):
                    pass
        async with application(client.proxy, far.host, far.port, user=("bob", "new")) as other:
            assert await echoed(other, b"hello") == b"hello"
        assert await echoed(app, b"still here") == b"still here"


# -- a watched file -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", [rewrite, replace])
async def test_a_watched_file_is_obeyed_when_it_changes(
    started: Programs, write: Callable[[Path, str], None]
) -> None:
    client = started.client([started.node()], watch=True)
    path = config_file(client)
    good = changed(client, routing={"strategy": "fastest"})
    write(path, good)
    await client.logged(f"{OBEYED}routing.strategy: random -> fastest")
    write(path, "nodes: [\n")
    assert "line 2" in (await client.logged(REFUSED))["reason"]
    path.unlink()
    write(path, changed_text(good, routing={"strategy": "sticky"}))
    await client.logged(f"{OBEYED}routing.strategy: fastest -> sticky")
    assert len(client.lines_of(REFUSED)) == 1
    assert len(client.lines_of(OBEYED)) == 2


def changed_text(text: str, **fields: Any) -> str:
    return json.dumps({**json.loads(text), **fields})


class Watched:
    """A file that is looked at by hand."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_text("a")
        self.wanted = True
        self.changes = 0
        self.watch = FileWatch(asyncio.get_running_loop(), path, lambda: self.wanted, self.note)

    def note(self) -> None:
        self.changes += 1

    def look(self, times: int = 1) -> int:
        """Look so many times; how many changes were told until then."""
        for _ in range(times):
            self.watch._timer.cancel()
            self.watch._look()
        return self.changes


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Watched]:
    made = Watched(tmp_path / "file")
    yield made
    made.watch.close()


async def test_a_file_is_told_of_when_it_rests(watched: Watched) -> None:
    assert watched.look(3) == 0
    for size in range(2, 6):
        watched.path.write_text("b" * size)  # somebody is still writing
        assert watched.look() == 0
    assert watched.look() == 1
    assert watched.look(3) == 1


async def test_a_file_that_is_gone_is_no_change_and_one_that_comes_is(watched: Watched) -> None:
    watched.path.unlink()
    assert watched.look(3) == 0
    watched.path.write_text("another")
    assert watched.look(2) == 1


async def test_what_happened_while_nobody_wanted_to_know_is_not_told_later(watched: Watched) -> None:
    watched.wanted = False
    watched.path.write_text("another")
    assert watched.look(3) == 0
    watched.wanted = True
    assert watched.look(3) == 0
    watched.path.write_text("and another")
    assert watched.look(2) == 1


async def test_a_watch_looks_once_a_second(watched: Watched) -> None:
    loop = asyncio.get_running_loop()
    watched.look()
    assert watched.watch._timer.when() == pytest.approx(loop.time() + LOOK, abs=0.2)


# -- many requests for it -------------------------------------------------------------------------------------------


async def test_however_often_it_is_asked_for_one_reload_waits_at_most() -> None:
    begun = 0
    may_end = asyncio.Event()

    async def reload() -> Sequence[str]:
        nonlocal begun
        begun += 1
        await may_end.wait()
        if begun == 2:
            raise ConfigError("client.yaml: line 7: no")
        return ["a", "b"]

    loop = asyncio.get_running_loop()
    lines: list[tuple[str, dict[str, object]]] = []
    reloading = Reloading(loop, reload, Notes(lines))  # type: ignore[arg-type]
    try:
        for _ in range(1000):
            reloading.now()
        await until(lambda: begun == 1)
        for _ in range(1000):
            reloading.now()
        assert len(reloading._tasks) <= 2
        may_end.set()
        await until(lambda: len(lines) == 3)
        assert begun == 2
    finally:
        await reloading.close()
    assert [text for text, _ in lines] == [f"{OBEYED}a", f"{OBEYED}b", REFUSED]
    assert lines[-1][1] == {"reason": "client.yaml: line 7: no"}


class Notes:
    """A log that keeps its lines."""

    def __init__(self, lines: list[tuple[str, dict[str, object]]]) -> None:
        self._lines = lines

    def info(self, text: str, **fields: object) -> None:
        self._lines.append((text, fields))

    error = info


# -- a node ---------------------------------------------------------------------------------------------------------


async def test_a_node_obeys_anew_at_sighup(started: Programs) -> None:
    node = started.node_of(name="berlin", watch=False)
    client = started.client([node])
    await client.connected()
    async with target(echo) as far:
        assert await refusal(client.proxy, far.host, far.port) == 0x02
        rewrite(config_file(node), changed(node, name="munich", allow=["127.0.0.0/8"]))
        node.signal(signal.SIGHUP)
        await node.logged(f"{OBEYED}allow: changed")
        await node.logged(f"{OBEYED}name: changed")
        async with application(client.proxy, far.host, far.port) as app:
            rewrite(config_file(node), changed(node, allow=[]))
            node.signal(signal.SIGHUP)
            await node.logged(f"{OBEYED}allow: changed", count=2)
            assert await refusal(client.proxy, far.host, far.port) == 0x02
            assert await echoed(app, b"still here") == b"still here"
    rewrite(config_file(node), "name: a b\n")
    node.signal(signal.SIGHUP)
    assert 'node.yaml: name: "a b"' in (await node.logged(REFUSED))["reason"]
    rewrite(config_file(node), changed_text("{}", listen=["/ip4/127.0.0.1/tcp/1"], log={"level": "debug"}))
    node.signal(signal.SIGHUP)
    await node.logged(f"{OBEYED}log: changed, but a restart is needed for it")
    assert not client.lines_of("exit down")


async def test_a_nodes_watched_file(started: Programs) -> None:
    node = started.node_of(watch=True)
    replace(config_file(node), changed(node, grace="3s"))
    await node.logged(f"{OBEYED}grace: changed")


async def test_a_node_changes_its_relays_without_a_restart(started: Programs) -> None:
    first, second = (started.node("--relay-mode", "--no-exit") for _ in range(2))
    node = started.node_of(connect_relay=[first.address], watch=True)
    await node.logged("reachable through relay", relay=first.short)
    replace(config_file(node), changed(node, connect_relay=[second.address]))
    await node.logged(f"{OBEYED}connect_relay: changed")
    await node.logged("reachable through relay", relay=second.short)
    assert not node.lines_of("not reachable through relay")


async def test_a_node_of_options_alone_has_nothing_to_obey_anew(started: Programs) -> None:
    node = started.node()
    node.signal(signal.SIGHUP)
    assert "a node without --config has no file to read" in (await node.logged(REFUSED))["reason"]
    assert node.running


# -- on a terminal --------------------------------------------------------------------------------------------------


WITH_A_TERMINAL = """
import fcntl, os, sys, termios
os.setsid()
fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # this one's end is told by SIGHUP
os.execv(sys.argv[1], sys.argv[1:])
"""


@pytest.mark.parametrize("role", ["client", "node"])
async def test_the_end_of_its_terminal_ends_a_program(started: Programs, tmp_path: Path, role: str) -> None:
    folder = tmp_path / "terminal"
    folder.mkdir()
    nowhere = "/ip4/127.0.0.1/tcp/1/p2p/12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"
    (folder / "client.yaml").write_text(
        f'server: {{listen: "127.0.0.1:0"}}\nnodes: [{{addrs: [{nowhere}]}}]\n'
    )
    (folder / "node.yaml").write_text('listen: ["/ip4/127.0.0.1/tcp/0"]\n')
    module, command = {"client": ("client", "connect"), "node": ("node", "start")}[role]
    arguments = [f"bethrou.cli.{module}", command, "--config", f"{role}.yaml", "--dir", "state"]
    said = folder / "said"
    control, terminal = pty.openpty()
    with said.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-c", WITH_A_TERMINAL, sys.executable, "-m", *arguments],
            cwd=folder,
            stdin=terminal,
            stdout=out,
            stderr=terminal,
        )
    os.close(terminal)
    try:
        await until(lambda: "private network" in said.read_text())
        os.close(control)
        assert await asyncio.to_thread(process.wait, PATIENCE) == 0
    finally:
        process.kill()
        process.wait()
    assert not (folder / "state" / "control.sock").exists(), "it ended as it does at other times"
