"""What `init`, `invite`, `join` and `members` write and refuse, with a real node beside them."""

from __future__ import annotations

import json
import os
import pty
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bethrou.cli.init import start_network
from bethrou.cli.invite import InviteOptions, invite
from bethrou.cli.join import join
from bethrou.cli.members import Where, add_member, list_members, name_member, remove_member
from bethrou.config import load_client_config, load_node_config
from bethrou.errors import DialError, UserError
from bethrou.wire.peer_id import PeerId
from cli.commands import argv
from live.processes import Program

TABLET = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


class Operator:
    """Somebody who types commands in a folder that has networks, and what they are told."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.warned = ""
        """What the last command printed on standard error."""
        self._capsys = capsys
        self._node: Program | None = None

    def told(self, command: Callable[[], object]) -> str:
        """What a command prints on standard output."""
        self._capsys.readouterr()
        command()
        said = self._capsys.readouterr()
        self.warned = said.err
        return said.out

    def refused(self, command: Callable[[], object]) -> str:
        """The one line with which a command refuses what it was given."""
        with pytest.raises(UserError) as caught:
            command()
        (line,) = str(caught.value).splitlines()
        return line

    def init(self, name: str = "home") -> str:
        return self.told(lambda: start_network("", str(self.folder / name), "/ip4/127.0.0.1/tcp/1"))

    def start(self) -> Program:
        """The node of `home`, on a port of its own, which node.yaml says from then on."""
        (self.folder / "running").mkdir(exist_ok=True)
        config = self.folder / "home" / "node.yaml"
        config.write_text(config.read_text().replace("/tcp/1\n", "/tcp/0\n"))
        self._node = Program("node", self.folder / "running", "--config", str(config))
        address = self._node.said(r"^ +- (/ip4/127\.0\.0\.1/tcp/\d+)/p2p/")
        config.write_text(config.read_text().replace("/ip4/127.0.0.1/tcp/0", address))
        return self._node

    def stop(self) -> None:
        if self._node is not None:
            self._node.stop()

    def invite(self, network: str = "home", **options: object) -> str:
        said = self.told(lambda: invite(InviteOptions(str(self.folder / network), **options)))  # type: ignore[arg-type]
        (link,) = said.splitlines()
        return link

    def join(self, link: str, place: str) -> str:
        return self.told(lambda: join(link, str(self.folder / place), None))

    def cannot_join(self, link: str, place: str) -> str:
        return self.refused(lambda: join(link, str(self.folder / place), None))

    @property
    def home(self) -> Where:
        return Where(str(self.folder / "home"))

    def members(self) -> dict[str, dict[str, object]]:
        """Who belongs to `home`, by name."""
        listed = json.loads(self.told(lambda: list_members(self.home, True)))
        return {entry["name"]: entry for entry in listed["members"]}

    def audit(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in (self.folder / "home" / "audit.log").read_text().splitlines()]


@pytest.fixture
def operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Operator]:
    made = Operator(tmp_path, capsys)
    try:
        yield made
    finally:
        made.stop()


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.iterdir()}


def test_init_makes_a_network_and_overwrites_nothing_ever(operator: Operator, tmp_path: Path) -> None:
    said = operator.init()
    assert "bethrou node start --config " in said
    made = contents(tmp_path / "home")
    assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o600}
    assert stat.S_IMODE((tmp_path / "home").stat().st_mode) == 0o700
    config = load_node_config(tmp_path / "home" / "node.yaml", {})
    assert (config.members.value, config.key) == ("required", tmp_path / "home" / "network.key")
    assert "is already there, so nothing is changed" in operator.refused(operator.init)
    for path, data in made.items():
        if path.name == "audit.log":
            continue  # it is only added to
        folder = tmp_path / path.name
        folder.mkdir()
        (folder / path.name).write_bytes(data)
        assert "is already there" in operator.refused(lambda name=path.name: operator.init(name))
        assert contents(folder) == {folder / path.name: data}
    assert contents(tmp_path / "home") == made
    start_network("", str(tmp_path / "odd"), "/ip4/127.0.0.1/tcp/1", "-")
    assert load_node_config(tmp_path / "odd" / "node.yaml", {}).name == "-"
    with pytest.raises(UserError, match="--name"):
        start_network("a b", str(tmp_path / "x"), "/ip4/127.0.0.1/tcp/1")
    with pytest.raises(UserError, match="cannot be made"):
        start_network("", str(tmp_path / "home" / "node.yaml" / "x"), "/ip4/127.0.0.1/tcp/1")


def test_links_that_are_no_good_get_nobody_in(operator: Operator, tmp_path: Path) -> None:
    operator.init()
    operator.start()
    link = operator.invite()
    assert "damaged" in operator.cannot_join(link[:-10], "a")
    assert "damaged" in operator.cannot_join(link[:300] + "AAAA" + link[304:], "a")
    (tmp_path / "text").write_text("hello")
    assert "this is no invite" in operator.cannot_join(str(tmp_path / "text"), "a")
    assert "cannot be read" in operator.cannot_join(str(tmp_path / "nowhere"), "a")
    assert not (tmp_path / "a").exists()
    operator.join(link, "a")
    assert "history" in operator.warned
    load_client_config(tmp_path / "a" / "client.yaml")
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()} == {0o600}
    # used, by anybody else and by the same device
    assert "another device has joined with it" in operator.cannot_join(link, "b")
    assert not contents(tmp_path / "b")
    assert "already there" in operator.cannot_join(link, "a")
    operator.stop()
    operator.start()  # it has not forgotten
    assert "another device has joined with it" in operator.cannot_join(link, "b")
    # of another network, in the place of this one
    operator.init("other")
    foreign = operator.invite("other")
    (tmp_path / "a" / "client.yaml").unlink()
    before = contents(tmp_path / "a")
    assert "is of another network" in operator.cannot_join(foreign, "a")
    assert contents(tmp_path / "a") == before
    # the same device again, which has lost its configuration
    assert "Joined" in operator.join(link, "a")
    late = operator.invite(expires="1s")
    time.sleep(1.1)  # what is waited for is the clock itself
    assert "has expired" in operator.cannot_join(late, "c")
    withdrawn = operator.invite()
    invited = str(operator.audit()[-1]["invite"])
    operator.told(lambda: remove_member(operator.home, invited))
    assert "withdrawn" in operator.cannot_join(withdrawn, "d")


def test_a_link_that_no_node_takes_is_good_later(operator: Operator, tmp_path: Path) -> None:
    operator.init()
    before = operator.invite(name="laptop")
    assert "No node answers" in operator.warned
    with pytest.raises(DialError, match="no node took the invite"):
        operator.join(before, "laptop")
    # what was written for it is used when it is tried again
    kept = contents(tmp_path / "laptop")
    node = operator.start()
    address = node.said(r"^ +- (/ip4/\S+)")
    link = operator.invite(name="laptop", addresses=[address])
    assert "Joined the network home as laptop" in operator.join(link, "laptop")
    assert {path: (tmp_path / "laptop" / path.name).read_bytes() for path in kept} == kept


def test_members_are_named_added_and_removed(operator: Operator) -> None:
    operator.init()
    node = operator.start()
    operator.join(operator.invite(exits=["eu"]), "phone")
    (phone,) = [entry for entry in operator.members().values() if entry["role"] == "client"]
    assert phone["exits"] == ["eu"]
    assert "no member has this name" in operator.refused(lambda: remove_member(operator.home, ""))
    name_member(operator.home, str(phone["id"])[-8:], "phone")
    add_member(operator.home, TABLET, "tablet", "client", [])
    assert "told 1 node" in operator.told(lambda: list_members(operator.home, False)) + operator.warned
    members = operator.members()
    assert members["phone"]["exits"] == ["eu"]
    assert members["tablet"]["id"] == TABLET
    assert "is the name of" in operator.refused(lambda: name_member(operator.home, "tablet", "phone"))
    assert "is a peer ID" in operator.refused(lambda: name_member(operator.home, "tablet", TABLET))
    assert "no member has this name" in operator.refused(lambda: remove_member(operator.home, "nobody"))
    assert "is no peer ID" in operator.refused(lambda: add_member(operator.home, "nobody", "", "client", []))
    elsewhere = Where(str(operator.folder / "phone"))
    assert "no operator.key" in operator.refused(lambda: list_members(elsewhere, False))
    assert remove_member(operator.home, "tablet") == 0
    assert set(operator.members()) == {"phone", *(set(members) - {"phone", "tablet"})}
    assert [entry["what"] for entry in operator.audit()] == [
        *("network made", "invited", "joined", "named", "added", "removed")
    ]
    assert [line["serial"] for line in node.lines_of("member list")] == [2, 3, 4]
    of_node = (operator.folder / "home" / "node.audit.log").read_text().splitlines()
    assert [json.loads(line)["what"] for line in of_node] == ["joined", *["list taken"] * 3]


def test_an_invite_that_was_used_stays_used_whatever_becomes_of_its_device(operator: Operator) -> None:
    operator.init()
    operator.start()
    first, second = operator.invite(), operator.invite()
    operator.join(first, "phone")
    (operator.folder / "again").mkdir()
    for name in ("network.key", "device.key"):
        (operator.folder / "again" / name).write_bytes((operator.folder / "phone" / name).read_bytes())
    operator.join(second, "again")
    (phone,) = [str(entry["id"]) for entry in operator.members().values() if entry["role"] == "client"]
    for change in (
        lambda: name_member(operator.home, phone, "phone"),
        lambda: remove_member(operator.home, phone),
        lambda: remove_member(operator.home, phone),
        lambda: add_member(operator.home, phone, "phone", "client", []),
    ):
        assert operator.told(change)
        for link in (first, second):
            assert re.search("was withdrawn|is used", operator.cannot_join(link, "thief"))
    assert set(operator.members()) > {"phone"}


def test_a_change_that_no_node_hears_of_is_told_later(operator: Operator) -> None:
    operator.init()
    assert add_member(operator.home, TABLET, "tablet", "client", []) == 1
    node = operator.start()
    operator.told(lambda: list_members(operator.home, False))
    assert operator.warned.strip() == "told 1 node"
    assert [line["serial"] for line in node.lines_of("member list")] == [2]


def test_a_link_as_a_picture(operator: Operator, tmp_path: Path) -> None:
    operator.init()
    png, svg = tmp_path / "link.png", tmp_path / "link.svg"
    operator.invite(qr=True, qr_file=str(png))
    assert "▀" in operator.warned
    assert png.read_bytes().startswith(b"\x89PNG")
    assert stat.S_IMODE(png.stat().st_mode) == 0o600
    operator.invite(qr_file=str(svg))
    assert "<svg" in svg.read_text()
    assert "already there" in operator.refused(lambda: operator.invite(qr_file=str(svg)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"role": "king"}, "--role"),
        ({"expires": "0s"}, "--expires"),
        ({"expires": "745h"}, "--expires"),
        ({"expires": "soon"}, "--expires"),
        ({"name": "a b"}, "--name"),
        ({"exits": ["a b"]}, "--exits"),
        ({"exits": ["a"] * 17}, "--exits"),
        ({"qr_file": "link.gif"}, "--qr-file"),
        ({"addresses": ["nowhere"]}, "--address"),
        ({"nodes": ["/ip4/127.0.0.1/tcp/x"]}, "--node"),
    ],
)
def test_an_invite_with_a_slip_is_none(operator: Operator, options: dict[str, object], reason: str) -> None:
    operator.init()
    assert operator.refused(lambda: operator.invite(**options)).startswith(reason)
    assert [entry["what"] for entry in operator.audit()] == ["network made"]


def test_an_invite_has_the_addresses_that_it_is_given(operator: Operator) -> None:
    from bethrou.wire.invite import Invite

    operator.init()
    link = operator.invite(addresses=["/dns4/exit.example/tcp/4000"])
    first, *_ = Invite.open(link).addresses
    assert isinstance(first.peer_id, PeerId)
    assert str(first.without_peer()) == "/dns4/exit.example/tcp/4000"


def test_a_link_is_pasted_at_a_terminal(operator: Operator, tmp_path: Path) -> None:
    operator.init()
    operator.start()
    link = operator.invite()
    shown, typed = pty.openpty()
    try:
        process = subprocess.Popen(
            argv("bethrou", "join", "-", "pasted"),
            cwd=tmp_path,
            stdin=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        os.write(shown, f"{link}\n".encode())
        out, err = process.communicate(timeout=60)
    finally:
        os.close(shown)
        os.close(typed)
    assert (process.returncode, err) == (0, "Paste the link, and press Enter:\n")
    assert "Joined the network home" in out
    assert link not in out
