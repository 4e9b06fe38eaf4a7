"""The card's table of scores on all, clean and contaminated items (RUN/eval/clean.json)."""

from train.card_baselines import style_of
from train.card_content import Block, Line, bullets, cell, table
from train.facts import Evidence, pointer

_FILE = "run/eval/clean.json"


def clean_blocks(evidence: Evidence) -> tuple[Block, ...]:
    """A row a task and metric, with the number of items in brackets and 95 % intervals."""
    count = len(evidence.raw(_FILE, "/scores") or [])
    rows = [_row(evidence, pointer("scores", number)) for number in range(count)]
    headers = ("task", "metric", "all items", "clean", "contaminated", "too short to be audited")
    difference = "contaminated less clean"
    note = (
        "Scores by the audit's findings, with the number of items. The difference has a 95 % "
        "interval and stands where both sides have 30 items or more.",
    )
    return (*table((*headers, difference), rows), *bullets(note if rows else None))


def _row(evidence: Evidence, at: str) -> tuple[Line, ...]:
    style = style_of(str(evidence.raw(_FILE, f"{at}/metric")))
    value, low, high = (
        evidence.fact(_FILE, f"{at}/difference/{key}", f"signed_{style}")
        for key in ("value", "low", "high")
    )
    return (
        cell(evidence.fact(_FILE, f"{at}/task")),
        cell(evidence.fact(_FILE, f"{at}/metric")),
        *(_part(evidence, f"{at}/{part}", style) for part in _PARTS),
        cell(value, " (", low, " to ", high, ")"),
    )


_PARTS = ("all", "clean", "dirty", "not_audited")


def _part(evidence: Evidence, at: str, style: str) -> Line:
    count = evidence.fact(_FILE, f"{at}/n", "count")
    mean = evidence.fact(_FILE, f"{at}/mean", style)
    return cell(mean, " (", count, ")") or cell("– (", count, ")")
