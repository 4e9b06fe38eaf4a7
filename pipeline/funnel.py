"""The funnel: documents, characters and tokens in and out of every stage, drops by reason.

It is counted from the files the stages wrote (datatrove's own statistics forget the tasks of an
interrupted run) and must balance, or there is no dataset. Text that a rule edits is counted before
and after, so a stage balances to the character and the token there too.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import polars as pl

from pipeline.errors import BuildError
from pipeline.funnel_sums import EDITING, SIZES, Sums
from shards.manifest import Dropped, Edited, FunnelStage, SplitFacts

STAGES = ("read", "filter", "dedup")
"""Stages that take documents out; where there are such, `passages`, `decontaminate` and a budget
follow, and always `pack`."""


class Count(NamedTuple):
    """An amount of text."""

    documents: int
    characters: int
    tokens: int

    def __sub__(self, other: "Count") -> "Count":
        return Count(*(a - b for a, b in zip(self, other, strict=True)))


def funnel(
    sums: Sums,
    over_budget: Mapping[str, Dropped] | None = None,
    revising: Sequence[str] = (),
) -> tuple[FunnelStage, ...]:
    """The stages of one source.

    Args:
        sums: what became of its documents.
        over_budget: what the source's token budget left out; None where it has none.
        revising: of `REVISING`, the stages that the build has.
    """
    rest, edits = sums
    stages, sizes = [], [*(f"_{name}" for name in EDITING), ""]
    for name in (*STAGES, *revising):
        before = _count(rest, sizes[0])
        if name in EDITING:
            sizes = sizes[EDITING.index(name) - len(EDITING) :]
        edited, size = _by_edit(edits.filter(pl.col("stage") == name)), sizes[0]
        ended = rest.filter(pl.col("stage") == name)
        rest = rest.filter(pl.col("stage") != name)
        # A dropped document is kept as it came, so its sizes are the same.
        stages.append(_stage(name, before, _count(rest, size), _by_reason(ended), edited))
    last = _count(rest)
    if over_budget is not None:
        before, last = last, last - _sum(over_budget.values())
        stages.append(_stage("budget", before, last, over_budget, {}))
    return (*stages, _stage("pack", last, last, {}, {}))


def _count(ends: pl.DataFrame, size: str = "") -> Count:
    columns = ("documents", *(f"{name}{size}" for name in SIZES))
    return Count(*(int(ends[column].sum()) for column in columns))


def _by_reason(ends: pl.DataFrame) -> dict[str, Dropped]:
    found = ends.group_by("reason").agg(pl.col("documents", *SIZES).sum()).sort("reason")
    return {row.pop("reason"): Dropped(**row) for row in found.to_dicts()}


def _by_edit(edits: pl.DataFrame) -> dict[str, Edited]:
    found = edits.drop("stage").group_by("reason").agg(pl.all().sum()).sort("reason")
    return {row.pop("reason"): Edited(**row) for row in found.to_dicts()}


def net_loss(edited: Edited) -> Count:
    """What a stage has less of by an edit, which takes no documents."""
    characters = edited.characters_removed - edited.characters_added
    return Count(0, characters, edited.tokens_removed - edited.tokens_added)


def _sum(dropped: Iterable[Dropped]) -> Count:
    amounts = [(d.documents, d.characters, d.tokens or 0) for d in dropped]
    return Count(*map(sum, zip((0, 0, 0), *amounts, strict=True)))


def _stage(
    name: str,
    before: Count,
    after: Count,
    dropped: Mapping[str, Dropped],
    edited: Mapping[str, Edited],
) -> FunnelStage:
    return FunnelStage(
        stage=name,
        documents_in=before.documents,
        characters_in=before.characters,
        tokens_in=before.tokens,
        documents_out=after.documents,
        characters_out=after.characters,
        tokens_out=after.tokens,
        dropped=dict(dropped),
        edited=dict(edited),
    )


def check_balance(source: str, stages: tuple[FunnelStage, ...], read: tuple[int, int]) -> None:
    """Every stage passes on what it got less what it dropped and edited out; the first, all.

    Args:
        source: name for the message.
        stages: the funnel.
        read: documents and characters that the extraction wrote, counted from its files.

    Raises:
        BuildError: something does not add up.
    """
    expected: tuple[int, ...] = read
    for stage in stages:
        got = (stage.documents_in, stage.characters_in, stage.tokens_in or 0)
        if got[: len(expected)] != expected:
            raise _unbalanced(source, f"stage '{stage.stage}' got {got}, not {expected}")
        lost = [(d.documents, d.characters, d.tokens or 0) for d in stage.dropped.values()]
        lost += map(net_loss, stage.edited.values())
        out = (stage.documents_out, stage.characters_out, stage.tokens_out or 0)
        if tuple(map(sum, zip(out, *lost, strict=True))) != got:
            raise _unbalanced(source, f"stage '{stage.stage}' got {got}, kept {out}, lost {lost}")
        expected = out


def check_splits(
    source: str, stages: tuple[FunnelStage, ...], splits: Mapping[str, SplitFacts]
) -> None:
    """What the last stage passed on is what the shards hold, to the token.

    Raises:
        BuildError: it is not, or the source has no training text left.
    """
    last = stages[-1]
    if "train" not in splits:
        raise BuildError(
            f"source '{source}': of {stages[0].documents_in} documents none is left for training; "
            f"{_drops(stages)}. Choose another `profile`, or take the source out"
        )
    packed = tuple(
        sum(getattr(facts, name) for facts in splits.values())
        for name in ("documents", "characters", "tokens")
    )
    if packed != (last.documents_out, last.characters_out, last.tokens_out):
        raise _unbalanced(source, f"shards hold {packed}, the funnel ends with {last}")


def _drops(stages: tuple[FunnelStage, ...]) -> str:
    pairs = [(reason, d.documents) for stage in stages for reason, d in stage.dropped.items()]
    return "dropped: " + (", ".join(f"{reason} {n}" for reason, n in pairs) or "none")


def _unbalanced(source: str, what: str) -> BuildError:
    return BuildError(
        f"source '{source}': the ledger does not balance: {what} (documents, characters, tokens). "
        "A file of the work directory is damaged or was changed: delete it and build again"
    )
