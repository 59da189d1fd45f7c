"""The commands that ask running programs, as processes: against a control that notes what it is asked, and for real."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cli.commands import argv, run
from live.applications import application, chatter, open_application
from live.processes import Programs, programs
from live.targets import echo, target
from live.waiting import until
from ops.controlled import CONNECTION, ENDED, EXIT, OPENED, STATUS, WHY, Recorder, Served, served

NOTHING_RUNS = 3


class Machine:
    """A user's machine on which recorded programs run."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @contextlib.asynccontextmanager
    async def running(self, name: str, control: Recorder) -> AsyncIterator[Served]:
        """A program with the state directory `name`."""
        state = self.folder / "bethrou" / name
        state.mkdir(parents=True)
        async with served(state / "control.sock", control) as server:
            yield server

    async def bethrou(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `bethrou` with these arguments."""
        return await asyncio.to_thread(
            run, "bethrou", *arguments, cwd=self.folder, XDG_STATE_HOME=str(self.folder), **environment
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def node_status() -> Any:
    return replace(STATUS, role="node", exits=(), listening=("/ip4/0.0.0.0/tcp/4000",))


# -- which program --------------------------------------------------------------------------------------------------


COMMANDS = [
    ["status"],
    ["status", "--check"],
    ["why", "example.com:443"],
    ["connections"],
    ["connections", "--close", "1"],
    ["events"],
    ["reload"],
    ["node", "drain"],
    ["client", "drain"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
async def test_nothing_runs(machine: Machine, command: list[str]) -> None:
    done = await machine.bethrou(*command)
    assert (done.returncode, done.stdout) == (NOTHING_RUNS, "")
    (line,) = done.stderr.splitlines()
    assert re.match(
        r"bethrou: no (client or node|client|node) of this user runs here: start one with `", line
    )
    done = await machine.bethrou(*command, "--dir", "elsewhere")
    assert done.returncode == NOTHING_RUNS
    assert done.stderr == f"bethrou: nothing runs in {machine.folder}/elsewhere\n"


async def test_what_a_dead_program_has_left_does_not_count(machine: Machine) -> None:
    state = machine.folder / "bethrou" / "client"
    state.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(state / "control.sock"))
        sock.listen()
    (state.parent / "node").mkdir()
    (state.parent / "node" / "control").write_text(str(state / "control.sock"))
    assert (await machine.bethrou("status")).returncode == NOTHING_RUNS


async def test_the_only_one_is_taken_and_of_several_one_has_to_be_chosen(machine: Machine) -> None:
    async with machine.running("client", Recorder()), machine.running("other", Recorder()):
        assert (await machine.bethrou("status", "--check")).returncode == 0
        async with machine.running("node-work", Recorder(node_status())):
            assert (await machine.bethrou("why", "x:1")).returncode == 0
            assert "client" in (await machine.bethrou("status", "--client")).stdout
            assert "node" in (await machine.bethrou("status", "--node", "--check")).stdout
            assert "node" in (await machine.bethrou("status", "--instance", "work", "--check")).stdout
            async with machine.running("client-2", Recorder()), machine.running("up", Recorder()):
                done = await machine.bethrou("status")
                assert (done.returncode, done.stdout) == (2, "")
                *listed, last = done.stderr.splitlines()
                assert last == "bethrou: 4 programs run here; say which one, with options as above"
                choices = [line.split("  ")[1].split() for line in listed]
                base = machine.folder / "bethrou"
                assert choices == [
                    ["--dir", f"{base}/client"],
                    ["--client", "--instance", "2"],
                    ["--node", "--instance", "work"],
                    ["--dir", f"{base}/up"],
                ]
                assert listed[0].endswith("  client, 127.0.0.1:1080, up 1 h 1 min")
                for choice in choices:
                    assert (await machine.bethrou("status", "--check", *choice)).returncode == 0
                assert (await machine.bethrou("why", "x:1")).returncode == 2
                assert (await machine.bethrou("status", "--instance", "3")).returncode == NOTHING_RUNS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["status", "--node", "--client"], "--node: and --client exclude each other"),
        (["status", "--dir", "x", "--instance", "y"], "--instance: says nothing beside --dir"),
        (["node", "drain", "--instance", "a b"], '--instance: "a b" must have'),
    ],
)
async def test_choices_that_make_no_sense(machine: Machine, arguments: list[str], message: str) -> None:
    done = await machine.bethrou(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"bethrou: {message}")


# -- what they show and do ------------------------------------------------------------------------------------------


async def test_status(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control):
        done = await machine.bethrou("status", COLUMNS="80")
        assert (done.returncode, done.stderr) == (0, "")
        assert "\nberlin  healthy  1 min  12 ms     2  direct  eu, load 25%\n" in done.stdout
        assert "\x1b" not in done.stdout
        done = await machine.bethrou("status", "--json")
        assert json.loads(done.stdout) == json.loads(json.dumps(asdict(STATUS)))
        done = await machine.bethrou("status", "--check")
        assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
        control.now = replace(STATUS, exits=(replace(EXIT, state="down"),))
        for options in ([], ["--check"], ["--json"]):
            assert (await machine.bethrou("status", *options)).returncode == 1
        control.now = replace(STATUS, draining=True)
        assert (await machine.bethrou("status", "--check")).returncode == 1


async def test_why(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control):
        done = await machine.bethrou("why", "example.com:443", "--user", "ann,tag=eu")
        assert (done.returncode, done.stderr) == (0, "")
        assert "the only one that is up" in done.stdout
        assert control.asked == [("why", "example.com", 443, "ann,tag=eu")]
        done = await machine.bethrou("why", "example.com:443", "--json")
        assert json.loads(done.stdout) == json.loads(json.dumps(asdict(WHY)))
        done = await machine.bethrou("why", "example.com")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == (
            'bethrou: "example.com" has no port (write HOST:PORT, for example 127.0.0.1:1080)\n'
        )
        control.offers_why = False
        done = await machine.bethrou("why", "example.com:443")
        assert (done.returncode, done.stderr) == (2, "bethrou: a node chooses no exits\n")


async def test_connections_are_listed_and_closed(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control):
        done = await machine.bethrou("connections")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.splitlines()[1].split()[:4] == [CONNECTION.id, "example.com:443", "berlin", "ann"]
        done = await machine.bethrou("connections", "--json")
        assert json.loads(done.stdout) == {"connections": [asdict(CONNECTION)]}
        done = await machine.bethrou("connections", "--close", CONNECTION.id)
        assert (done.returncode, done.stdout) == (0, f"Connection {CONNECTION.id} is closed.\n")
        assert control.asked == [("close", CONNECTION.id)]
        for absent in ("feed", "a/../b?c"):
            done = await machine.bethrou("connections", "--close", absent)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr == "bethrou: there is no such connection (any more)\n"
        assert control.asked[1:] == [("close", "feed"), ("close", "a/../b?c")]


async def test_reload(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control):
        assert (await machine.bethrou("reload")).stdout == "Nothing has changed.\n"
        control.changes = ["routing.strategy: random -> fastest", "nodes: \x1b"]
        assert (
            await machine.bethrou("reload")
        ).stdout == "routing.strategy: random -> fastest\nnodes: \\x1b\n"
        control.bad_file = 'client.yaml: nodez: unknown key (did you mean "nodes"?)'
        done = await machine.bethrou("reload")
        assert (done.returncode, done.stdout, done.stderr) == (2, "", f"bethrou: {control.bad_file}\n")


@pytest.mark.parametrize("role", ["client", "node"])
async def test_drain(machine: Machine, role: str) -> None:
    control = Recorder(replace(STATUS, role=role))
    async with machine.running(role, control):
        done = await machine.bethrou(role, "drain")
        assert (done.returncode, done.stderr, control.asked) == (0, "", ["drain"])
        assert done.stdout.startswith(f"The {role} takes nothing new; 2 connections may go on.\n")
        other = "node" if role == "client" else "client"
        assert (await machine.bethrou(other, "drain")).returncode == NOTHING_RUNS


async def test_a_program_that_answers_nonsense_or_not_at_all(machine: Machine) -> None:
    answers = [
        b"",
        b"SSH-2.0-x\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 500 x\r\n\r\nno",
    ]
    state = machine.folder / "bethrou" / "client"
    state.mkdir(parents=True)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(1):  # not only looked for
            writer.write(answers[0])
        writer.close()

    async with await asyncio.start_unix_server(answer, state / "control.sock"):
        while answers:
            done = await machine.bethrou("status")
            assert (done.returncode, done.stdout) == (1, "")
            (line,) = done.stderr.splitlines()
            assert re.match(
                "bethrou: the running program('s answer| did not answer| is of another version)", line
            )
            answers.pop(0)


# -- events ---------------------------------------------------------------------------------------------------------


class Following:
    """A running `bethrou events`."""

    def __init__(self, machine: Machine, *options: str) -> None:
        self._process = subprocess.Popen(
            argv("bethrou", "events", *options),
            env={**os.environ, "XDG_STATE_HOME": str(machine.folder)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        assert self._process.stderr is not None
        self.out, self.err = self._process.stdout, self._process.stderr

    async def end(self) -> tuple[int, str, str]:
        """Wait for its end: status, and what was not read of its output."""
        out, err = await asyncio.to_thread(self._process.communicate, timeout=20)
        return self._process.returncode, out, err

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


@contextlib.asynccontextmanager
async def following(machine: Machine, control: Recorder, *options: str) -> AsyncIterator[Following]:
    follower = Following(machine, *options)
    try:
        assert await asyncio.to_thread(follower.err.readline) == "Waiting for events; Ctrl-C ends this.\n"
        assert control.subscribers == 1
        yield follower
    finally:
        follower.signal(signal.SIGKILL)
        await follower.end()


async def test_events_are_followed_to_the_programs_end(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control) as server, following(machine, control) as follower:
        control.feed(OPENED)
        line = await asyncio.to_thread(follower.out.readline)
        assert re.fullmatch(
            r"\d\d:\d\d:\d\d link opened        peer=HYdBfeSB address=/ip4/192\.0\.2\.7/tcp/4000 path=direct "
            r"inbound=False\n",
            line,
        )
        control.feed(ENDED)
        assert "destination=example.com:443" in await asyncio.to_thread(follower.out.readline)
        await server.close()
        assert await follower.end() == (0, "", "The program has stopped.\n")


async def test_events_for_programs(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control), following(machine, control, "--json") as follower:
        control.feed(ENDED)
        line = await asyncio.to_thread(follower.out.readline)
        assert json.loads(line).items() >= {"event": "request_ended", **asdict(ENDED)}.items()
        follower.signal(signal.SIGINT)
        assert await follower.end() == (130, "", "")
        await until(lambda: control.subscribers == 0)


async def test_nobody_reads_the_events_any_more(machine: Machine) -> None:
    control = Recorder()
    async with machine.running("client", control), following(machine, control) as follower:
        follower.out.close()
        control.feed(OPENED)
        assert await asyncio.to_thread(follower.err.read) == ""
        assert await asyncio.to_thread(follower._process.wait, 20) == 0


# -- for real -------------------------------------------------------------------------------------------------------


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as all_of_them:
        yield all_of_them


async def test_a_node_and_a_client_at_work(started: Programs, machine: Machine) -> None:
    node = started.node("--name", "berlin", "--tag", "eu")
    client = started.client([node])
    await client.connected()
    async with target(echo) as destination:
        app = await open_application(client.proxy, destination.host, destination.port)
        app.writer.write(b"hello")
        assert await app.reader.readexactly(5) == b"hello"

        status = json.loads((await machine.bethrou("status", "--client", "--json")).stdout)
        assert status["listening"] == ["{}:{}".format(*client.proxy)]
        (exit_,) = status["exits"]
        assert (exit_["id"], exit_["name"], exit_["tags"]) == (node.id, "berlin", ["eu"])
        assert (exit_["state"], exit_["streams"], exit_["path"]) == ("healthy", 1, "direct")
        assert exit_["agent"].startswith("bethrou-py/")
        status = json.loads((await machine.bethrou("status", "--node", "--json")).stdout)
        assert (status["id"], status["connections"]) == (node.id, 1)
        (member,) = status["members"]

        for role, peer in (("client", node.id), ("node", member["id"])):
            listed = json.loads((await machine.bethrou("connections", f"--{role}", "--json")).stdout)
            (connection,) = listed["connections"]
            assert connection["destination"] == destination.address
            assert (connection["sent"], connection["received"], connection["peer"]) == (5, 5, peer)
        shown = (await machine.bethrou("connections", "--client")).stdout
        assert "  berlin  " in shown

        state = str(machine.folder / "bethrou" / "node")
        for command in (["why", "x:1", "--dir", state], ["reload", "--node"]):
            done = await machine.bethrou(*command)
            assert (done.returncode, done.stdout) == (2, "")
            assert done.stderr.startswith("bethrou: a node ")

        done = await machine.bethrou("connections", "--client", "--close", connection["id"])
        assert done.returncode == 0
        with contextlib.suppress(ConnectionResetError):
            assert await app.reader.read() == b""
        app.writer.close()
        line = await client.logged("request", id=connection["id"])
        assert (line["result"], line["sent"], line["received"]) == ("aborted", 5, 5)
        await node.logged("request", id=connection["id"])


async def test_a_client_says_why_and_obeys_anew(started: Programs, machine: Machine) -> None:
    node = started.node("--name", "berlin")
    client = started.client([node], rules=[{"domain": ["blocked.test"], "use": "block"}])
    await client.connected()

    async def why(*arguments: str) -> tuple[int, dict[str, Any]]:
        done = await machine.bethrou("why", *arguments, "--json")
        return done.returncode, json.loads(done.stdout)

    status, answer = await why("example.com:443")
    (candidate,) = answer["candidates"]
    assert (status, answer["action"], answer["strategy"]) == (0, "exit", "random")
    assert (candidate["id"], candidate["place"], candidate["reason"]) == (
        node.id,
        1,
        "the only one that can be asked",
    )
    status, answer = await why("blocked.test:443", "--user", "exit=berlin")
    assert (status, answer["action"], answer["rule"]) == (1, "block", "domain: blocked.test, use: block")
    status, answer = await why("example.com:443", "--user", "bob,exit=paris")
    assert status == 1
    assert [each["reason"] for each in answer["candidates"]] == ["is not the exit paris"]
    assert (await machine.bethrou("why", "example.com:443", "--user", "color=red")).returncode == 2
    assert not client.lines_of("request"), "asking why asks nobody else"

    file = client.folder / "client.yaml"
    config = json.loads(file.read_text())
    file.write_text(json.dumps({**config, "routing": {"strategy": "ordered"}}))
    done = await machine.bethrou("reload", "--client")
    assert (done.returncode, done.stdout) == (0, "routing.strategy: random -> ordered\n")
    assert (await machine.bethrou("reload", "--client")).stdout == "Nothing has changed.\n"
    file.write_text("nodes: [\n")
    done = await machine.bethrou("reload", "--client")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("bethrou: client.yaml: line 2: not valid YAML")
    assert (await why("example.com:443"))[1]["strategy"] == "ordered"


async def test_a_node_that_is_drained_ends_when_what_it_carries_has_finished(
    started: Programs, machine: Machine
) -> None:
    node = started.node()
    client = started.client([node])
    await client.connected()
    async with (
        target(echo) as destination,
        application(client.proxy, destination.host, destination.port) as app,
        chatter(app),
    ):
        done = await machine.bethrou("node", "drain")
        assert done.returncode == 0
        assert "1 connection may go on" in done.stdout
        await client.logged("exit takes no new requests")
        done = await machine.bethrou("status", "--node", "--check")
        assert (done.returncode, done.stdout) == (
            1,
            "node draining: 1 connection left, nothing new is taken\n",
        )
        done = await machine.bethrou("status", "--client", "--check")
        assert (done.returncode, done.stdout) == (1, "client without an exit: 0 of 1 exit can be used\n")
        assert node.running
    assert await node.ended() == 0


async def test_a_client_with_nothing_to_finish_ends_at_once(started: Programs, machine: Machine) -> None:
    client = started.client([started.node()])
    await client.connected()
    done = await machine.bethrou("client", "drain")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 connections may go on" in done.stdout
    assert await client.ended() == 0
    assert (await machine.bethrou("status", "--client")).returncode == NOTHING_RUNS


async def test_up_answers_as_its_client(machine: Machine) -> None:
    out = machine.folder / "out"
    with out.open("wb") as file:
        up = subprocess.Popen(
            argv("bethrou", "up", "--socks", "127.0.0.1:0"),
            env={**os.environ, "XDG_STATE_HOME": str(machine.folder)},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        await until(lambda: "It is up" in out.read_text())
        done = await machine.bethrou("status", "--check")
        assert (done.returncode, done.stdout) == (
            0,
            "client serving: 1 of 1 exit can be used, 0 connections\n",
        )
    finally:
        up.terminate()
        await asyncio.to_thread(up.wait, 20)
    assert (await machine.bethrou("status")).returncode == NOTHING_RUNS


async def test_colours_are_for_terminals(machine: Machine) -> None:
    async with machine.running("client", Recorder()):
        control, terminal = pty.openpty()
        environment = {**os.environ, "XDG_STATE_HOME": str(machine.folder), "TERM": "xterm", "COLUMNS": "80"}
        environment.pop("NO_COLOR", None)
        process = subprocess.Popen(
            argv("bethrou", "status"), env=environment, stdin=terminal, stdout=terminal, stderr=terminal
        )
        os.close(terminal)
        assert await asyncio.to_thread(process.wait, 20) == 0
        shown = await asyncio.to_thread(os.read, control, 65536)
        os.close(control)
        assert b"\x1b[32mhealthy" in shown
