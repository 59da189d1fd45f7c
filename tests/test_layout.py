"""Who may import whom, how large a file may get, and what the wire may not touch (docs/ARCHITECTURE.md, Layers)."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "bethrou"
LEAVES = {"atomic_file", "errors", "events", "printable", "config", "quantities", "snapshots"}
ALLOWED = {
    "wire": {"wire"},
    "net": {"net", "wire"},
    "proxy": {"proxy", "net", "wire"},
    "discovery": {"discovery", "net", "wire"},
    "ops": {"ops"},
    "config": {"wire"},
    "api": {"api", "assembly", "proxy", "wire", "net"},
    "assembly": {"assembly", "proxy", "discovery", "net", "wire", "ops"},
    "cli": {"cli", "assembly", "proxy", "discovery", "net", "wire", "ops"},
    "atomic_file": set(),
    "errors": set(),
    "events": set(),
    "snapshots": set(),
    "printable": set(),
    "quantities": set(),
}
FILES = sorted(SOURCE.rglob("*.py"))
MAX_LINES = 500


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_part_imports_only_what_it_may(path: Path) -> None:
    part = part_of(path)
    if part == "__init__":
        return
    allowed = ALLOWED[part] | LEAVES | {part}
    used = {name.split(".")[1] for name in imports(path) if name.startswith("bethrou.")}
    assert used - {"__version__"} <= allowed


@pytest.mark.parametrize("path", sorted((SOURCE / "wire").rglob("*.py")), ids=lambda path: path.name)
def test_the_wire_has_no_loop_clock_or_environment(path: Path) -> None:
    used = {name.split(".")[0] for name in imports(path)}
    assert not used & {"asyncio", "uvloop", "time", "os", "random", "secrets", "threading", "datetime"}


def test_no_file_has_grown_too_long() -> None:
    long = {str(path): count for path in FILES if (count := len(path.read_text().splitlines())) > MAX_LINES}
    assert not long


def test_no_probing_and_no_catch_all() -> None:
    found = []
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            probing = isinstance(node, ast.Name) and node.id in ("hasattr", "getattr", "setattr")
            catch_all = isinstance(node, ast.ExceptHandler) and (
                node.type is None
                or (isinstance(node.type, ast.Name) and node.type.id in ("Exception", "BaseException"))
            )
            if probing or catch_all:
                found.append(f"{path.relative_to(SOURCE)}:{node.lineno}")
    assert not found
