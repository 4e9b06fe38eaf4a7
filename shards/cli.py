"""`tally inspect`, `verify`, `ledger`, `trace`, `convert`: look inside, prove, exchange."""

import json
from pathlib import Path
from typing import Annotated, Literal, Optional

import typer

from configs.terminal import console, human, progress

app = typer.Typer(no_args_is_help=True, help="Look into datasets and the accounts of runs.")

DatasetPath = Annotated[Path, typer.Argument(help="A dataset directory written by `tally build`.")]
RunPath = Annotated[Path, typer.Argument(help="A run directory written by `tally train`.")]
Step = Annotated[Optional[int], typer.Option(help="Count the steps before this one.")]  # noqa: UP045
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def verify(dataset: DatasetPath) -> None:
    """Prove that a dataset is what its manifest says: every file, token and document.

    Leaves with exit code 1 and the list of problems if anything is wrong.
    """
    from shards.verify import require_sound, total_bytes, verify_dataset

    with progress("verify", total_bytes(dataset) / 1e6, "MB") as bar:
        report = verify_dataset(dataset, lambda size: bar.advance(size / 1e6))
    require_sound(report)
    console.print(
        f"sound: dataset {report.dataset_id}, {report.files} files, {human(report.bytes)} bytes, "
        f"{report.documents:,} documents, {report.tokens:,} tokens"
    )


@app.command()
def inspect(
    dataset: DatasetPath,
    source: Annotated[Optional[str], typer.Option(help="Only this source.")] = None,  # noqa: UP045
    sample: Annotated[int, typer.Option(help="Also print the first N documents.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Show what a dataset holds: sources, splits, tokens, licences, what was dropped and why."""
    from shards import views
    from shards.reader import Dataset

    opened = Dataset.open(dataset)
    if as_json:
        typer.echo(json.dumps(opened.manifest.model_dump(mode="json"), indent=1))
        return
    for table in views.dataset_tables(opened.manifest, source):
        console.print(table)
    for text in views.sample_documents(opened, source, sample):
        console.print(text, markup=False, highlight=False)


@app.command()
def ledger(
    run: RunPath,
    step: Step = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Recompute every step from the plan and compare.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="With --verify: read the tokens again as well.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Say which tokens a run was trained on, how often, and prove it.

    The table counts, for every source, the windows and targets read up to a step, how many of
    them for the first time, and the exact number of epochs. With --verify the digest that the
    ranks logged at every step, over what they really fed to the model, is compared with the plan.
    """
    from shards import accounts, views

    books = accounts.read_accounts(run, step)
    problems = list(accounts.verify_run(books, tokens)) if verify else []
    if as_json:
        typer.echo(json.dumps(accounts.as_json(books, problems if verify else None), indent=1))
    else:
        console.print(views.ledger_table(books))
    accounts.require_proved(books, problems)
    if verify and not as_json:
        what = "window and token" if tokens else "window"
        console.print(f"proved: the {what} digests of all {books.steps} steps equal the plan's")


@app.command()
def trace(
    run: RunPath,
    step: Annotated[Optional[int], typer.Option(help="Print the documents of this step.")] = None,  # noqa: UP045
    doc: Annotated[
        str | None, typer.Option(help="Print the steps that read this document.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """From a step to the documents it read (--step K), or from a document to its steps (--doc)."""
    from shards import accounts, tracing, views
    from shards.errors import DatasetError

    if (step is None) == (doc is None):
        raise DatasetError("give either --step K or --doc ID")
    books = accounts.read_accounts(run, None)
    if step is not None:
        passages = list(tracing.trace_step(books.plan, books.datasets, step))
        lines = "\n".join(views.passage_lines(passages))
        typer.echo(json.dumps([p._asdict() for p in passages], indent=1) if as_json else lines)
        return
    readings = tracing.trace_document(books.plan, books.datasets, str(doc), books.steps)
    if as_json:
        typer.echo(json.dumps([r._asdict() for r in readings], indent=1))
    else:
        console.print(views.readings_table(str(doc), readings))


@app.command()
def convert(
    src: Annotated[Path, typer.Argument(help="A dataset (--to), or files of a format (--from).")],
    dst: Annotated[Path, typer.Argument(help="The directory to make.")],
    to: Annotated[
        str | None, typer.Option(help="nanogpt, llmc, megatron, datatrove, olmo or parquet.")
    ] = None,
    from_: Annotated[str | None, typer.Option("--from", help="One of the same formats.")] = None,
    source: Annotated[
        str | None, typer.Option(help="--to: only this source. --from: name of the source.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="--to: only this split. --from: of files whose names say none."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option(help="--from: tokenizer.json, if not among the files.")
    ] = None,
    eos: Annotated[str | None, typer.Option(help="--from: the end-of-text token.")] = None,
    eos_at: Annotated[
        Literal["end", "start", "none"],
        typer.Option(help="--from: where in a document it stands; 'none' has one added."),
    ] = "end",
    dtype: Annotated[
        Optional[Literal["uint16", "uint32"]],  # noqa: UP045
        typer.Option(help="--from: of tokens in files without a header."),
    ] = None,
    licence: Annotated[str, typer.Option(help="--from: licence of the texts.")] = "unknown",
) -> None:
    """Turn a dataset into another format (--to), or files of that format into a dataset (--from).

    Token files are hard links to the shards where the format has the same bytes, so write to
    neither. docs/interchange.md says what each format keeps and loses.
    """
    from shards.convert import chosen_parts, export_bytes, export_dataset
    from shards.convert_import import Wanted, import_bytes, import_dataset
    from shards.errors import DatasetError
    from shards.reader import Dataset

    wanted = Wanted(source, split, tokenizer, eos, eos_at, dtype, licence)
    if to is not None and from_ is None:
        if wanted != Wanted(source, split):
            raise DatasetError("--to takes --source and --split; the other options are for --from")
        parts = chosen_parts(Dataset.open(src), source, split)
        with progress(f"convert to {to}", export_bytes(parts) / 1e6, "MB") as bar:
            output = export_dataset(parts, dst, to, lambda size: bar.advance(size / 1e6))
        notes, said = output.notes, output.summary()
    elif from_ is not None and to is None:
        with progress(f"convert from {from_}", import_bytes(src, from_) / 1e6, "MB") as bar:
            imported = import_dataset(src, dst, from_, wanted, lambda n: bar.advance(n / 1e6))
        notes, said = imported.notes, f"dataset {imported.manifest.dataset_id}"
    else:
        raise DatasetError("give either --to FORMAT or --from FORMAT")
    for note in notes:
        console.print(f"[yellow]note:[/] {note}")
    console.print(f"wrote {dst}: {said}")
