"""The Markdown of the project, cut into code blocks and headings.

The words after ``` say what a block is, and so what the tests do with it:

    sh run         run by bash, offline, in a folder where the page's files are made first
    sh parse       needs a hub, GPU, cluster or names of yours: its `tally` lines are parsed
    python run     run in that folder; `python parse` is compiled only
    sh/python tested   has a test of its own that reads the page
    yaml build|train|experiment   settings, whole or a part; `# NAME.yaml` first: a file of the page
    text           shown; `text shows`: lines that the block before prints; `text error`: a message
    console        a session: its `$ tally` lines are parsed
"""

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^( *)(```+)([^\n]*)\n(.*?)^\1\2 *$", re.M | re.S)


class Block(NamedTuple):
    """One fenced block."""

    page: Path
    line: int
    language: str
    kind: str
    """The rest of the line that opens it."""
    content: str

    @property
    def place(self) -> str:
        """Where it is, for messages."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def pages() -> list[Path]:
    """All Markdown that is for people, tests' results included."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("[a-z]*/README.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted({*found, ROOT / "tests/benchmarks/RESULTS.md"})


def name_of(page: Path) -> str:
    """The page's path in the repository."""
    return page.relative_to(ROOT).as_posix()


@cache
def blocks(page: Path) -> list[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, _, kind = match[3].strip().partition(" ")
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(page, line, language, kind, match[4]))
    return found


def prose(page: Path) -> str:
    """A page without its blocks."""
    return _FENCE.sub("", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, made as GitHub and MyST make them."""
    titles = re.findall(r"^#+ (.*)$", prose(page), re.M)
    plain = (re.sub(r"\[(.*?)\]\(.*?\)|[`*]", r"\1", title) for title in titles)
    return {re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-") for title in plain}
