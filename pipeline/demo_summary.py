"""The last table of `tally demo`: what happened, each figure read from the file that holds it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from rich.table import Table

from configs.terminal import counted
from pipeline.report import PAGE
from shards.accountant import total_unique
from shards.accounts import read_accounts
from shards.manifest import Manifest, load_manifest

Row = tuple[str, str]


def summary_table(out: Path, elapsed_s: float) -> Table:
    """What a finished demo did.

    Args:
        out: the demo's directory.
        elapsed_s: how long this run of it took.
    """
    table = Table(title="tally demo", title_justify="left", title_style="bold", show_header=False)
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for rows in (_data(out), _audits(out), _training(out), _results(out), _paths(out)):
        for name, text in rows:
            table.add_row(name, text)
        table.add_section()
    table.add_row("time", f"{elapsed_s // 60:.0f} min {elapsed_s % 60:.0f} s")
    return table


def _data(out: Path) -> Iterator[Row]:
    manifest = load_manifest(out / "dataset")
    stages = [facts.funnel for facts in manifest.sources.values()]
    documents = sum(funnel[0].documents_in for funnel in stages)
    yield "dataset", f"{manifest.dataset_id}, {counted(len(manifest.sources), 'source')}"
    kept = _split_sum(manifest, "train", "documents") + _split_sum(manifest, "val", "documents")
    yield "documents", f"{documents:,} read, {kept:,} kept after filters and deduplication"
    train, val = (_split_sum(manifest, split, "tokens") for split in ("train", "val"))
    yield "tokens", f"{train:,} to train on, {val:,} held out, {manifest.tokenizer.dtype}"


def _split_sum(manifest: Manifest, split: str, field: str) -> int:
    parts = [f.splits[split] for f in manifest.sources.values() if split in f.splits]
    return sum(getattr(part, field) for part in parts)


def _audits(out: Path) -> Iterator[Row]:
    totals = _json(out / "audit" / "audit.json")["totals"]
    found = f"{totals['dirty_items']:,} of {counted(totals['items'], 'benchmark item')} found"
    yield "audit", f"{found} in the data, in {counted(totals['dirty_documents'], 'document')}"
    planted = _json(out / "planted" / "planted.json")
    matches = pl.read_parquet(out / "audit_planted" / "matches.parquet")
    hit = matches.filter(
        (pl.col("item_id") == planted["item"]) & (pl.col("doc_id") == planted["doc_id"])
    )
    verdict = f"found, class '{hit['class'][0]}'" if len(hit) else "NOT FOUND"
    yield "planted item", f"{planted['benchmark']} {planted['item']}: {verdict}"


def _training(out: Path) -> Iterator[Row]:
    books = read_accounts(out / "run", None)
    tokens = sum(account.tokens for account in books.sources)
    epochs = ", ".join(f"{a.name} {float(a.epochs):.3f}" for a in books.sources)
    yield "trained on", f"{tokens:,} tokens in {books.steps} steps, two ranks, stopped and resumed"
    yield "of them unique", f"{total_unique(books.sources):,}; epochs: {epochs}"
    heldout = _json(out / "run" / "eval" / "heldout.json")["all"]
    losses = f"{heldout['loss']:.3f} nats a token; unigram entropy {heldout['unigram_entropy']:.3f}"
    yield "held-out loss", f"{losses}; {heldout['bits_per_byte']:.3f} bits per byte"


def _results(out: Path) -> Iterator[Row]:
    for result in map(_json, sorted((out / "run" / "eval").glob("*.json"))):
        if "metrics" not in result:
            continue  # held-out text and generations
        score = result["metrics"][result["headline"]]
        items = f"first {result['items']['scored']} of {result['items']['in_split']:,} items"
        chance = f"chance {result['chance']:.3f}"
        value = f"{score['value']:.3f} ± {score['stderr']:.3f}"
        yield result["task"], f"{result['headline']} {value} ({items}; {chance})"
    export = _json(out / "run" / "export" / "export.json")
    difference = f"{export['max_logit_difference']:.1e}"
    yield "export", f"{export['architecture']}, logits differ by at most {difference}"


def _paths(out: Path) -> Iterator[Row]:
    yield "dataset", str(out / "dataset")
    yield "  what the rules did", str(out / "dataset.work" / PAGE)
    yield "audit report", str(out / "audit" / "audit.html")
    yield "  with planted item", str(out / "audit_planted" / "audit.html")
    yield "run", str(out / "run")
    yield "model card", str(out / "run" / "card" / "card.html")


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
