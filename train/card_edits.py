"""Where a card's pages differ from what would be written now, and whether that makes them wrong.

Words may be edited. A number in edited words that stands neither behind a receipt nor in what would
be written is wrong, and so is a curve that was redrawn.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from html import unescape
from pathlib import Path
from typing import Any

from train.card import Rendered

_MARKS = re.compile(r"(?<=\S)<!--f\d+-->|\s# f\d+$", re.MULTILINE)
_FACT = re.compile(r"<data [^>]*>.*?</data>", re.DOTALL)
_HIDDEN = re.compile(r"<(style|script)>.*?</\1>|<svg.*?</svg>", re.DOTALL)
_DRAWING = re.compile(r"<svg.*?</svg>", re.DOTALL)
_TAG = re.compile(r"<[^>]*>")
_NUMBER = re.compile(r"\d[\d.,]*")


def check_edits(
    folder: Path,
    rendered: Rendered,
    facts: Mapping[str, Mapping[str, Any]],
    reported: Iterable[str] = (),
) -> tuple[list[str], list[str]]:
    """Compare the files of a card with what would be written now.

    Args:
        folder: RUN/card.
        rendered: what would be written.
        facts: of receipts.json, all of them found true.
        reported: what is known to be wrong; its lines are not named again.

    Returns:
        What is wrong, and remarks.
    """
    wrong: list[str] = []
    remarks: list[str] = []
    outdated = _outdated(facts, rendered)
    for name, expected in rendered.files.items():
        path = folder / name
        text = path.read_text(encoding="utf-8") if path.is_file() else ""
        if text == expected:
            continue
        found = [] if outdated else list(_mistakes(path, text, expected))
        known = tuple(f"{path}:{line}:" for line in _lines(path, reported))
        wrong += [mistake for mistake in found if not mistake.startswith(known)]
        if not found:
            remarks.append(
                f"{path}: its facts hold, but it is not what `tally card` would write now: words "
                "were edited, or result files were added since"
            )
    return wrong, remarks


def _lines(path: Path, reported: Iterable[str]) -> set[str]:
    """Numbers of the page's lines that something wrong is known of."""
    start = f"{path}:"
    said = (words.removeprefix(start) for words in reported if words.startswith(start))
    return {words.partition(":")[0] for words in said if words[:1].isdigit()}


def _outdated(facts: Mapping[str, Mapping[str, Any]], rendered: Rendered) -> bool:
    """Whether more, or other, is known now than when the card was written."""
    written = {str(entry["receipt"]) for entry in facts.values()}
    return any(
        str(dict(fact.receipt)) not in written
        for fact in rendered.facts.values()
        if fact.id in rendered.shown
    )


def _mistakes(path: Path, text: str, expected: str) -> Iterator[str]:
    if path.suffix == ".svg":
        yield f"{path}: a curve is not what run/metrics.jsonl gives"
        return
    if _DRAWING.findall(text) != _DRAWING.findall(expected):
        yield f"{path}: a curve is not what run/metrics.jsonl gives"
    ours, theirs = (_visible(part, path.suffix) for part in (expected, text))
    matcher = SequenceMatcher(None, [words for _, words in ours], [words for _, words in theirs])
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            yield from _unproved(path, [words for _, words in ours[a:b]], theirs[c:d])


def _unproved(path: Path, ours: Iterable[str], theirs: Sequence[tuple[int, str]]) -> Iterator[str]:
    known = {number for words in ours for number in _NUMBER.findall(words)}
    for line, words in theirs:
        new = [number for number in _NUMBER.findall(words) if number not in known]
        if new:
            yield f"{path}:{line}: “{words.strip()}”: no receipt for {', '.join(new)}"


def _visible(text: str, suffix: str) -> list[tuple[int, str]]:
    """The lines that a reader sees, with their numbers; facts, checked already, left out."""
    if suffix == ".html":
        for pattern in (_HIDDEN, _FACT):
            text = pattern.sub(lambda match: "\n" * match[0].count("\n"), text)
        text = _TAG.sub("", text)
    lines = enumerate(_MARKS.sub("", text).splitlines(), start=1)
    return [(number, unescape(words)) for number, words in lines if words.strip()]
