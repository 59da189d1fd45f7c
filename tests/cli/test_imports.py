"""What the commands load: `--help` must be quick, and an idle node or client small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from live.payload import MIB
from live.processes import Program, programs

HEAVY = ("asyncio", "cryptography", "pydantic", "rich", "uvloop", "yaml")
LOADED_WHEN_NEEDED = (
    "OpenSSL",
    "aiodns",
    "bethrou.discovery.redis_address",
    "cryptography.x509",
    "h11",
    "hiredis",
    "nacl",
    "pycares",
    "redis",
    "rich",
    "websockets",
)


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["bethrou.cli.main", "bethrou.cli.node", "bethrou.cli.client"])
def test_the_command_line_itself_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module).isdisjoint(HEAVY)


def test_the_client_does_without_the_nodes_parts() -> None:
    loaded = loaded_by("bethrou.cli.start_client")
    assert "bethrou.proxy.front_door" in loaded
    assert loaded.isdisjoint({"bethrou.proxy.http_server", "bethrou.wire.http_request"})
    assert loaded.isdisjoint(
        {"bethrou.proxy.exit_node", "bethrou.proxy.resolver", "bethrou.proxy.direct", *LOADED_WHEN_NEEDED}
    )


def test_the_node_does_without_the_clients_parts() -> None:
    loaded = loaded_by("bethrou.cli.start_node")
    assert "bethrou.proxy.exit_node" in loaded
    assert loaded.isdisjoint(
        {"bethrou.proxy.pool", "bethrou.proxy.router", "bethrou.proxy.front_door"}
        | set(LOADED_WHEN_NEEDED) - {"aiodns", "pycares"}
    )


def test_commands_that_ask_a_running_program_load_no_program() -> None:
    assert loaded_by("bethrou.cli.control_commands").isdisjoint(HEAVY)


def libraries(program: Program) -> str:
    """What a running program has mapped."""
    return Path(f"/proc/{program.pid}/maps").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc")
async def test_what_a_configuration_does_without_is_not_loaded(tmp_path: Path) -> None:
    with programs(tmp_path) as started:
        node = started.node()
        plain = started.client([node])
        direct = started.client([node], rules=[{"domain": ["localhost"], "use": "direct"}])
        redis = started.client([node], discovery={"enabled": True, "address": "127.0.0.1:1"})
        for client in (plain, direct, redis):
            await client.connected()
        assert "_cares" in libraries(node)
        assert "hiredis" not in libraries(node)
        assert "hiredis" in libraries(redis)
        for client in (plain, direct):
            assert "_cares" not in libraries(client)
            assert "hiredis" not in libraries(client)
        for program in (node, plain, direct):
            assert program.memory < 60 * MIB
