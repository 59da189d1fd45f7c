"""What the commands load: `--help` must be quick, and an idle node or client small."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("asyncio", "cryptography", "pydantic", "rich", "uvloop", "yaml")


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["bethrou.cli.main", "bethrou.cli.node", "bethrou.cli.client"])
def test_the_command_line_itself_loads_nothing_heavy(module: str) -> None:
    assert loaded_by(module).isdisjoint(HEAVY)


def test_the_client_does_without_the_nodes_parts() -> None:
    loaded = loaded_by("bethrou.cli.start_client")
    assert "bethrou.proxy.pool" in loaded
    assert loaded.isdisjoint(
        {"aiodns", "pycares", "bethrou.proxy.exit_node", "bethrou.proxy.resolver", "h11", "rich"}
    )


def test_the_node_does_without_the_clients_parts() -> None:
    loaded = loaded_by("bethrou.cli.start_node")
    assert "bethrou.proxy.exit_node" in loaded
    assert loaded.isdisjoint(
        {"bethrou.proxy.pool", "bethrou.proxy.router", "bethrou.proxy.socks_server", "h11", "rich"}
    )


def test_commands_that_ask_a_running_program_load_no_program() -> None:
    assert loaded_by("bethrou.cli.control_commands").isdisjoint(HEAVY)
