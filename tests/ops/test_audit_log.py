"""The audit log is only ever added to, one line for each change."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from bethrou.errors import ConfigError
from bethrou.events import InviteUsedTwice, LinkClosed, MemberJoined, MemberListTaken
from bethrou.ops.audit_log import AuditLog

PEER = "12D3KooWA4Xop1JaT3MHxwYMkCepYsv4iPVopMXwCz5iHYdBfeSB"


def test_lines_are_added_and_nothing_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    AuditLog(path, lambda: 1_800_000_000).add("invited", name="laptop", exits=["eu"])
    first = path.read_bytes()
    assert json.loads(first) == {
        "time": "2027-01-15T08:00:00Z",
        "what": "invited",
        "name": "laptop",
        "exits": ["eu"],
    }
    AuditLog(path, lambda: 1_800_000_060).add("removed", name="\n\x1b[31m")
    assert path.read_bytes().startswith(first)
    assert len(path.read_text().splitlines()) == 2
    assert path.read_text().isprintable() or "\x1b" not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_events_that_change_who_belongs_are_written_and_no_others(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.log", lambda: 0)
    log.note(MemberJoined(PEER, "laptop", "client"))
    log.note(LinkClosed(PEER, "/ip4/127.0.0.1/tcp/1", "gone"))
    log.note(MemberListTaken(2, 1, (), ("laptop",)))
    log.note(InviteUsedTwice(PEER, "laptop"))
    lines = [json.loads(line) for line in (tmp_path / "audit.log").read_text().splitlines()]
    assert [line["what"] for line in lines] == ["joined", "list taken", "invite used twice"]


def test_a_log_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be written"):
        AuditLog(tmp_path / "nowhere" / "audit.log").add("removed")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigError, match="cannot be written"):
        AuditLog(tmp_path / "link").add("removed")
    assert not (tmp_path / "elsewhere").exists()


def test_the_invites_that_were_made_lately(tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    log = AuditLog(path)
    assert log.invites() == []
    log.add("invited", invite="12D3old", padding="x" * (1 << 20))
    log.add("invited", invite="12D3one")
    log.add("removed", member="12D3one")
    with path.open("a") as file:
        file.write('[1]\n{"what":"invited","invite":7}\nnonsense\n')
    log.add("invited", invite="12D3two")
    assert log.invites() == ["12D3one", "12D3two"]
