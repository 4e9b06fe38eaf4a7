"""`tally inspect`, `verify`, `ledger`, `trace`, `convert`: look inside, prove, exchange."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Optional, TypeVar

import typer
from rich.markup import escape
from rich.text import Text

from configs.outputs import output_path, require_place
from configs.terminal import console, counted, human_bytes, progress

if TYPE_CHECKING:
    from shards.reader import Dataset
    from shards.text_search import TextSearch

T = TypeVar("T")

app = typer.Typer(no_args_is_help=True, help="Look into datasets and the accounts of runs.")

DatasetAddress = Annotated[
    str,
    typer.Argument(
        metavar="DATASET", help="A dataset of `tally build`: its directory, or s3://BUCKET/NAME."
    ),
]
RunPath = Annotated[
    Path, typer.Argument(metavar="RUN", help="A directory written by `tally train`.")
]
Step = Annotated[Optional[int], typer.Option(min=0, help="Count the steps before this one.")]  # noqa: UP045
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


@app.command()
def verify(dataset: DatasetAddress) -> None:
    """Prove that a dataset is what its manifest says: every file, token and document.

    Leaves with exit code 1 and the list of problems if anything is wrong. A dataset in remote
    storage is copied to the cache first; every file is checked when it arrives.
    """
    from shards.reader import Dataset
    from shards.remote import is_remote
    from shards.verify import require_sound, total_bytes, verify_dataset

    opened = Dataset.open(dataset)
    size = total_bytes(opened.path) / 1e6
    if is_remote(dataset):
        with progress("fetch", size, "MB") as bar:
            opened.files.fetch_all(lambda arrived: bar.advance(arrived / 1e6))
    with progress("verify", size, "MB") as bar:
        report = verify_dataset(opened.path, lambda done: bar.advance(done / 1e6))
    require_sound(report)
    console.print(
        f"sound: dataset {report.dataset_id}, {report.files} files, {human_bytes(report.bytes)}, "
        f"{counted(report.documents, 'document')}, {counted(report.tokens, 'token')}"
    )


@app.command()
def inspect(
    dataset: DatasetAddress,
    source: Annotated[Optional[str], typer.Option(help="Only this source.")] = None,  # noqa: UP045
    sample: Annotated[int, typer.Option(min=0, help="Print N documents drawn evenly.")] = 0,
    seed: Annotated[int, typer.Option(help="Of --sample.")] = 0,
    find: Annotated[str | None, typer.Option(help="Print where this text stands.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Of --find: the most places.")] = 20,
    doc: Annotated[str | None, typer.Option(help="Print the document of this id.")] = None,
    tokens: Annotated[
        str | None, typer.Option(help="Print these tokens: SOURCE[/SPLIT]:START-STOP.")
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Make the text index, for --find and `tally trace`.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what a dataset holds: sources, splits, tokens, licences, what was dropped and why.

    Or look at its text, as its tokens decode:

    - `tally inspect DATASET --sample 3 --source web`: three documents, the same for the same seed
    - `tally inspect DATASET --find "once upon a time"`: every place, with the text around
    - `tally inspect DATASET --doc ID`: a document by its id, or by that of a duplicate folded in
    - `tally inspect DATASET --tokens web/val:0-500`: a range of tokens

    `--index` writes 0.37 bytes a token to the cache, at about 60 million tokens a second and core.
    Afterwards --find, and `tally trace --text`, answer within a second for passages of some forty
    tokens and more; without it, and for shorter texts, all tokens are decoded and searched. With
    --json, texts are whole and as they are, control characters included.
    """
    from shards import look, views
    from shards.reader import Dataset
    from shards.text_search import TextSearch

    reads_text = index or sample or any(given is not None for given in (tokens, doc, find))
    opened = Dataset.open(dataset, check=bool(reads_text))  # what is shown is what was built
    chosen = look.streams(opened, source)
    if index:
        _make_text_index(opened)
    elif tokens is not None:
        parts = look.parts(opened, *look.token_range(opened, tokens))
        _show(parts, as_json, look.found_json, look.part_lines)
    elif doc is not None:
        found = [look.find_document(chosen, doc)]
        values = partial(look.document_json, opened)
        _show(found, as_json, values, partial(look.document_lines, opened, whole=True))
    elif find is not None:
        search = TextSearch(opened, find)
        with _searching([search], sum(s.num_tokens for s in chosen), as_json) as advance:
            every = (match for stream in chosen for match in search.matches(stream, advance))
            matches = list(islice(every, limit))
        _show(matches, as_json, look.found_json, partial(look.match_lines, opened))
        at_most = " (--limit)" if len(matches) == limit else ""
        if not as_json:
            console.print(f"{counted(len(matches), 'place')}{at_most}")
    elif sample:
        drawn = look.sample(chosen, sample, seed)
        values = partial(look.document_json, opened)
        _show(drawn, as_json, values, partial(look.document_lines, opened, whole=False))
    elif as_json:
        typer.echo(json.dumps(opened.manifest.model_dump(mode="json"), indent=1))
    else:
        for table in views.dataset_tables(opened.manifest, source):
            console.print(table)


def _show(
    found: Iterable[T],
    as_json: bool,
    values: Callable[[T], dict[str, Any]],
    lines: Callable[[T], Iterable[str]],
) -> None:
    """Print what was found, as JSON or in lines."""
    if as_json:
        typer.echo(json.dumps([values(one) for one in found], indent=1))
        return
    for one in found:
        _print(lines(one))


