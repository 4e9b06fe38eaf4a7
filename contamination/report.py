"""The audit's files: audit.json, matches.parquet, audit.md. Clock times go elsewhere (the log).

Equal content, thresholds and benchmarks give equal bytes, whatever the workers.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

import polars as pl

from contamination.audit import Audit
from contamination.findings import Finding
from contamination.index import RUN_WORDS
from contamination.rules import CLASSES, DIRTY
from contamination.words import RECIPE_HASH, RECIPE_VERSION

SCHEMA_VERSION = 1
LIMITS = (
    "Paraphrases, translations and items whose words were mostly replaced are not found.",
    "Items whose question and answer carry too few bits cannot be told from chance; they are "
    "listed as unauditable, never counted as clean.",
    "Halves of an item in two documents are judged apart.",
    "The decoy rate is a lower bound: near-duplicates of stock phrases fool real items more often "
    "than decoys.",
)


def summary(audit: Audit) -> dict[str, Any]:
    """The content of audit.json."""
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
        "run": audit.history and {"plan_id": audit.history.plan_id, "steps": audit.history.steps},
        "totals": _totals(audit, audit.findings, sum(len(b.items) for b in audit.benchmarks)),
        "benchmarks": [_benchmark(audit, number) for number in range(len(audit.benchmarks))],
        "unauditable": audit.unauditable,
        "limits": list(LIMITS),
    }


def _benchmark(audit: Audit, number: int) -> dict[str, Any]:
    benchmark = audit.benchmarks[number]
    findings = [f for f in audit.findings if f.benchmark == benchmark.name]
    totals = _totals(audit, findings, len(benchmark.items))
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


def _totals(audit: Audit, findings: Sequence[Finding], items: int) -> dict[str, Any]:
    best = _best_classes(findings)
    dirty = [f for f in findings if f.dirty]
    totals: dict[str, Any] = {
        "items": items,
        "dirty_items": sum(class_ in DIRTY for class_ in best.values()),
        "dirty_documents": len({_document(f) for f in dirty}),
        "dirty_places": len(dirty),
        "items_by_class": {name: Counter(best.values())[name] for name in CLASSES},
    }
    if audit.history is not None:
        totals |= _exposure(dirty)
    return totals


def _best_classes(findings: Sequence[Finding]) -> dict[tuple[str, str], str]:
    """The strongest class of each item that was found."""
    classes = defaultdict(list)
    for finding in findings:
        classes[finding.benchmark, finding.item.id].append(finding.class_)
    return {item: min(found, key=CLASSES.index) for item, found in classes.items()}


def _document(finding: Finding) -> tuple[str, str, str]:
    return finding.document.source, finding.document.split, finding.document.doc_id


def _exposure(dirty: Sequence[Finding]) -> dict[str, Any]:
    seen = [(f, f.exposure) for f in dirty if f.exposure is not None]
    trained = {(f.benchmark, f.item.id) for f, e in seen if e.times + e.partial_times}
    steps = [e.first_step for _, e in seen if e.first_step is not None]
    present = {(f.benchmark, f.item.id) for f, _ in seen}
    return {
        "dirty_items_trained_on": len(trained),
        "dirty_items_never_trained_on": len(present - trained),
        "exposures": sum(e.times for _, e in seen),
        "partial_exposures": sum(e.partial_times for _, e in seen),
        "first_step": min(steps, default=None),
    }


_SPAN = pl.Struct({"start": pl.Int64, "end": pl.Int64})
_MATCH_SCHEMA: dict[str, Any] = {
    "benchmark": pl.String,
    "item_id": pl.String,
    "class": pl.String,
    "dirty": pl.Boolean,
    "rank": pl.Int32,
    "bits": pl.Float32,
    "passage_bits": pl.Float32,
    "question_coverage": pl.Float32,
    "answer_coverage": pl.Float32,
    "passage_coverage": pl.Float32,
    "choices_near": pl.Int32,
    "longest_run": pl.Int32,
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
        "class": finding.class_,
        "dirty": finding.dirty,
        "rank": finding.rank,
        "bits": finding.bits,
        "passage_bits": finding.passage_bits,
        "question_coverage": finding.question_coverage,
        "answer_coverage": finding.answer_coverage,
        "passage_coverage": finding.passage_coverage,
        "choices_near": evidence.choices_near,
        "longest_run": finding.run,
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


def recall(benchmarks: Sequence[dict[str, Any]], kind: str) -> float:
    """Recall of the self-test over some benchmarks of audit.json, planted in one way."""
    rows = [benchmark["self_test"][kind] for benchmark in benchmarks]
    found, planted = (sum(int(row[key]) for row in rows) for key in ("found", "planted"))
    return found / max(1, planted)


def markdown(facts: dict[str, Any]) -> str:
    """A paragraph and a table for a model card, from the content of audit.json."""
    lines = [_paragraph(facts), "", *_table(facts), ""]
    lines += ["Not covered:", "", *(f"- {limit}" for limit in facts["limits"])]
    return "\n".join(lines) + "\n"


def _paragraph(facts: dict[str, Any]) -> str:
    corpus, totals, sets = facts["corpus"], facts["totals"], facts["benchmarks"]
    too_short = sum(benchmark["unauditable_items"] for benchmark in sets)
    chance = sum(benchmark["decoy_places"] for benchmark in sets)
    text = (
        f"The data ({_count(corpus['documents'], 'document')}, {corpus['words']:,} words, "
        f"`{corpus['digest'][:12]}`) was compared with {_count(totals['items'], 'item')} of "
        f"{_count(len(sets), 'benchmark')}. Found as question, answer or near copy: "
        f"{_count(totals['dirty_items'], 'item')} ({percent(totals)}), in "
        f"{_count(totals['dirty_documents'], 'document')}. As many decoys as items were looked for "
        f"too and found in {_count(chance, 'place')}, so of the "
        f"{_count(totals['dirty_places'], 'place')} at least that many are chance. "
        f"Of items planted for a test, {recall(sets, 'verbatim'):.0%} were found verbatim and "
        f"{recall(sets, '1 word in 10 replaced'):.0%} with one word in ten replaced. "
        f"Too short to be audited: {_count(too_short, 'item')}."
    )
    if facts["run"]:
        text += (
            f" Up to step {facts['run']['steps']:,} the run trained on "
            f"{_count(totals['dirty_items_trained_on'], 'item')} of those found "
            f"({_count(totals['exposures'], 'exposure')}); present but never trained on: "
            f"{_count(totals['dirty_items_never_trained_on'], 'item')}."
        )
    return text


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def percent(totals: dict[str, Any]) -> str:
    """Share of the items that are dirty; a finding never rounds to nothing."""
    share = totals["dirty_items"] / max(1, totals["items"])
    return "<0.01%" if 0 < share < 0.0001 else f"{share:.2%}"


def _table(facts: dict[str, Any]) -> list[str]:
    run = facts["run"]
    head = ["benchmark", "items", "found", "share", *CLASSES, "documents", "too short", "decoys"]
    head += ["trained on", "exposures"] if run else []
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for benchmark in facts["benchmarks"]:
        row = [f"{benchmark['name']} ({benchmark['split']})", benchmark["items"]]
        row += [benchmark["dirty_items"], percent(benchmark)]
        row += [benchmark["items_by_class"][name] for name in CLASSES]
        row += [benchmark["dirty_documents"], benchmark["unauditable_items"]]
        row += [benchmark["decoy_places"]]
        row += [benchmark["dirty_items_trained_on"], benchmark["exposures"]] if run else []
        rows.append([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row])
    return ["| " + " | ".join(row) + " |" for row in rows]
