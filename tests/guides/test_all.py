"""What holds for every guide: all its commands are run, and README lists it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from guides.guide import FOLDER, README
from live.documents import Document

TESTS = Path(__file__).parents[1]
GUIDES = sorted(FOLDER.glob("*.md"))


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.stem)
def test_every_block_is_run(path: Path) -> None:
    document = Document(path)
    assert document.unmarked("sh", "yaml", "text") == []
    (test,) = TESTS.rglob(f"test_{path.stem.replace('-', '_')}.py")
    source = test.read_text()
    marked = (*document.blocks, *document.outputs)
    assert [name for name in marked if not re.search(rf"""["']{name}["']""", source)] == []


def test_readme_lists_them() -> None:
    listed = README.text.partition("\n## Guides\n")[2].partition("\n## ")[0]
    assert [path.name for path in GUIDES if f"(docs/guides/{path.name})" not in listed] == []
