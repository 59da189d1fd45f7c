"""Documents whose commands are run: blocks that a comment marks, and the output and tables that they show.

<!-- block: NAME -->      above a fenced block of commands, a file, a program
<!-- output: NAME -->     above what the block of that name prints
<!-- table: NAME -->      above a table
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
README_PATH = ROOT / "README.md"

_MARKED = re.compile(r"<!-- (block|output): (\S+) -->\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_TABLE = re.compile(r"<!-- table: (\S+) -->\n((?:\|.*\n)+)")
_LINK = re.compile(r"\]\((?!https?:)([^)\s]+)\)")


class Document:
    """One of them. Names of blocks are its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.text = path.read_text()
        marked = _MARKED.findall(self.text)
        self.blocks: Mapping[str, str] = {name: text for kind, name, text in marked if kind == "block"}
        self.outputs: Mapping[str, str] = {name: text for kind, name, text in marked if kind == "output"}
        self.tables: Mapping[str, list[list[str]]] = {
            name: [re.split(r" *\| *", line)[1:-1] for line in table.splitlines()[2:]]
            for name, table in _TABLE.findall(self.text)
        }

    def unmarked(self, *languages: str) -> list[str]:
        """The lines above blocks in these languages that have no mark, or one that other blocks have, too."""
        fence = rf"^(.*)\n```(?:{'|'.join(languages)})$"
        above: list[str] = re.findall(fence, self.text, re.MULTILINE)
        return [
            line for line in above if above.count(line) > 1 or not re.match(r"<!-- (block|output): ", line)
        ]

    def dead_links(self) -> list[str]:
        """Links to files, or to headings of this and other documents, that lead nowhere."""
        return [link for link in _LINK.findall(self.text) if not self._leads_somewhere(link)]

    def _leads_somewhere(self, link: str) -> bool:
        file, _, heading = link.partition("#")
        path = self.path.parent / file if file else self.path
        return path.exists() and (not heading or heading in _headings(path.read_text()))


def _headings(text: str) -> set[str]:
    """As GitHub names them in links."""
    lines = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}
