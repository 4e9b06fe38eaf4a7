"""The findings on audit.html: a card for every place, best item first, and the filters above."""

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from contamination.findings import Finding
from contamination.rules import CLASSES

MAX_CARDS = 500
"""Cards on the page, strongest first; matches.parquet has all findings."""
_MAX_TWINS = 5


class Card(NamedTuple):
    """A place of the data, and what is there."""

    best: Finding
    twins: list[str]
    """Other items that have the same words."""
    strength: str
    place: list[str]
    """Where the document is from."""
    is_link: bool
    """Whether its address leads to a web page."""
    history: list[str]
    """What became of the place's tokens."""


def cards_of(findings: Sequence[Finding]) -> list[Card]:
    """A card for every place, the strongest first of those that count, then of the others."""
    groups = _places(findings)
    groups.sort(key=lambda group: (not group[0].dirty, -group[0].bits, -group[0].passage_bits))
    return [_card(group) for group in groups]


def filter_options(cards: Sequence[Card]) -> dict[str, list[str]]:
    """What one can choose the cards by: values by name."""
    best = [card.best for card in cards]
    return {
        "benchmark": sorted({finding.benchmark for finding in best}),
        "class": [name for name in CLASSES if any(f.class_ == name for f in best)],
        "source": sorted({finding.document.source for finding in best}),
    }


def _places(findings: Sequence[Finding]) -> list[list[Finding]]:
    """Findings at one place, in rank order; each place begins with rank 1."""
    groups: list[list[Finding]] = []
    for finding in findings:
        if finding.rank == 1:
            groups.append([])
        groups[-1].append(finding)
    return groups


def _card(group: Sequence[Finding]) -> Card:
    best, twins = group[0], group[1 : 1 + _MAX_TWINS]
    return Card(
        best=best,
        twins=[f"{finding.benchmark} {finding.item.id}" for finding in twins],
        strength=" · ".join(_strength(best)),
        place=list(_place(best)),
        is_link=re.match(r"https?://", best.document.url or "") is not None,
        history=list(_history(best)),
    )


def _strength(finding: Finding) -> Iterator[str]:
    yield f"{finding.bits + finding.passage_bits:,.0f} bits"
    yield f"longest run {finding.run} words"
    yield f"question {finding.question_coverage:.0%}"
    if finding.item.answer:
        yield f"answer {finding.answer_coverage:.0%}"
    if finding.passage_coverage:
        yield f"passage {finding.passage_coverage:.0%}"


def _place(finding: Finding) -> Iterator[str]:
    document = finding.document
    yield f"{document.source}/{document.split}" if document.split else document.source
    if document.origin_row is not None and document.origin != document.source:
        yield f"{document.origin} row {document.origin_row + 1:,}"


def _history(finding: Finding) -> Iterator[str]:
    exposure, shard = finding.exposure, finding.document.shard
    if finding.token_start is not None and finding.token_end is not None:
        yield f"{shard} tokens {finding.token_start:,}–{finding.token_end:,} of the stream"
    if finding.half:
        yield "half of the item: the other stands in a neighbouring document"
    if finding.masked:
        yield "masked: gives no loss"
    if exposure is not None and exposure.times + exposure.partial_times:
        times = f"{exposure.times:,} {'time' if exposure.times == 1 else 'times'}"
        partly = f" and {exposure.partial_times:,} times in part" if exposure.partial_times else ""
        verb = "read" if finding.masked else "trained on"
        yield f"{verb} {times}{partly}, steps {exposure.first_step}–{exposure.last_step}"
    elif exposure is not None:
        yield f"present, never {'read' if finding.masked else 'trained on'}"
