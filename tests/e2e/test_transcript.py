"""A journey as a new user makes it, from README alone: docs/TRANSCRIPT.md is what it prints.

Two servers and a laptop behind a home router, each in a network of its own. `--update-transcripts` writes the document;
without it, the test holds what happens now against what is written there, apart from what differs each time.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from conftest import needs
from live.documents import README_PATH, ROOT, Document
from live.namespaces import Nat
from live.places import PATIENCE, Place, Running, neutral
from live.waiting import wait_until
from live.world import GIT_HOST, World, a_world_for_a_test, ssh_for

TRANSCRIPT = ROOT / "docs" / "TRANSCRIPT.md"
BLOCKS = Document(README_PATH).blocks
SOON = 5.0
"""Seconds within which a removed device is cut off; it takes milliseconds."""

HEAD = """# A journey

What a new user types and sees, from nothing to a page and out again: two servers with public addresses (`berlin`,
`paris`), and a laptop behind a home router. All have a clone of this repository that is set up, as README says, by
`scripts/venv run`. A test types this in network namespaces, with a real Chromium, git, ssh and sshd, holds it against
this document, and writes it with `--update-transcripts` (tests/e2e/test_transcript.py): nothing here is made up. Homes
are called `/home/you` here, `example.com` is a site in there, and lines of links are shortened.
"""

PAGE = """<!doctype html><title>page</title><p id=result>nothing</p><script>
fetch("/words.txt").then(answer => answer.text())
    .then(text => document.getElementById("result").textContent = text.trim());
</script>
"""
WORDS = "These words came by a script of the page."

world = pytest.fixture(a_world_for_a_test)


class Journal:
    """What is typed on which machine, and what is printed there."""

    def __init__(self, *replacements: tuple[str, str]) -> None:
        self.text = HEAD
        self._replacements = replacements

    def chapter(self, title: str, words: str = "") -> None:
        self.text += f"\n## {title}\n"
        if words:
            self.text += f"\n{words}\n"

    def enter(self, machine: str, command: str, output: str) -> None:
        """A command and all that it printed."""
        for real, shown in self._replacements:
            command, output = command.replace(real, shown), output.replace(real, shown)
        output = re.sub(r"(bethrou://join/\S{40})\S+", r"\1...", output).rstrip("\n")
        lines = f"{machine}$ {command.strip()}\n" + (f"{output}\n" if output else "")
        self.text += f"\n```text\n{lines}```\n"


class Desk:
    """One machine, at which somebody types."""

    def __init__(self, name: str, place: Place, journal: Journal, stack: ExitStack) -> None:
        self.place = place
        self._name = name
        self._journal = journal
        self._stack = stack
        self._started = 0

    def types(self, command: str, status: int = 0) -> str:
        """A command that ends; what it printed."""
        output = self.place.run(command, status)
        self._journal.enter(self._name, command, output + (f"(status {status})" if status else ""))
        return output

    def starts(self, command: str, until: str, shown: bool = True) -> Running:
        """A command that goes on, in a terminal of its own; shown is what it has printed when `until` is there."""
        self._started += 1
        running = self._stack.enter_context(self.place.running(f"{self._name}-{self._started}", command))
        running.wait_for(f"({until})")
        self._journal.enter(self._name, command, running.output if shown else "")
        return running


@pytest.fixture
def project(world: World) -> Iterator[str]:
    """A repository that https://example.com/project.git and the sshd serve; its newest commit."""
    (git,) = needs("git")
    source, bare = world.folder / "source", world.site / "project.git"
    who = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"}
    for role in ("AUTHOR", "COMMITTER"):
        who |= {f"GIT_{role}_NAME": "Ann", f"GIT_{role}_EMAIL": "ann@example.com"}

    def run(*words: str | Path) -> str:
        return subprocess.run([git, *words], env=who, check=True, capture_output=True, text=True).stdout

    run("init", "-q", "-b", "main", source)
    (source / "hello.py").write_text('print("hello")\n')
    run("-C", source, "add", "hello.py")
    run("-C", source, "commit", "-qm", "Say hello")
    run("clone", "-q", "--bare", source, bare)
    run("-C", bare, "update-server-info")
    yield run("-C", source, "rev-parse", "HEAD").strip()


_DIFFERENT_EACH_TIME = (
    (
        r"^(ok|unknown) +(reachability|nat|punching|clock) .*",
        r"",
    ),  # who is asked, and whether again, takes its time
    (r"\b\d[\d.]* ?(s|ms|min|h|d|B|kB|MB|GB|B/s|kB/s|MB/s)\b", "AMOUNT"),
    (r"\b\d+%", "SHARE"),
    (r"\b\w{8}: this device", "PEER: this device"),
    (r"\bprocess \d+ ", "process N "),
    (r"\b[0-9a-f]{40}\b", "COMMIT"),
    (r"^curl: \(56\) .*", "curl: (56)"),
    (r"^cache +ok .*|cache: \d exits?,", "cache"),
    (r"members: \d exits?, .*|^members +ok .*", "members"),
    (r"  +", " "),
)


