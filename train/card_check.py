"""Read a card's receipts again: which of its statements are (still) true?

Every receipt must give the value that the card was written with, and every mark in README.md and
card.html must stand behind exactly that value: a number changed by hand, or a mark taken away, is
reported with the place where the true number is. Where the receipts hold, the pages are laid beside
what would be written now (`train.card_edits`): words may be edited, but a number that no receipt
stands behind, and a curve that was not drawn from the metrics, are wrong.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from configs.pages import clean
from train.card_markdown import plain, yaml_string
from train.errors import TrainError
from train.facts import STYLES, Evidence, MissingValueError, receipt_words

_MARK = re.compile(r"<!--(f\d+)-->|\s+#\s(f\d+)$", re.MULTILINE)
_BEFORE = re.compile(r"[0-9.,]$")


@dataclass(frozen=True)
class Mark:
    """A fact's place on a page, with what is written there."""

    fact: str
    written: str
    """README: the line up to the mark; HTML: the element's text."""
    line: int
    sorted_by: str | None = None
    """HTML: the element's value."""


def check_card(run_dir: Path) -> tuple[list[str], list[str]]:
    """Compare RUN/card with the files it speaks of.

    Returns:
        What is wrong, one sentence each, and remarks that make nothing wrong.

    Raises:
        TrainError: there is no card.
    """
    from train.card import find_roots, render
    from train.card_edits import check_edits

    folder = run_dir / "card"
    if not (folder / "receipts.json").is_file():
        raise TrainError(f"{folder}: no receipts.json; write the card with `tally card {run_dir}`")
    receipts = json.loads((folder / "receipts.json").read_bytes())
    audit = Path(receipts["audit"]) if receipts["audit"] else None
    evidence = Evidence(find_roots(run_dir, audit))
    facts: dict[str, dict[str, Any]] = receipts["facts"]
    wrong = [p for i, entry in facts.items() for p in _check_receipt(i, entry, evidence)]
    still_true = not wrong
    for page, ids in receipts["pages"].items():
        wrong += _check_page(folder / page, ids, facts)
    if still_true:
        edits, remarks = check_edits(folder, render(run_dir, audit), facts, wrong)
        return wrong + edits, [] if wrong + edits else remarks
    return wrong, []


def _check_receipt(fact: str, entry: dict[str, Any], evidence: Evidence) -> Iterator[str]:
    where = receipt_words(entry["receipt"])
    try:
        now = evidence.read(entry["receipt"])
    except MissingValueError as error:
        yield f"{fact}: the card says {entry['shown']}, but {where} is gone ({error})"
        return
    if now != entry["value"]:
        shown = STYLES[entry["style"]](now)
        yield f"{fact}: the card says {entry['shown']}, {where} gives {shown} ({now}) now"
    elif STYLES[entry["style"]](now) != entry["shown"]:
        yield f"{fact}: {now} from {where} is not shown as {entry['shown']}"


def _check_page(path: Path, ids: list[str], facts: dict[str, dict[str, Any]]) -> Iterator[str]:
    if not path.is_file():
        yield f"{path}: missing"
        return
    found = list(marks(path.name, path.read_text(encoding="utf-8")))
    for mark in found:
        entry = facts.get(mark.fact)
        if entry is None:
            yield f"{path}:{mark.line}: mark {mark.fact} has no receipt"
        elif mark.sorted_by not in (None, str(entry["value"]), entry["shown"]):
            yield f"{path}:{mark.line}: {entry['shown']} is sorted as {mark.sorted_by}"
        elif not _stands_behind(mark, entry["shown"], path.suffix):
            said = mark.written[-len(entry["shown"]) - 12 :].strip()
            where = receipt_words(entry["receipt"])
            yield f"{path}:{mark.line}: “…{said}” is not true: {entry['shown']} ({where})"
    for fact in sorted(set(ids) - {mark.fact for mark in found}):
        yield f"{path}: the mark of {fact} ({facts[fact]['shown']}) was removed"


def _stands_behind(mark: Mark, shown: str, suffix: str) -> bool:
    if suffix == ".html":
        return mark.written == clean(shown)
    if mark.written.rstrip().endswith(yaml_string(shown)):  # of the metadata
        return True
    escaped = plain(shown)
    before = mark.written[: -len(escaped)]
    return mark.written.endswith(escaped) and not _BEFORE.search(before)


def marks(page: str, text: str) -> Iterator[Mark]:
    """All marks of a page, in order."""
    if page.endswith(".html"):
        parser = _DataElements()
        parser.feed(text)
        yield from parser.found
        return
    for number, words in enumerate(text.splitlines(), start=1):
        start = 0
        for match in _MARK.finditer(words):
            yield Mark(match[1] or match[2], words[start : match.start()], number)
            start = match.end()


class _DataElements(HTMLParser):
    """Collects `<data id="f1">text</data>`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[Mark] = []
        self._open: tuple[str, int, str | None] | None = None
        self._text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Begin to collect at a fact."""
        values = dict(attrs)
        identity = values.get("id")
        if tag == "data" and identity:
            self._open, self._text = (identity, self.getpos()[0], values.get("value")), ""

    def handle_data(self, data: str) -> None:
        """Collect."""
        self._text += data

    def handle_endtag(self, tag: str) -> None:
        """End of a fact."""
        if tag == "data" and self._open:
            identity, line, sorted_by = self._open
            self.found.append(Mark(identity, self._text, line, sorted_by))
            self._open = None
