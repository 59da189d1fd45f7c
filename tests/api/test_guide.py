"""docs/PYTHON.md as its reader uses it: each of its programs is run, with a server of ours as example.com."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

import pytest

from bethrou.wire.psk import NetworkKey
from e2e.web import NAME, Web
from live.documents import ROOT, Document
from live.members import running_node
from proxy.dns_server import DnsServerForTests

GUIDE = Document(ROOT / "docs" / "PYTHON.md")
PROGRAMS = GUIDE.blocks
SAYS = {"connection": "HTTP/1.1 200 OK", "httpx": "200", "aiohttp": "200"}


def test_each_program_is_run() -> None:
    assert PROGRAMS.keys() == SAYS.keys()
    assert GUIDE.unmarked("python") == []


@pytest.mark.parametrize("name", SAYS)
async def test_the_program_works(name: str, tmp_path: Path, key_file: Path, web: Web) -> None:
    program = PROGRAMS[name].replace("http://example.com/", f"http://{NAME}:{web.http}/")
    program = program.replace('"example.com", 443', f'"{NAME}", {web.https}')
    (tmp_path / "program.py").write_text(program)
    names = await DnsServerForTests.start()
    names.zone[NAME] = ["127.0.0.1"]
    key = NetworkKey.parse(key_file.read_bytes())
    with contextlib.closing(names.transport):
        async with running_node(key, resolver=[str(names.address)]) as node:
            (tmp_path / "client.yaml").write_text(f"nodes: [{{addrs: [{node.address}]}}]\n")
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "program.py",
                cwd=tmp_path,
                env={**os.environ, "SSL_CERT_FILE": str(web.authority)},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            said, _ = await process.communicate()
    assert (said.decode().strip(), process.returncode) == (SAYS[name], 0)
