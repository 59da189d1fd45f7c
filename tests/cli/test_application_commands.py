"""`bethrou env`, `run` and `completion`, in real shells and with real commands."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bethrou.cli.application_commands import proxy_variables
from bethrou.config import HostPort
from cli.commands import argv, run
from conftest import needs
from live.processes import ClientProgram, Programs, programs

NOTHING_RUNS = 3


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as running:
        yield running


@pytest.fixture
async def client(started: Programs) -> ClientProgram:
    running = started.client([started.node()])
    await running.connected()
    return running


def bethrou(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return run("bethrou", *arguments, cwd=folder, XDG_STATE_HOME=str(folder), **environment)


def test_the_variables() -> None:
    found = proxy_variables(HostPort("0.0.0.0", 1080))
    assert {found[name] for name in ("http_proxy", "HTTPS_PROXY", "all_proxy")} == {"http://127.0.0.1:1080"}
    assert found["no_proxy"] == found["NO_PROXY"] == "localhost,127.0.0.1,::1"
    wish = proxy_variables(HostPort("::", 80), "bob,tag=eu,session=a/b")
    assert wish["http_proxy"] == "http://bob%2Ctag%3Deu%2Csession%3Da%2Fb:x@[::1]:80"


@pytest.mark.parametrize("shell", ["sh", "bash", "dash"])
async def test_a_shell_takes_them_and_gives_them_back(
    client: ClientProgram, tmp_path: Path, shell: str
) -> None:
    (program,) = needs(shell)
    lines = bethrou(tmp_path, "env", "--user", "tag=eu").stdout
    back = bethrou(tmp_path, "env", "--unset").stdout
    script = f"{lines}\necho $http_proxy $ALL_PROXY\n{back}\necho ${{http_proxy-gone}}"
    done = subprocess.run([program, "-c", script], capture_output=True, text=True, check=True)
    url = f"http://tag%3Deu:x@{client.proxy[0]}:{client.proxy[1]}"
    assert done.stdout.splitlines() == [f"{url} {url}", "gone"]


async def test_other_shells_have_words_of_their_own(client: ClientProgram, tmp_path: Path) -> None:
    url = f"http://{client.proxy[0]}:{client.proxy[1]}"
    assert f"set -gx http_proxy {url}\n" in bethrou(tmp_path, "env", SHELL="/usr/bin/fish").stdout
    assert f"setenv http_proxy {url}\n" in bethrou(tmp_path, "env", SHELL="/bin/tcsh").stdout
    assert "set -e http_proxy\n" in bethrou(tmp_path, "env", "--shell", "fish", "--unset").stdout
    refused = bethrou(tmp_path, "env", "--shell", "cmd")
    assert (refused.returncode, refused.stderr) == (2, "bethrou: --shell: must be one of sh, fish, csh\n")


async def test_a_command_is_run_with_them(client: ClientProgram, tmp_path: Path) -> None:
    code = "import os, sys; print(os.environ['https_proxy'], sys.argv[1:]); sys.exit(7)"
    done = bethrou(tmp_path, "run", "--", sys.executable, "-c", code, "--wait", "x")
    assert done.returncode == 7
    assert done.stdout == f"http://{client.proxy[0]}:{client.proxy[1]} ['--wait', 'x']\n"


async def test_commands_that_cannot_be_run(client: ClientProgram, tmp_path: Path) -> None:
    absent = bethrou(tmp_path, "run", "--", "./absent")
    assert (absent.returncode, absent.stderr) == (127, "bethrou: ./absent: No such file or directory\n")
    (tmp_path / "text").write_text("text")
    plain = bethrou(tmp_path, "run", "--", "./text")
    assert (plain.returncode, plain.stderr) == (126, "bethrou: ./text: Permission denied\n")


async def test_it_waits_for_the_first_exit(started: Programs, tmp_path: Path) -> None:
    node = started.node()
    node.stop()
    client = started.client([node])
    vain = bethrou(tmp_path, "run", "--wait", "0.2", "--", "true")
    assert (vain.returncode, vain.stdout) == (1, "")
    assert vain.stderr.startswith("bethrou: the client has had no exit for 0.2 s")
    waiting = subprocess.Popen(
        argv("bethrou", "run", "--", "echo", "runs"),
        cwd=tmp_path,
        env={**os.environ, "XDG_STATE_HOME": str(tmp_path)},
        stdout=subprocess.PIPE,
        text=True,
    )
    started.again(node)
    began = time.monotonic()
    said, _ = waiting.communicate(timeout=30)
    assert (said, waiting.returncode) == ("runs\n", 0)
    assert time.monotonic() - began < 30
    assert client.running


def test_without_a_client(tmp_path: Path) -> None:
    for command in (["env"], ["run", "--", "true"]):
        done = bethrou(tmp_path, *command)
        assert (done.returncode, done.stdout) == (NOTHING_RUNS, "")


TYPED = {
    "bethrou st": ["status"],
    "bethrou status --ch": ["--check"],
    "bethrou --dir x node st": ["start"],
    "bethrou node start --key file --no-ex": ["--no-exit"],
    "bethrou-client con": ["connect"],
}
"""What is typed, and what the key then offers."""


@pytest.mark.parametrize("line", TYPED)
def test_bash_completes(tmp_path: Path, line: str) -> None:
    (bash,) = needs("bash")
    (tmp_path / "completion").write_text(bethrou(tmp_path, "completion", "bash").stdout)
    words = line.split()
    script = f"""
source ./completion
COMP_WORDS=({line}); COMP_CWORD={len(words) - 1}
_{words[0].replace("-", "_")}
echo "${{COMPREPLY[@]}}"
complete -p {words[0]}
"""
    done = subprocess.run([bash, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True)
    offered, registered = done.stdout.splitlines()
    assert offered.split() == TYPED[line]
    assert registered.endswith(words[0])


@pytest.mark.parametrize("line", TYPED)
def test_fish_completes(tmp_path: Path, line: str) -> None:
    (fish,) = needs("fish")
    (tmp_path / "completion").write_text(bethrou(tmp_path, "completion", "fish").stdout)
    script = f"source ./completion; complete -C '{line}'"
    done = subprocess.run(
        [fish, "--no-config", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert [offer.split("\t")[0] for offer in done.stdout.splitlines()] == TYPED[line], done.stderr


def test_zsh_takes_the_script(tmp_path: Path) -> None:
    (zsh,) = needs("zsh")
    (tmp_path / "completion").write_text(bethrou(tmp_path, "completion", "zsh").stdout)
    script = "source ./completion; print -r -- ${_comps[bethrou]} ${_comps[bethrou-node]}"
    done = subprocess.run(
        [zsh, "-f", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "ZDOTDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert done.stdout.count("_bash_complete") == 2


def test_other_shells_are_refused(tmp_path: Path) -> None:
    refused = bethrou(tmp_path, "completion", "cmd")
    assert (refused.returncode, refused.stderr) == (2, "bethrou: SHELL must be one of bash, zsh, fish\n")
