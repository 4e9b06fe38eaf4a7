"""The audit's files: audit.json, matches.parquet. Clock times go elsewhere (the log).

Equal content, thresholds and benchmarks give equal bytes, whatever the workers.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from contamination.audit import Audit
from contamination.classic import classic_facts
from contamination.findings import Finding
from contamination.found import (
    ItemFacts,
    Key,
    document_key,
    exposure_totals,
    found_items,
    item_hash,
    item_rows,
)
from contamination.index import RUN_WORDS
from contamination.rules import CLASSES
from contamination.samples import TaskSamples
from contamination.scores import score_split
from contamination.words import RECIPE_HASH, RECIPE_VERSION

SCHEMA_VERSION = 1
"""Raised whenever a reader of an older audit.json would misread a newer one."""
LIMITS = (
    "Paraphrases are not covered: a question told in other words, translated, or with most of its "
    "words replaced is not found.",
    "Items whose question and answer carry too few bits cannot be told from chance; they are "
    "listed as unauditable, never counted as clean.",
    "Halves of an item in two documents are judged together where the second begins the next "
    "document; elsewhere apart.",
    "The decoy rate is a lower bound: near-duplicates of stock phrases fool real items more often "
    "than decoys.",
)


def summary(audit: Audit, samples: Sequence[TaskSamples] = ()) -> dict[str, Any]:
    """The content of audit.json.

    Args:
        audit: the result.
        samples: of benchmark scores that are to be split.
    """
    found, items = found_items(audit.findings), sum(len(b.items) for b in audit.benchmarks)
    return {
        "schema_version": SCHEMA_VERSION,
        "corpus": {
            "kind": audit.corpus.kind,
            "digest": audit.corpus.digest,
            "pieces": audit.totals.pieces,
            "documents": audit.totals.documents,
            "text_bytes": audit.totals.text_bytes,
            "words": audit.totals.words,
        },
        "method": {
            "recipe_version": RECIPE_VERSION,
            "recipe": RECIPE_HASH,
            "run_words": RUN_WORDS,
            "index": audit.index.key,
            "thresholds": audit.rules.model_dump(),
        },
        "run": _run(audit),
        "totals": _totals(audit, audit.findings, found, items),
        "benchmarks": [_benchmark(audit, found, number) for number in range(len(audit.benchmarks))],
        "items": item_rows(audit.findings, found),
        "scores": score_split(samples, found, audit.unauditable),
        "classic": classic_facts(audit.classic, audit.benchmarks),
        "unauditable": audit.unauditable,
        "limits": list(LIMITS),
    }


def _run(audit: Audit) -> dict[str, Any] | None:
    history = audit.history
    if history is None:
        return None
    return {"plan_id": history.plan_id, "steps": history.steps, "tokens": history.tokens}


def _benchmark(audit: Audit, found: dict[Key, ItemFacts], number: int) -> dict[str, Any]:
    benchmark = audit.benchmarks[number]
    findings = [f for f in audit.findings if f.benchmark == benchmark.name]
    own = {key: facts for key, facts in found.items() if key.benchmark == benchmark.name}
    totals = _totals(audit, findings, own, len(benchmark.items))
    decoys, places = audit.decoy_places[benchmark.name], totals["dirty_places"]
    rows = [row for row in audit.self_test if row.benchmark == benchmark.name]
    return {
        "name": benchmark.name,
        "split": benchmark.split,
        "origin": benchmark.origin,
        "digest": benchmark.digest,
        "unauditable_items": len(audit.unauditable[benchmark.name]),
        **totals,
        "decoy_places": decoys,
        "false_discovery_rate": min(1.0, decoys / places) if places else None,
        "self_test": {row.kind: {"planted": row.planted, "found": row.found} for row in rows},
    }


def _totals(
    audit: Audit, findings: Sequence[Finding], found: dict[Key, ItemFacts], items: int
) -> dict[str, Any]:
    classes = Counter(facts.class_ for facts in found.values() if not facts.masked)
    dirty = [f for f in findings if f.dirty]
    totals: dict[str, Any] = {
        "items": items,
        "dirty_items": sum(facts.dirty for facts in found.values()),
        "dirty_documents": len({document_key(f) for f in dirty}),
        "dirty_places": len(dirty),
        "masked_items": sum(facts.masked for facts in found.values()),
        "items_by_class": {name: classes[name] for name in CLASSES},
    }
    if audit.history is not None:
        totals |= exposure_totals(findings, found.values(), audit.history)
    return totals


_SPAN = pl.Struct({"start": pl.Int64, "end": pl.Int64})
_MATCH_SCHEMA: dict[str, Any] = {
    "benchmark": pl.String,
    "item_id": pl.String,
    "item_hash": pl.String,
    "class": pl.String,
    "dirty": pl.Boolean,
    "masked": pl.Boolean,
    "rank": pl.Int32,
    "bits": pl.Float32,
    "passage_bits": pl.Float32,
    "question_coverage": pl.Float32,
    "answer_coverage": pl.Float32,
    "passage_coverage": pl.Float32,
    "choices_near": pl.Int32,
    "longest_run": pl.Int32,
    "half": pl.Boolean,
    "doc_id": pl.String,
    "source": pl.String,
    "split": pl.String,
    "origin": pl.String,
    "origin_row": pl.Int64,
    "url": pl.String,
    "shard": pl.String,
    "token_start": pl.Int64,
    "token_end": pl.Int64,
    "byte_start": pl.Int64,
    "byte_end": pl.Int64,
    "document_spans": pl.List(_SPAN),
    "passage_spans": pl.List(_SPAN),
    "question_spans": pl.List(_SPAN),
    "answer_spans": pl.List(_SPAN),
    "exposures": pl.Int64,
    "partial_exposures": pl.Int64,
    "first_step": pl.Int64,
    "last_step": pl.Int64,
}


def matches(findings: Sequence[Finding]) -> pl.DataFrame:
    """One row a finding. Spans are bytes; tokens count in the stream of (source, split)."""
    return pl.DataFrame([_match(finding) for finding in findings], schema=_MATCH_SCHEMA)


def _match(finding: Finding) -> dict[str, Any]:
    document, evidence, exposure = finding.document, finding.evidence, finding.exposure
    spans = {
        f"{name}_spans": [span._asdict() for span in found]
        for name, found in (("document", evidence.document_spans), *evidence.item_spans.items())
    }
    return spans | {
        "benchmark": finding.benchmark,
        "item_id": finding.item.id,
        "item_hash": item_hash(finding.item),
        "class": finding.class_,
        "dirty": finding.dirty,
        "masked": finding.masked,
        "rank": finding.rank,
        "bits": finding.bits,
        "passage_bits": finding.passage_bits,
        "question_coverage": finding.question_coverage,
        "answer_coverage": finding.answer_coverage,
        "passage_coverage": finding.passage_coverage,
        "choices_near": evidence.choices_near,
        "longest_run": finding.run,
        "half": finding.half,
        "doc_id": document.doc_id,
        "source": document.source,
        "split": document.split,
        "origin": document.origin,
        "origin_row": document.origin_row,
        "url": document.url,
        "shard": document.shard,
        "token_start": finding.token_start,
        "token_end": finding.token_end,
        "byte_start": finding.start,
        "byte_end": finding.end,
        "exposures": exposure and exposure.times,
        "partial_exposures": exposure and exposure.partial_times,
        "first_step": exposure and exposure.first_step,
        "last_step": exposure and exposure.last_step,
    }
