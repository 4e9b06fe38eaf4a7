"""Called clusters -> findings: everything that is known about one item in one place."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contamination.corpus import Corpus, Document, Piece
from contamination.evidence import Evidence, evidence_of
from contamination.exposure import Exposure, RunHistory
from contamination.halves import Places
from contamination.items import Benchmark, Item
from contamination.rules import CLASSES, DIRTY, Class
from shards.detokenize import tokens_holding
from shards.loss_mask import Spans


@dataclass(frozen=True)
class Finding:
    """One item found in one place of one document."""

    benchmark: str
    item: Item
    class_: Class
    rank: int
    """1 for the best item at this place; near-twins of other items follow."""
    bits: float
    """Covered bits of question and answer."""
    passage_bits: float
    question_coverage: float
    answer_coverage: float
    passage_coverage: float
    run: int
    half: bool
    """Whether another half stands in a neighbouring document, and the class is that of both."""
    document: Document
    """Without its text."""
    start: int
    """First matched byte of the document."""
    end: int
    token_start: int | None
    """First matched token of the stream (source, split)."""
    token_end: int | None
    masked: bool
    """Whether the dataset lets none of its tokens give a loss."""
    evidence: Evidence
    exposure: Exposure | None

    @property
    def dirty(self) -> bool:
        """Whether the finding counts as contamination."""
        return self.class_ in DIRTY and not self.masked


class Called(NamedTuple):
    """What was called in a piece, and all items' field bits."""

    piece: Piece
    places: Places
    field_bits: NDArray[np.float32]


def findings_of(
    called: Called, corpus: Corpus, benchmarks: Sequence[Benchmark], history: RunHistory | None
) -> Iterator[Finding]:
    """The findings of a piece, by document, place and rank.

    Args:
        called: places of real items (no decoys).
        corpus: where the documents are.
        benchmarks: in the order of the index.
        history: the run to count exposure in, or None.
    """
    items = [(benchmark.name, item) for benchmark in benchmarks for item in benchmark.items]
    rows = defaultdict(list)
    for row, document in enumerate(called.places.clusters["document"]):
        rows[int(document)].append(row)
    for number, document in corpus.documents(called.piece, sorted(rows)):
        here = [
            _finding(called, row, document, items[called.places.clusters["item"][row]], history)
            for row in rows[number]
        ]
        yield from _ranked(here)


def _finding(
    called: Called,
    row: int,
    document: Document,
    named_item: tuple[str, Item],
    history: RunHistory | None,
) -> Finding:
    benchmark, item = named_item
    cluster = called.places.clusters[row]
    bits = called.field_bits[cluster["item"]]
    evidence = evidence_of(
        document.text, int(cluster["first_word"]), int(cluster["end_word"]), item, float(bits[2])
    )
    start, end = int(cluster["start"]), int(cluster["end"])
    tokens = _tokens(document, start, end)
    class_: Class = CLASSES[called.places.classes[row]]
    if class_ == "question" and evidence.answer_near:
        class_ = "qa"
    passage, question, answer = (
        float(min(1.0, cluster[name] / total)) if total > 0 else 0.0
        for name, total in zip(("passage_bits", "question_bits", "answer_bits"), bits, strict=True)
    )
    exposure = None
    if history is not None and tokens[0] is not None and tokens[1] is not None:
        exposure = history.exposure(document.source, document.split, tokens[0], tokens[1])
    return Finding(
        benchmark=benchmark,
        item=item,
        class_=class_,
        rank=1,
        bits=float(cluster["question_bits"] + cluster["answer_bits"]),
        passage_bits=float(cluster["passage_bits"]),
        question_coverage=question,
        answer_coverage=1.0 if evidence.answer_near else answer,
        passage_coverage=passage,
        run=int(cluster["run"]),
        half=bool(called.places.halves[row]),
        # Findings can be many.
        document=document._replace(text=b"", token_ends=None, masked=None),
        start=start,
        end=end,
        token_start=tokens[0],
        token_end=tokens[1],
        masked=_is_masked(document.masked, *tokens),
        evidence=evidence,
        exposure=exposure,
    )


def _tokens(document: Document, start: int, end: int) -> tuple[int | None, int | None]:
    """Tokens of the stream that hold bytes [start, end) of the document."""
    if document.token_ends is None or document.token_start is None:
        return None, None
    first, last = tokens_holding(document.token_ends, start, end)
    return document.token_start + first, document.token_start + last


def _is_masked(masked: Spans | None, start: int | None, end: int | None) -> bool:
    if masked is None or start is None or end is None:
        return False
    return bool(np.any((masked[:, 0] <= start) & (end <= masked[:, 1])))


def _ranked(findings: list[Finding]) -> list[Finding]:
    """Findings by place; those that overlap are ranked by class and bits."""
    ranked: list[Finding] = []
    group: list[Finding] = []
    end = -1
    for finding in sorted(findings, key=lambda f: (f.start, f.end, f.benchmark, f.item.id)):
        if finding.start >= end:
            ranked += _by_strength(group)
            group, end = [], -1
        group.append(finding)
        end = max(end, finding.end)
    return ranked + _by_strength(group)


def _by_strength(group: list[Finding]) -> list[Finding]:
    def strength(finding: Finding) -> tuple[int, float]:
        order = -1 if finding.dirty else CLASSES.index(finding.class_)
        return order, -finding.bits - finding.passage_bits

    return [replace(f, rank=k) for k, f in enumerate(sorted(group, key=strength), start=1)]
