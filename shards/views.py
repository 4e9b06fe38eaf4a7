"""Tables for the terminal: what a dataset holds, what a run read."""

from collections.abc import Iterator, Mapping

from rich.console import Group
from rich.table import Table
from rich.text import Text

from shards.accountant import total_unique
from shards.accounts import Accounts
from shards.duplicates_view import duplicates_tables
from shards.manifest import Edited, FunnelStage, Manifest, RoundTripFacts


def dataset_tables(manifest: Manifest, source: str | None) -> Iterator[Group]:
    """What is in the dataset, and the funnel of every source, or of one."""
    yield _sources_table(manifest)
    shown = {n: facts for n, facts in manifest.sources.items() if source in (None, n)}
    yield funnel_table({name: facts.funnel for name, facts in shown.items() if facts.funnel})
    if source is None:
        yield from duplicates_tables(manifest.dedup)


def _round_trip(facts: RoundTripFacts | None) -> str:
    """Whether tokens decode to the texts, in a line of its own."""
    if facts is None:
        return ""
    if facts.why_not is None:
        return f"\nevery text comes back from its tokens ({facts.documents:,} checked)"
    lost = f"{facts.failed:,} of {facts.documents:,} checked did not"
    return f"\na text may not come back from its tokens: {facts.why_not}; {lost}"


def _sources_table(manifest: Manifest) -> Group:
    tokenizer = manifest.tokenizer
    title = (
        f"{manifest.name}: dataset {manifest.dataset_id}\n"
        f"{tokenizer.vocab_size:,} entries, {tokenizer.dtype}, encoded by {tokenizer.encoder}"
        f"{_round_trip(tokenizer.round_trip)}"
    )
    table = _table(["source", "split", "licence"], ["documents", "characters", "tokens"])
    for name, facts in manifest.sources.items():
        for split, has in facts.splits.items():
            numbers = (f"{n:,}" for n in (has.documents, has.characters, has.tokens))
            table.add_row(name, split, facts.licence, *numbers)
    return _titled(title, table)


def funnel_table(funnels: Mapping[str, tuple[FunnelStage, ...]]) -> Group:
    """What went into every source, what each rule dropped, what is left."""
    table = _table(["source", "stage"], ["documents", "characters", "tokens"])
    for name, stages in funnels.items():
        first, last = stages[0], stages[-1]
        into = (first.documents_in, first.characters_in, first.tokens_in)
        table.add_row(name, "read", *map(_count, into))
        for stage in stages:
            for reason, gone in sorted(stage.dropped.items()):
                numbers = (gone.documents, gone.characters, gone.tokens)
                table.add_row("", f"  {stage.stage}: {reason}", *map(_less, numbers))
            for rule, edit in sorted(stage.edited.items()):
                table.add_row("", f"  {stage.stage}: edited by {rule}", *_edit_cells(edit))
        left = (last.documents_out, last.characters_out, last.tokens_out)
        table.add_row("", "kept", *map(_count, left), style="bold", end_section=True)
    return _titled("What became of the text", table)


def _edit_cells(edit: Edited) -> tuple[str, str, str]:
    """Documents touched, in brackets since they stay; what characters and tokens changed by."""
    characters = edit.characters_added - edit.characters_removed
    tokens = edit.tokens_added - edit.tokens_removed
    return f"({edit.documents:,})", f"{characters:+,}", f"{tokens:+,}"


def ledger_table(books: Accounts) -> Group:
    """Windows, tokens, unique tokens and epochs of every source up to the last step counted."""
    title = f"{books.run}: what {books.steps:,} of {books.plan.num_steps:,} steps were trained on"
    columns = ["windows", "tokens", "unique tokens", "epochs", "available", "tail never read"]
    table = _table(["source"], columns)
    for account in books.sources:
        counts = (account.windows, account.tokens, account.unique_tokens)
        rest = (f"{account.available_tokens:,}", f"{account.tail_tokens:,}")
        epochs = f"{float(account.epochs):.4f}"
        table.add_row(account.name, *(f"{n:,}" for n in counts), epochs, *rest)
    tokens = sum(account.tokens for account in books.sources)
    windows = sum(account.windows for account in books.sources)
    unique = total_unique(books.sources)
    passes = f"{tokens / unique:.4f}" if unique else "0"
    table.add_section()
    table.add_row("all", f"{windows:,}", f"{tokens:,}", f"{unique:,}", passes, "", "")
    copies = sum(account.duplicate_tokens for account in books.sources)
    if copies:
        title += f"\n{copies:,} tokens not unique: their texts were read before in other documents"
    if books.plan.masks_targets:
        why = "begin a document" if books.plan.document_mask else ""
        why += " or " if why and any(source.masked for source in books.plan.sources) else ""
        why += "are masked" if any(source.masked for source in books.plan.sources) else ""
        title += f"\n{books.masked_targets:,} of the tokens {why}: not in the loss"
    return _titled(title, table)


def _titled(title: str, table: Table) -> Group:
    """A table below its title; rich's own titles are folded to the table's width."""
    return Group(Text(title, style="bold"), table)


def _table(texts: list[str], numbers: list[str]) -> Table:
    table = Table()
    for name in texts:
        table.add_column(name, overflow="fold")
    for name in numbers:
        table.add_column(name, justify="right")
    return table


def _count(number: int | None) -> str:
    return "" if number is None else f"{number:,}"


def _less(number: int | None) -> str:
    return f"-{number:,}" if number else _count(number)
