"""The funnel: documents, characters and tokens in and out of every stage, drops by reason.

It is recounted from the files the stages wrote (datatrove's own statistics forget the tasks of an
interrupted run) and must balance, or there is no dataset.
"""

from collections.abc import Mapping
from typing import NamedTuple

import polars as pl

from pipeline.errors import BuildError
from shards.manifest import Dropped, FunnelStage, SplitFacts

STAGES = ("read", "filter", "dedup")
"""Stages that take documents out; a budget, where there is one, and `pack` follow."""


class Count(NamedTuple):
    """An amount of text."""

    documents: int
    characters: int
    tokens: int

    def __sub__(self, other: "Count") -> "Count":
        return Count(*(a - b for a, b in zip(self, other, strict=True)))


def count(rows: pl.DataFrame) -> Count:
    """Documents, characters and tokens of the rows."""
    return Count(len(rows), int(rows["characters"].sum()), int(rows["tokens"].sum()))


def funnel(
    rows: pl.DataFrame, over_budget: Mapping[str, Dropped] | None = None
) -> tuple[FunnelStage, ...]:
    """The stages of one source.

    Args:
        rows: every document that was read, with the `stage` it ended in, `reason` and `tokens`.
        over_budget: what the source's token budget left out; None where it has none.
    """
    stages, rest = [], rows
    for stage in STAGES:
        here = pl.col("stage") == stage
        ended, going = rest.filter(here), rest.filter(~here)
        stages.append(_stage(stage, count(rest), _by_reason(ended)))
        rest = going
    if over_budget is not None:
        stages.append(_stage("budget", count(rest), over_budget))
    last = stages[-1]
    left = Count(last.documents_out, last.characters_out, last.tokens_out or 0)
    return (*stages, _stage("pack", left, {}))


def _by_reason(rows: pl.DataFrame) -> dict[str, Dropped]:
    reasons = sorted(set(rows["reason"].to_list()))
    counts = {reason: count(rows.filter(pl.col("reason") == reason)) for reason in reasons}
    return {reason: Dropped(**amount._asdict()) for reason, amount in counts.items()}


def _stage(name: str, before: Count, dropped: Mapping[str, Dropped]) -> FunnelStage:
    after = before
    for lost in dropped.values():
        after -= Count(lost.documents, lost.characters, lost.tokens or 0)
    return FunnelStage(
        stage=name,
        documents_in=before.documents,
        characters_in=before.characters,
        tokens_in=before.tokens,
        documents_out=after.documents,
        characters_out=after.characters,
        tokens_out=after.tokens,
        dropped=dict(dropped),
    )


def check_balance(source: str, stages: tuple[FunnelStage, ...], read: tuple[int, int]) -> None:
    """Every stage passes on what it got less what it dropped; the first got what was read.

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
