"""The guides in docs/guides."""

from __future__ import annotations

from live.documents import README_PATH, ROOT, Document

FOLDER = ROOT / "docs" / "guides"
README = Document(README_PATH)


def guide(name: str) -> Document:
    """One of them, without the ending of its file."""
    return Document(FOLDER / f"{name}.md")
