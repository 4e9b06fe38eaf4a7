"""`tally audit`: which benchmark items are in a dataset or a text, and how often a run saw them."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from configs.choices import ExecutorKind, Sensitivity
from configs.outputs import output_option, require_place
from contamination.errors import AuditError

if TYPE_CHECKING:
    from contamination.corpus import Corpus
    from contamination.elsewhere import Elsewhere
    from contamination.exposure import RunHistory
    from contamination.items import Benchmark

app = typer.Typer(no_args_is_help=True, add_completion=False)
elsewhere: "Elsewhere | None" = None
"""Scans by an executor; set by `tally`, since executors are the build's."""


@app.callback()
def _group() -> None:
    """Does the training data hold the benchmarks?"""


@app.command()
def audit(
    data: Annotated[
        str,
        typer.Argument(
            metavar="DATA",
            help="A dataset (directory or s3://...), a folder, a .jsonl[.gz|.zst] or .parquet.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="executor.a=VALUE", help="As for a build: executor.slurm.partition=cpu."
        ),
    ] = None,
    *,
    benchmarks: Annotated[
        list[str],
        typer.Option(
            "--benchmarks",
            "-b",
            help="olmo:NAME, olmo:all, hub:NAME, lm-eval:TASK, samples:FILE, or "
            "NAME=FILE?question=COLUMN&answer=COLUMN. Repeatable.",
        ),
    ],
    output: Annotated[Path | None, output_option("Report folder; default DATA.audit.")] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Count how often this run trained on findings.")
    ] = None,
    step: Annotated[
        int | None, typer.Option("--step", help="Count steps before this one; default: all made.")
    ] = None,
    samples: Annotated[
        list[Path] | None,
        typer.Option(
            "--samples",
            help="Split these scores into clean and dirty items: RUN/eval, or lm-eval's samples. "
            "Repeatable.",
        ),
    ] = None,
    also: Annotated[
        str,
        typer.Option(
            "--also", help="Count by other papers' definitions too: gpt3,palm,llama2,llama3,gpt4."
        ),
    ] = "",
    hashes_only: Annotated[
        bool, typer.Option("--hashes-only", help="Quote no text in audit.html, only hashes.")
    ] = False,
    sensitivity: Annotated[
        Sensitivity, typer.Option(help="Fewer false findings, balanced, or fewer misses.")
    ] = "default",
    text_column: Annotated[str, typer.Option(help="The column of text files.")] = "text",
    workers: Annotated[
        int, typer.Option(min=1, help="Threads of the scan; the result does not depend on it.")
    ] = os.cpu_count() or 1,
    part: Annotated[
        str | None,
        typer.Option(
            "--part",
            metavar="K/N",
            help="Scan the K-th of N shares of the files or shards, and write no report. When all "
            "N are done, the command without --part finds them scanned (same TALLY_CACHE).",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done.")] = False,
    executor: Annotated[
        ExecutorKind, typer.Option(help="Where the scan runs; the rest is done here.")
    ] = "local",
) -> None:
    """Find benchmark items in training data, and write audit.html, .json, .md, matches.parquet."""
    from configs.audit import SENSITIVITIES
    from configs.executor import load_executor
    from configs.terminal import console
    from contamination.audit import run_audit, scan_only
    from contamination.benchmarks import load_benchmarks
    from contamination.classic import parse_names
    from contamination.corpus import WHOLE, Part, open_corpus
    from contamination.elsewhere import ScanJob
    from contamination.samples import load_samples
    from contamination.write import write_reports
    from shards.atomic import remove_leftovers
    from shards.cache import cache_directory
    from shards.lock import held
    from shards.remote import absolute, is_remote

    if step is not None and run is None:
        raise AuditError("--step counts the steps of a run; name it with --run RUN")
    chosen = load_executor(executor, overrides or [])
    if part and chosen.kind != "local":
        raise AuditError("--part is a share of a scan by hand; --executor shares it out by itself")
    definitions = parse_names(also)
    name = Path(data).name
    beside = Path() if is_remote(data) else Path(data).parent
    folder = output or beside / f"{name}.audit"
    if not part:
        require_place(folder)
    corpus = open_corpus(data, text_column, Part.parse(part) if part else WHOLE)
    with console.status("reading benchmarks (olmo: sets are fetched at first use, 86 MB)"):
        sets = load_benchmarks(benchmarks)
    history = None if part else _history(corpus, run, step)
    tasks = load_samples([] if part else samples or [], sets)
    if dry_run:
        _print_intent(corpus, sets, None if part else folder)
        return
    start, cache = time.perf_counter(), cache_directory() / "audit"
    if chosen.kind != "local":
        job = ScanJob(absolute(data), text_column, sets, definitions, cache)
        if elsewhere is None:
            raise AuditError("--executor is known to `tally audit` alone; use that")
        if definitions or job.unscanned(corpus):
            elsewhere(job, corpus, chosen)
    if part:
        scanned = scan_only(corpus, sets, cache / "scans", cache, workers, definitions)
        console.print(f"part {part}: {scanned.sentence()}")
        return
    what = f"{folder}: another audit is writing it"
    with held(folder / ".lock", what, "wait for it, or choose another with -o", AuditError):
        remove_leftovers(folder)
        rules = SENSITIVITIES[sensitivity]
        result = run_audit(
            corpus, sets, rules, cache / "scans", cache, workers, history, definitions
        )
        if not result.totals.documents:
            raise AuditError(f"{data}: no document in it, so nothing to audit; is the path right?")
        elapsed_s = time.perf_counter() - start
        facts, paths = write_reports(result, folder, name, elapsed_s, tasks, hashes_only)
    _print_table(facts)
    _print_scores(facts["scores"])
    _print_classic(facts)
    console.print(result.scanned.sentence())
    for path in paths:
        console.print(str(path))


def _print_intent(corpus: "Corpus", sets: "Sequence[Benchmark]", folder: Path | None) -> None:
    from configs.terminal import console, counted

    console.print(f"would compare {counted(len(corpus.pieces), f'{corpus.kind} piece')} with:")
    for benchmark in sets:
        console.print(
            f"  {benchmark.name} ({benchmark.split}): {counted(len(benchmark.items), 'item')}"
        )
    reports = f"{folder}/audit.html, audit.json, audit.md, matches.parquet"
    console.print(f"would write {reports}" if folder else "would write no report")


def _history(corpus: "Corpus", run: Path | None, step: int | None) -> "RunHistory | None":
    if run is None:
        return None
    from contamination.exposure import RunHistory

    if corpus.kind != "dataset":
        raise AuditError(
            f"--run {run}: a run trains on a dataset's tokens; audit the dataset, not text"
        )
    return RunHistory(run, step, corpus.digest)


def _print_scores(scores: list[dict[str, Any]]) -> None:
    from rich.table import Table

    from configs.terminal import console
    from contamination.score_tables import HEAD, main_rows

    if scores:
        table = Table(*HEAD, show_edge=False)
        for row in main_rows(scores, intervals=False):
            table.add_row(*row)
        console.print(table)


def _print_classic(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from configs.terminal import console
    from contamination.classic_tables import classic_head, classic_rows

    if facts["classic"]:
        table = Table(*classic_head(facts), show_edge=False)
        for row in classic_rows(facts):
            table.add_row(*row)
        console.print(table)


def _print_table(facts: dict[str, Any]) -> None:
    from rich.table import Table

    from configs.terminal import console, counted

    columns = ["benchmark", "items", "found", "documents", "shared source", "decoys", "too short"]
    columns += ["trained on", "exposures"] if facts["run"] else []
    table = Table(show_edge=False)
    for name in columns:
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for row in facts["benchmarks"]:
        cells = [row["items"], row["dirty_items"], row["dirty_documents"]]
        cells += [row["items_by_class"]["source"], row["decoy_places"], row["unauditable_items"]]
        cells += [row["dirty_items_trained_on"], row["exposures"]] if facts["run"] else []
        table.add_row(row["name"], *(f"{cell:,}" if cell else "·" for cell in cells))
    console.print(table)
    totals = facts["totals"]
    console.print(
        f"{totals['dirty_items']:,} of {counted(totals['items'], 'item')} found in "
        f"{totals['dirty_documents']:,} of {counted(facts['corpus']['documents'], 'document')}"
    )
