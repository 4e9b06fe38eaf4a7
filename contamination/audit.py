"""The audit from beginning to end: corpus x benchmarks -> findings and what they are worth."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from configs.audit import AuditRules
from configs.terminal import console, progress
from contamination.classic import Name, Values
from contamination.classic_scan import classic_values
from contamination.clusters import worth_of
from contamination.corpus import Corpus, Piece
from contamination.exposure import RunHistory
from contamination.findings import Called, Finding, findings_of
from contamination.halves import called_places
from contamination.index import Index
from contamination.index_files import cached_index
from contamination.items import Benchmark
from contamination.pieces import Scanned, Scanner
from contamination.rules import are_dirty, unauditable
from contamination.selftest import Detector, SelfTestRow, self_test
from contamination.stored import PieceResult, Store
from contamination.surprisal import vocabulary_of, word_bits

_HOSTS = 200
_HOST_BYTES = (400, 12_000)


@dataclass(frozen=True)
class CorpusTotals:
    """What was read."""

    documents: int
    text_bytes: int
    words: int
    pieces: int


@dataclass(frozen=True)
class Audit:
    """The result, ready for the reports.

    Attributes:
        corpus: identity of the audited content.
        totals: how much of it there was.
        benchmarks: what it was compared with.
        index: the index used.
        rules: the thresholds used.
        findings: by piece, document and place.
        unauditable: per benchmark, ids of items with too few bits to be called at all.
        decoy_places: per benchmark, places where a decoy was called dirty.
        self_test: recall measured on planted items.
        history: the run whose exposure was counted, or None.
        classic: what other papers' definitions say.
        scanned: what this call scanned, and what it took from earlier ones; for the log only.
        scan_s: clock time of that; for the log only, never for the report.
    """

    corpus: Corpus
    totals: CorpusTotals
    benchmarks: list[Benchmark]
    index: Index
    rules: AuditRules
    findings: list[Finding]
    unauditable: dict[str, list[str]]
    decoy_places: dict[str, int]
    self_test: list[SelfTestRow]
    history: RunHistory | None
    classic: list[Values]
    scanned: Scanned
    scan_s: float


def scan_only(
    corpus: Corpus,
    benchmarks: list[Benchmark],
    work: Path,
    cache: Path,
    workers: int = 1,
    also: Sequence[Name] = (),
) -> Scanned:
    """Scans what `run_audit` would and keeps it there; several processes may do so at once.

    Args:
        corpus: what to scan.
        benchmarks: what to look for.
        work: directory for scanned pieces.
        cache: directory of benchmark indexes.
        workers: threads of the scan.
        also: classic definitions to scan by too.
    """
    scanned = _scanner(benchmarks, work, cache, workers).run(corpus)
    classic_values(corpus, benchmarks, also, work, workers)
    return scanned


def run_audit(
    corpus: Corpus,
    benchmarks: list[Benchmark],
    rules: AuditRules,
    work: Path,
    cache: Path,
    workers: int = 1,
    history: RunHistory | None = None,
    also: Sequence[Name] = (),
) -> Audit:
    """Audits a corpus.

    Args:
        corpus: what to audit.
        benchmarks: what to look for.
        rules: when a shared place is called.
        work: directory for scanned pieces, so that nothing is scanned twice.
        cache: directory of benchmark indexes.
        workers: threads of the scan; the result does not depend on it.
        history: the run whose exposure to the findings is counted.
        also: classic definitions to count by too.
    """
    scanner = _scanner(benchmarks, work, cache, workers)
    index, vocabulary = scanner.index, scanner.vocabulary
    start = time.perf_counter()
    scanned = scanner.run(corpus)
    scan_s = time.perf_counter() - start
    counts, sampled, totals = _summed(scanner, corpus)
    bits = word_bits(index.sequences, vocabulary, counts, sampled)
    detector = Detector(index, vocabulary, worth_of(index, bits), rules)
    findings: list[Finding] = []
    decoys = np.zeros(len(benchmarks), np.int64)
    with progress("judging", len(corpus.pieces), "pieces") as bar:
        for piece in corpus.pieces:
            called = _called(piece, scanner.load(piece), detector)
            decoys += _decoy_places(called, detector, len(benchmarks))
            findings += findings_of(_real(called, index), corpus, benchmarks, history)
            bar.advance()
    names = [benchmark.name for benchmark in benchmarks]
    return Audit(
        corpus=corpus,
        totals=totals,
        benchmarks=benchmarks,
        index=index,
        rules=rules,
        findings=findings,
        unauditable=_unauditable(benchmarks, detector),
        decoy_places=dict(zip(names, decoys.tolist(), strict=True)),
        self_test=self_test(detector, benchmarks, _hosts(corpus)),
        history=history,
        classic=classic_values(corpus, benchmarks, also, work, workers),
        scanned=scanned,
        scan_s=scan_s,
    )


def _scanner(benchmarks: list[Benchmark], work: Path, cache: Path, workers: int) -> Scanner:
    with console.status("indexing benchmarks (the first audit also compiles its kernels)"):
        index = cached_index(benchmarks, cache)
        vocabulary = vocabulary_of(index.sequences)
    return Scanner(index, vocabulary, benchmarks, Store(work), cache, workers)


def _summed(scanner: Scanner, corpus: Corpus) -> tuple[NDArray[np.int64], int, CorpusTotals]:
    counts = np.zeros(len(scanner.vocabulary.words), np.int64)
    sampled, documents, text_bytes, words = 0, 0, 0, 0
    for piece in corpus.pieces:
        result = scanner.load(piece)
        counts += result.counts
        sampled += result.sampled_words
        documents += result.documents
        text_bytes += result.text_bytes
        words += result.words
    return counts, sampled, CorpusTotals(documents, text_bytes, words, len(corpus.pieces))


def _called(piece: Piece, result: PieceResult, detector: Detector) -> Called:
    places = called_places(result.hits, detector.index, detector.worth, detector.rules)
    return Called(piece, places, detector.worth.totals)


def _real(called: Called, index: Index) -> Called:
    real = called.places.clusters["item"] < index.num_items
    return called._replace(places=called.places.only(real))


def _decoy_places(called: Called, detector: Detector, num_benchmarks: int) -> NDArray[np.int64]:
    """Per benchmark, places where a decoy is called dirty and no real item explains the text.

    A short decoy can be the beginning of a real item. Where that item stands in the text, the decoy
    is no chance match; so a decoy must beat every real item whose place it overlaps.
    """
    clusters = called.places.clusters
    is_decoy = clusters["item"] >= detector.index.num_items
    real, decoys = clusters[~is_decoy], clusters[are_dirty(called.places.classes) & is_decoy]
    firsts = np.searchsorted(real["document"], decoys["document"], side="left")
    lasts = np.searchsorted(real["document"], decoys["document"], side="right")
    wins = [
        decoy
        for decoy, first, last in zip(decoys, firsts, lasts, strict=True)
        if not _explained(decoy, real[first:last])
    ]
    numbers = detector.index.sequences.benchmark[[int(decoy["item"]) for decoy in wins]]
    return np.bincount(numbers, minlength=num_benchmarks)


def _explained(decoy: np.void, real: NDArray[np.void]) -> bool:
    overlap = (real["start"] < decoy["end"]) & (decoy["start"] < real["end"])
    return bool(np.any(overlap & (_strength(real) >= _strength(decoy))))


def _strength(clusters: Any) -> Any:
    return clusters["question_bits"] + clusters["answer_bits"] + clusters["passage_bits"]


def _unauditable(benchmarks: Sequence[Benchmark], detector: Detector) -> dict[str, list[str]]:
    totals = detector.worth.totals[: detector.index.num_items]
    bounds = detector.index.sequences.bounds[: detector.index.num_items]
    flags = unauditable(totals, detector.rules) | (bounds[:, 3] - bounds[:, 1] < 5)
    out, first = {}, 0
    for benchmark in benchmarks:
        here = flags[first : first + len(benchmark.items)]
        out[benchmark.name] = [benchmark.items[k].id for k in np.flatnonzero(here)]
        first += len(benchmark.items)
    return out


def _hosts(corpus: Corpus) -> list[bytes]:
    """Documents of the corpus' first block to plant into; small ones if it has no other."""
    for piece in corpus.pieces:
        for block in corpus.blocks(piece):
            batch = corpus.decode(block)
            sizes = np.diff(batch.offsets)
            fit = np.flatnonzero((sizes >= _HOST_BYTES[0]) & (sizes <= _HOST_BYTES[1]))
            chosen = fit if len(fit) else np.flatnonzero(sizes <= _HOST_BYTES[1])
            return [
                batch.data[batch.offsets[d] : batch.offsets[d + 1]].tobytes()
                for d in chosen[:_HOSTS]
            ]
    return []