def _print(lines: Iterable[str]) -> None:
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _make_text_index(dataset: "Dataset") -> None:
    from shards.text_index import TextIndex

    made = TextIndex(dataset)
    total = sum(stream.facts.shards[number].tokens for stream, number in made.missing())
    with progress("index", total / 1e6, "M tokens") as bar:
        made.build(lambda count: bar.advance(count / 1e6))
    console.print(f"wrote {made.directory}: {human_bytes(made.num_bytes())}; may be deleted")


@contextmanager
def _searching(
    searches: "Sequence[TextSearch]", num_tokens: int, quiet: bool
) -> Iterator[Callable[[float], None]]:
    """Show progress, and say why, where a search reads all tokens; yields what to call with them.

    Args:
        searches: what is going to be done.
        num_tokens: all of them together have to read.
        quiet: show nothing.
    """
    reasons = dict.fromkeys(search.why_slow for search in searches if search.why_slow)
    if not reasons or quiet:
        yield lambda _: None
        return
    for reason in reasons:
        console.print(f"[yellow]note:[/] {escape(reason)}", soft_wrap=True)
    with progress("search", num_tokens / 1e6, "M tokens") as bar:
        yield lambda count: bar.advance(count / 1e6)


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
    step: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(min=0, help="Print the documents of this step."),
    ] = None,
    doc: Annotated[str | None, typer.Option(help="Print the steps that read this id.")] = None,
    text: Annotated[str | None, typer.Option(help="Print the steps that read this text.")] = None,
    until: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="With --doc, --text: only steps before this one, as a checkpoint's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """From a step to the documents it read, or from a document or a text to the steps that read it.

    - `tally trace RUN --step 3`: id, origin and beginning of every document in the batch
    - `tally trace RUN --doc ID --until 2000`: what the checkpoint of step 2,000 had seen of it
    - `tally trace RUN --text "a passage of some forty tokens"`: its places, and when they were read

    A text is found as it stands, in every document that has it. Without a text index
    (`tally inspect DATASET --index`), or if it is shorter, all tokens are searched.
    """
    from shards import look, tracing
    from shards.errors import DatasetError
    from shards.ledger import count_steps
    from shards.plan_file import load_plan
    from shards.reader import Dataset
    from shards.text_search import TextSearch

    if sum(given is not None for given in (step, doc, text)) != 1:
        raise DatasetError("give one of --step K, --doc ID, --text TEXT")
    plan, addresses = load_plan(run / "plan.json")
    check = text is not None  # a step's tokens are compared with the ledger instead
    datasets = {name: Dataset.open(address, check=check) for name, address in addresses.items()}
    if step is not None:
        if not tracing.check_step(run, plan, datasets, step) and not as_json:
            console.print(f"[yellow]note:[/] step {step} is planned, not trained on yet")
        passages = tracing.trace_step(plan, datasets, step, None if as_json else look.LINE_TOKENS)
        if as_json:
            typer.echo(json.dumps([passage._asdict() for passage in passages], indent=1))
        else:
            typer.echo("\n".join(look.passage_lines(passages)))
        return
    done = count_steps(run)
    until = done if until is None else until
    if not 0 <= until <= done:
        raise DatasetError(f"{run}: --until {until}, the ledger has {done} steps")
    if text is None:
        subjects = tracing.find_document(plan, datasets, str(doc))
    else:
        searches = {name: TextSearch(dataset, text) for name, dataset in datasets.items()}
        num_tokens = sum(source.tokens for source in plan.sources)
        with _searching(list(searches.values()), num_tokens, as_json) as advance:
            subjects = tracing.find_text(plan, searches, advance)
    readings = tracing.readings(plan, subjects, until)
    if as_json:
        typer.echo(json.dumps([reading._asdict() for reading in readings], indent=1))
        return
    for part in look.readings_table(subjects, readings, until):
        console.print(part, soft_wrap=isinstance(part, Text))


@app.command()
def convert(
    src: Annotated[
        str,
        typer.Argument(metavar="IN", help="A dataset (--to), or files of a format (--from)."),
    ],
    dst: Annotated[
        Path,
        typer.Argument(metavar="OUT", parser=output_path, help="The directory to make."),
    ],
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

    require_place(dst)
    wanted = Wanted(source, split, tokenizer, eos, eos_at, dtype, licence)
    if to is not None and from_ is None:
        if wanted != Wanted(source, split):
            raise DatasetError("--to takes --source and --split; the other options are for --from")
        parts = chosen_parts(Dataset.open(src, check=True), source, split)
        with progress(f"convert to {to}", export_bytes(parts) / 1e6, "MB") as bar:
            output = export_dataset(parts, dst, to, lambda size: bar.advance(size / 1e6))
        notes, said = output.notes, output.summary()
    elif from_ is not None and to is None:
        with progress(f"convert from {from_}", import_bytes(Path(src), from_) / 1e6, "MB") as bar:
            imported = import_dataset(Path(src), dst, from_, wanted, lambda n: bar.advance(n / 1e6))
        notes, said = imported.notes, f"dataset {imported.manifest.dataset_id}"
    else:
        raise DatasetError("give either --to FORMAT or --from FORMAT")
    for note in notes:
        console.print(f"[yellow]note:[/] {note}")
    console.print(f"wrote {dst}: {said}")
