"""Which way requests go, as rules and user names say: curl, against programs as users run them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import needs
from e2e.web import Web, web_server
from live.payload import Payload
from live.processes import ClientProgram, NodeProgram, Programs, programs

PAGE = Payload(1000)
NOT_ALLOWED, GENERAL_FAILURE = "(2)", "(1)"


@dataclass(frozen=True)
class World:
    """A client with rules, two exits with names, and web servers for which different rules hold."""

    client: ClientProgram
    berlin: NodeProgram
    tokyo: NodeProgram
    port: int
    asian_port: int = 0
    nobodys_port: int = 0

    async def curl(self, host: str, user: str | None = None, port: int = 0) -> str:
        """Fetch a page as `user`; the line of the client's log about it. curl's words are raised when it fails."""
        (curl,) = needs("curl")
        before = len(self.client.lines_of("request"))
        login = "" if user is None else f"{user}@"
        proxy = f"socks5h://{login}{self.client.proxy[0]}:{self.client.proxy[1]}"
        process = await asyncio.create_subprocess_exec(
            *(
                curl,
                "-sS",
                "--fail",
                "-m",
                "30",
                "-o",
                "/dev/null",
                "-x",
                proxy,
                f"http://{host}:{port or self.port}/payload",
            ),
            stdin=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        if process.returncode:
            raise ConnectionError(err.decode())
        await self.client.logged("request", count=before + 1)
        line = self.client.lines_of("request")[before]
        assert line["result"] == "ok"
        return str(line["exit"])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all tests: none of them disturbs it."""
    folder = tmp_path_factory.mktemp("world")
    with (
        web_server(PAGE, folder_in(folder, "web")) as web,
        web_server(PAGE, folder_in(folder, "asia")) as asia,
        programs(folder) as started,
    ):
        yield open_world(started, web, asia)


def folder_in(parent: Path, name: str) -> Path:
    (parent / name).mkdir()
    return parent / name


def open_world(started: Programs, web: Web, asia: Web) -> World:
    rules = [
        {"domain": ["blocked.test"], "use": "block"},
        {"domain": ["localhost"], "use": "direct"},
        {"port": [asia.http], "use": "tag=asia"},
        {"port": [asia.https], "use": "exit=paris"},
    ]
    berlin = started.node("--name", "berlin", "--tag", "eu", "--tag", "fast")
    tokyo = started.node("--name", "tokyo", "--tag", "asia", "--tag", "fast")
    client = started.client([berlin, tokyo], rules=rules)
    return World(client, berlin, tokyo, web.http, asia.http, asia.https)


@pytest.fixture
async def up(world: World) -> World:
    await world.client.connected(2)
    # what exits are called is heard on their links, just after these are up
    for user, exit_ in (("exit=berlin", world.berlin), ("exit=tokyo", world.tokyo)):
        assert await world.curl("127.0.0.1", user) == exit_.short
    return world


# -- user names -----------------------------------------------------------------------------------------------------


async def test_an_exit_is_asked_for_by_name_or_peer_id(up: World) -> None:
    for exit_ in (up.berlin, up.tokyo) * 2:
        assert await up.curl("127.0.0.1", f"exit={exit_.id}") == exit_.short
    assert await up.curl("127.0.0.1", "bob,exit=tokyo") == up.tokyo.short


async def test_an_exit_is_asked_for_by_tag(up: World) -> None:
    for _ in range(3):
        assert await up.curl("127.0.0.1", "tag=eu") == up.berlin.short
    assert await up.curl("127.0.0.1", "tag=fast,exit=tokyo") == up.tokyo.short


@pytest.mark.parametrize("user", ["exit=paris", "tag=africa", "exit=berlin,tag=asia"])
async def test_what_no_exit_fits_is_refused(up: World, user: str) -> None:
    with pytest.raises(ConnectionError) as refused:
        await up.curl("127.0.0.1", user)
    assert GENERAL_FAILURE in str(refused.value)
    reason = f"no exit that is known fits {user.replace(',', ', ')}"
    await up.client.logged("request", result="no-exit", reason=reason)


async def test_a_strategy_is_asked_for(up: World) -> None:
    assert {await up.curl("127.0.0.1", "strategy=ordered") for _ in range(5)} == {up.berlin.short}
    used = [await up.curl("127.0.0.1", "strategy=round-robin") for _ in range(4)]
    assert used[:2] == used[2:]
    assert len(set(used)) == 2


async def test_a_session_stays_on_its_exit(up: World) -> None:
    homes = set()
    for session in "123456":
        used = {await up.curl("127.0.0.1", f"strategy=random,session={session}") for _ in range(4)}
        assert len(used) == 1
        homes |= used
    assert homes == {up.berlin.short, up.tokyo.short}


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("color=red", "user name has the unknown key 'color'"),
        ("strategy=best", "user name asks for an unknown strategy"),
        ("exit=", "user name has a bad value for the key 'exit'"),
    ],
)
async def test_a_user_name_that_says_nothing_we_know(up: World, user: str, reason: str) -> None:
    before = len(up.client.lines_of("application refused"))
    with pytest.raises(ConnectionError) as refused:
        await up.curl("127.0.0.1", user)
    assert "User was rejected" in str(refused.value)
    await up.client.logged("application refused", count=before + 1)
    assert up.client.lines_of("application refused")[before]["reason"] == reason


# -- rules ----------------------------------------------------------------------------------------------------------


async def test_block_is_told_as_not_allowed(up: World) -> None:
    for user in (None, "exit=berlin"):
        with pytest.raises(ConnectionError) as refused:
            await up.curl("blocked.test", user)
        assert NOT_ALLOWED in str(refused.value)
    line = await up.client.logged("request", result="denied", count=2)
    assert line["reason"] == "blocked by rules[0] (domain: blocked.test, use: block)"


async def test_a_rule_leads_to_an_exit(up: World) -> None:
    for _ in range(3):
        assert await up.curl("127.0.0.1", port=up.asian_port) == up.tokyo.short
    for user, port in (("exit=berlin", up.asian_port), (None, up.nobodys_port)):
        with pytest.raises(ConnectionError) as refused:
            await up.curl("127.0.0.1", user, port)
        assert GENERAL_FAILURE in str(refused.value)


async def test_direct_leaves_from_here_unless_an_exit_is_asked_for(up: World) -> None:
    seen = len(up.berlin.lines_of("request")) + len(up.tokyo.lines_of("request"))
    assert await up.curl("localhost") == "direct"
    assert await up.curl("localhost", "bob") == "direct"
    assert len(up.berlin.lines_of("request")) + len(up.tokyo.lines_of("request")) == seen
    assert await up.curl("localhost", "exit=tokyo") == up.tokyo.short


async def test_direct_needs_no_exit(tmp_path: Path) -> None:
    with web_server(PAGE, folder_in(tmp_path, "web")) as web, programs(tmp_path) as started:
        gone = started.node()
        gone.kill()
        client = started.client([gone], rules=[{"domain": ["localhost"], "use": "direct"}])
        world = World(client, gone, gone, web.http)
        assert await world.curl("localhost") == "direct"
        warned = client.lines_of("rules[0]: such connections leave from this machine itself")
        assert len(warned) == 1