def comparable(text: str) -> list[list[str]]:
    """Each block's lines, in no order, without what differs each time and blanks that line them up."""
    blocks = []
    for block in text.split("```"):
        lines = neutral(block)
        for pattern, word in _DIFFERENT_EACH_TIME:
            lines = [re.sub(pattern, word, line) for line in lines]
        blocks.append(sorted(lines))
    return blocks


@pytest.mark.timeout(180)
def test_a_journey_from_nothing_to_a_page_and_out_again(
    world: World, project: str, request: pytest.FixtureRequest
) -> None:
    needs("curl", "chromium", "git", "nc", "ssh")
    (world.site / "app.html").write_text(PAGE)
    (world.site / "words.txt").write_text(WORDS)
    journal = Journal(
        (str(world.site / "project.git"), "/srv/project.git"),
        *((str(world.folder / name), "/home/you") for name in ("berlin", "paris", "laptop")),
    )
    behind = world.internet.home("5.5.1.1", Nat.PRESERVING)
    behind.refuse()
    with ExitStack() as stack:
        berlin, paris, laptop = (
            Desk(name, place, journal, stack)
            for name, place in (
                ("berlin", world.server("berlin", "5.5.0.1")),
                ("paris", world.server("paris", "5.5.0.2")),
                ("laptop", world.laptop("laptop", behind.member())),
            )
        )
        journal.chapter("A network, and its first node")
        berlin.types(BLOCKS["join-init"])
        berlin.starts(BLOCKS["join-node"], "Exit node")

        journal.chapter(
            "A second node joins by a link", "`paris.link` is copied from the one server to the other."
        )
        berlin.types("bethrou invite home --role node --name paris >paris.link")
        carry("paris.link", berlin, paris)
        paris.types("bethrou join paris.link paris")
        paris.starts("bethrou node start --config paris/node.yaml", "Exit node")

        journal.chapter("The laptop joins by a link")
        link = re.findall(r"^bethrou://\S+$", berlin.types(BLOCKS["join-invite"]), re.MULTILINE)
        (laptop.place.folder / "pasted").write_text("".join(link))
        laptop.types(f"{BLOCKS['join-join'].strip()} <pasted")
        client = laptop.starts(BLOCKS["join-client"], r"exit up(?:.*\n)+.*exit up")

        journal.chapter("A page")
        assert laptop.types(BLOCKS["join-curl"].replace("curl ", "curl -sS ")) == "It works\n"
        chromium = "chromium --headless --no-sandbox --disable-gpu --virtual-time-budget=10000"
        dom = laptop.types(
            f"{chromium} --proxy-server=socks5://127.0.0.1:1080 --dump-dom http://example.com/app.html 2>/dev/null"
        )
        assert WORDS in dom

        journal.chapter("git over HTTPS, and over ssh")
        laptop.types(
            "git -c http.proxy=socks5h://127.0.0.1:1080 clone -q https://example.com/project.git by-https"
        )
        ssh_for(laptop.place, stack.enter_context(world.ssh_running()))
        laptop.types(
            """GIT_SSH_COMMAND="ssh -o ProxyCommand='nc -X 5 -x 127.0.0.1:1080 %h %p'" """
            f"git clone -q {GIT_HOST}:{world.site / 'project.git'} by-ssh"
        )
        assert (
            laptop.types("git -C by-https rev-parse HEAD; git -C by-ssh rev-parse HEAD").split()
            == [project] * 2
        )

        journal.chapter("How it stands")
        wait_until(lambda: "2 of 2 exits can be used" in laptop.place.run("bethrou status --check"), PATIENCE)
        laptop.types("bethrou status")
        laptop.types("bethrou doctor")
        berlin.types("bethrou members list home")

        journal.chapter("The laptop is lost", "A download is under way on it.")
        download = laptop.starts(
            "curl -sS --limit-rate 1M -x socks5h://127.0.0.1:1080 -o download https://example.com/endless", ""
        )
        received = laptop.place.folder / "download"
        wait_until(lambda: received.exists() and received.stat().st_size > 100_000, PATIENCE)
        berlin.types(BLOCKS["join-remove"])
        removed = time.monotonic()
        status = download.process.wait(SOON)
        took = time.monotonic() - removed
        assert took < SOON
        journal.enter(
            "laptop", f"# the download, {took:.1f} s after that", f"{download.output}(status {status})"
        )
        assert status != 0
        client.wait_for("(this device was removed from the network)")
        laptop.types(BLOCKS["join-curl"].replace("curl ", "curl -sS "), status=97)
        laptop.types("bethrou doctor", status=1)
        berlin.types("bethrou members list home")
    if request.config.getoption("--update-transcripts"):
        TRANSCRIPT.write_text(journal.text)
    assert comparable(journal.text) == comparable(TRANSCRIPT.read_text())


def carry(name: str, source: Desk, target: Desk) -> None:
    """Copy a file from one machine to the other."""
    (target.place.folder / name).write_bytes((source.place.folder / name).read_bytes())
