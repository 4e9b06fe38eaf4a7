"""Findings summed up by item: over all its places, and how often a run trained on them."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from contamination.exposure import Exposure, RunHistory
from contamination.findings import Finding
from contamination.items import Item
from contamination.rules import CLASSES, DIRTY
from shards.hashing import blake3_json

EXPOSURES = ("never", "in part", "1", "2-4", "5+")
"""Groups of items by how often a run trained on them."""


@dataclass(frozen=True)
class ItemFacts:
    """One item that was found.

    Attributes:
        class_: the strongest of its findings; of those that are not masked, if there are any.
        places: all its findings.
        documents: that hold it.
        run: longest unbroken run of words in any place.
        coverage: largest share of the question in any place.
        reads: by the run, of the places that count; None without a run.
        masked: whether no place of it gives a loss.
    """

    class_: str
    places: int
    documents: int
    run: int
    coverage: float
    reads: Exposure | None
    masked: bool = False

    @property
    def dirty(self) -> bool:
        """Whether it counts as contamination."""
        return self.class_ in DIRTY and not self.masked

    @property
    def exposure(self) -> str | None:
        """One of `EXPOSURES`; None without a run."""
        if self.reads is None:
            return None
        times = self.reads.times
        if not times:
            return "in part" if self.reads.partial_times else "never"
        return "1" if times == 1 else "2-4" if times < 5 else "5+"


class Key(NamedTuple):
    """Which item."""

    benchmark: str
    item: str


def found_items(findings: Iterable[Finding]) -> dict[Key, ItemFacts]:
    """What was found of each item, by benchmark and id, sorted."""
    groups: dict[Key, list[Finding]] = defaultdict(list)
    for finding in findings:
        groups[Key(finding.benchmark, finding.item.id)].append(finding)
    return {key: _facts(groups[key]) for key in sorted(groups)}


def _facts(group: Sequence[Finding]) -> ItemFacts:
    known = any(f.exposure is not None for f in group)
    open_ = [f for f in group if not f.masked]
    return ItemFacts(
        min((f.class_ for f in open_ or group), key=CLASSES.index),
        len(group),
        len({document_key(f) for f in group}),
        max(f.run for f in group),
        max(f.question_coverage for f in group),
        _summed([f.exposure for f in group if f.dirty and f.exposure]) if known else None,
        not open_,
    )


def _summed(reads: Sequence[Exposure]) -> Exposure:
    firsts = [r.first_step for r in reads if r.first_step is not None]
    lasts = [r.last_step for r in reads if r.last_step is not None]
    return Exposure(
        sum(r.times for r in reads),
        sum(r.partial_times for r in reads),
        min(firsts, default=None),
        max(lasts, default=None),
    )


def document_key(finding: Finding) -> tuple[str, str, str]:
    """Which document a finding is in."""
    return finding.document.source, finding.document.split, finding.document.doc_id


def item_hash(item: Item) -> str:
    """Hex BLAKE3 of an item's texts: says which item without saying what is in it."""
    return blake3_json([item.question, item.answer, item.choices, item.passage])[:32]


def item_rows(findings: Sequence[Finding], found: dict[Key, ItemFacts]) -> list[dict[str, Any]]:
    """The part `items` of audit.json."""
    hashes = {Key(f.benchmark, f.item.id): item_hash(f.item) for f in findings}
    return [
        {
            "benchmark": key.benchmark,
            "id": key.item,
            "hash": hashes[key],
            "class": facts.class_,
            "dirty": facts.dirty,
            "masked": facts.masked,
            "places": facts.places,
            "documents": facts.documents,
            "longest_run": facts.run,
            "question_coverage": facts.coverage,
            "exposure": facts.reads and asdict(facts.reads),
        }
        for key, facts in found.items()
    ]


def exposure_totals(
    findings: Sequence[Finding], found: Iterable[ItemFacts], history: RunHistory
) -> dict[str, Any]:
    """What the run trained on of some findings that count.

    Args:
        findings: of a benchmark, or all.
        found: their items.
        history: the run.
    """
    reads = [facts.reads for facts in found if facts.dirty and facts.reads is not None]
    total = _summed(reads)
    trained = sum(bool(read.times + read.partial_times) for read in reads)
    tokens = _tokens_read([f for f in findings if f.dirty])
    return {
        "dirty_items_trained_on": trained,
        "dirty_items_never_trained_on": len(reads) - trained,
        "exposures": total.times,
        "partial_exposures": total.partial_times,
        "first_step": total.first_step,
        "last_step": total.last_step,
        "tokens_trained_on": tokens,
        "share_of_tokens": tokens / max(1, history.tokens),
    }


def _tokens_read(dirty: Sequence[Finding]) -> int:
    """Tokens of the places times their reads; places that overlap (twins) count once."""
    ranges = sorted(
        (f.document.source, f.document.split, f.token_start, f.token_end, f.exposure.times)
        for f in dirty
        if f.token_start is not None and f.token_end is not None and f.exposure is not None
    )
    total, stream, end = 0, ("", ""), 0
    for source, split, start, stop, times in ranges:
        end = end if (source, split) == stream else 0
        total += times * max(0, stop - max(start, end))
        stream, end = (source, split), max(end, stop)
    return total
