"""Samples of what a build dropped and edited, so that a person can judge its rules.

Of every rule the documents with the lowest content hashes are taken: a fair draw, and always the
same one.
"""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pyarrow.parquet as pq

from pipeline.dedup import DUPLICATES
from pipeline.documents import task_file
from pipeline.plan import Plan
from pipeline.revisions import CUT
from pipeline.tokenizing import edits_file

NUMBER = 10
"""Samples of a rule."""
EXTRACT = 300
"""Characters of a text that are shown."""
_COMPARED = 1000
_BEFORE_CHANGE = 80
_WORDS = re.compile(r"\s+|\S+")

Segment = tuple[str, str]
"""A piece of text, and what became of it: `del`, `ins` or nothing."""
Chosen = dict[tuple[str, str], list[dict[str, Any]]]
"""Stage and reason to rows: doc_id, content_hash, characters, task."""


class Shown(NamedTuple):
    """An extract of a text."""

    label: str
    segments: list[Segment]
    starts: bool
    """Whether it starts where the text does."""
    ends: bool


class Sample(NamedTuple):
    """A document that a rule dropped or edited."""

    doc_id: str
    where: str
    """Its address, or file and row where the id does not tell."""
    characters: int
    note: str
    texts: tuple[Shown, ...]
    """One, or two that are compared."""


class Work(NamedTuple):
    """Where a build keeps what became of the documents of a source."""

    encoded: Path
    ranks: range
    """The encoding tasks that hold the source."""
    filtered: Path
    """Folder of the filter stage, whose tasks are numbered from 0."""
    duplicates: Path
    all_kept: list[Path]
    """Files of the documents that the filters kept, of every source."""
    revised: dict[str, Path]
    """Folders of the stages that revised the texts after the filters, whose tasks are numbered as
    the encoding ones."""

    def texts(self, stage: str, folder: str, task: int, doc_ids: list[str]) -> pl.DataFrame:
        """Rows of documents in a file of the filter or a revising stage, in order."""
        path = task_file(self.filtered / folder, task)
        if stage in self.revised:
            path = task_file(self.revised[stage] / folder, self.ranks[task])
        return pl.scan_parquet(path).filter(pl.col("doc_id").is_in(doc_ids)).collect()


def works(plan: Plan) -> dict[str, Work]:
    """By source, where its texts are; empty where a stage's files are gone."""
    revised = plan.revising()
    stages = [*plan.filtered.stages.values(), plan.dedup, *revised.values(), plan.encode]
    if any(stage.facts() is None for stage in stages):
        return {}
    kept = plan.filtered.files()
    duplicates = plan.dedup.directory / DUPLICATES
    folders = {name: stage.directory for name, stage in revised.items()}
    return {
        name: Work(
            plan.encode.directory,
            plan.filtered.ranks_of(name),
            stage.directory,
            duplicates,
            kept,
            folders,
        )
        for name, stage in plan.filtered.stages.items()
    }


def dropped_samples(work: Work) -> dict[tuple[str, str], list[Sample]]:
    """By stage and reason, samples of the documents that did not get into the dataset."""
    files = [task_file(work.encoded, rank) for rank in work.ranks]
    chosen = _choose(files, pl.col("stage") != "pack")
    found = {key: list(_dropped(work, *key, rows)) for key, rows in chosen.items()}
    return {key: samples for key, samples in found.items() if samples}


def edited_samples(work: Work) -> dict[tuple[str, str], list[Sample]]:
    """By stage and rule, samples of the documents that it edited."""
    files = [edits_file(work.encoded, rank) for rank in work.ranks]
    chosen = _choose(files, pl.lit(True))
    return {rule: [_edited(work, *rule, row) for row in rows] for rule, rows in chosen.items()}


def _choose(files: Iterable[Path], condition: pl.Expr) -> Chosen:
    """The rows with the lowest content hashes, one a text; a row group is in memory at a time."""
    best = pl.DataFrame()
    for task, rows in _row_groups(
        files, ["stage", "reason", "content_hash", "doc_id", "characters"]
    ):
        both = pl.concat([best, rows.filter(condition).with_columns(task=pl.lit(task))])
        both = both.sort("content_hash", "doc_id").unique(
            ["stage", "reason", "content_hash"], keep="first", maintain_order=True
        )
        best = both.group_by("stage", "reason", maintain_order=True).head(NUMBER)
    out: Chosen = {}
    if best.is_empty():
        return out
    for row in best.sort("stage", "reason", "content_hash").to_dicts():
        out.setdefault((row["stage"], row["reason"]), []).append(row)
    return out


def _row_groups(files: Iterable[Path], columns: list[str]) -> Iterator[tuple[int, pl.DataFrame]]:
    for task, path in enumerate(files):
        with pq.ParquetFile(path) as file:
            for group in range(file.num_row_groups):
                yield task, pl.DataFrame(file.read_row_group(group, columns))


def _dropped(work: Work, stage: str, reason: str, rows: list[dict[str, Any]]) -> Iterator[Sample]:
    duplicate = stage == "dedup"
    copies = _copies(work, [row["doc_id"] for row in rows]) if duplicate else {}
    for row in rows:
        folder = "kept" if duplicate else "dropped"
        document = work.texts(stage, folder, row["task"], [row["doc_id"]]).row(0, named=True)
        copy = copies.get(row["doc_id"])
        texts: tuple[Shown, ...] = (_start(document["text"]),)
        note = ""
        if copy is not None:
            note = f"repeats {copy['keeper']} ({copy['keeper_source']}), {copy['jaccard']:.0%}"
            if copy["text"] is not None and copy["text"] != document["text"]:
                texts = changes("kept copy", copy["text"], "dropped", document["text"])
        yield _sample(document, note, texts)


def _copies(work: Work, doc_ids: list[str]) -> dict[str, dict[str, Any]]:
    """By id of a dropped document, the kept one it repeats, with its text if that is at hand."""
    repeated = (
        pl.scan_parquet(work.duplicates)
        .filter(pl.col("doc_id").is_in(doc_ids))
        .select("doc_id", "keeper", "keeper_source", "jaccard")
        .collect()
    )
    wanted = repeated["keeper"].unique().to_list()
    texts = (
        pl.scan_parquet(work.all_kept)
        .filter(pl.col("doc_id").is_in(wanted))
        .select(keeper="doc_id", text="text")
        .collect()
    )
    return {row["doc_id"]: row for row in repeated.join(texts, "keeper", "left").to_dicts()}


def _edited(work: Work, stage: str, edit: str, row: dict[str, Any]) -> Sample:
    ids = [row["doc_id"]]
    befores = work.texts(stage, "edited", row["task"], ids).to_dicts()
    last = CUT if stage in work.revised else "kept"
    after = work.texts(stage, last, row["task"], ids).row(0, named=True)
    place = [step["reason"] for step in befores].index(edit)
    before, after = [*befores, after][place : place + 2]
    return _sample(before, "", changes("before", before["text"], "after", after["text"]))


def _sample(document: dict[str, Any], note: str, texts: tuple[Shown, ...]) -> Sample:
    origin = f"{document['origin_file']}#{document['origin_row']}"
    where = document["url"] or ("" if document["doc_id"].endswith(origin) else origin)
    return Sample(document["doc_id"], where, document["characters"], note, texts)


def _start(text: str) -> Shown:
    text = text.lstrip()
    return Shown("", [(text[:EXTRACT], "")], True, len(text) <= EXTRACT)


def changes(left_label: str, left: str, right_label: str, right: str) -> tuple[Shown, Shown]:
    """Extracts of two versions of a text around their first difference.

    Args:
        left_label: what to call the older version.
        left: its text.
        right_label: what to call the newer version.
        right: its text.
    """
    pairs = enumerate(zip(left, right, strict=False))
    same = next((i for i, (a, b) in pairs if a != b), min(len(left), len(right)))
    start = max(0, same - _BEFORE_CHANGE)
    stop = start + _COMPARED
    whole = max(len(left), len(right)) <= stop
    old, new = _marked(left[start:stop], right[start:stop], whole)
    return (
        Shown(left_label, _cut(old), start == 0, len(left) <= start + EXTRACT),
        Shown(right_label, _cut(new), start == 0, len(right) <= start + EXTRACT),
    )


def _marked(left: str, right: str, whole: bool) -> tuple[list[Segment], list[Segment]]:
    """Both texts in pieces, by words; the end of what is only a part of a text tells nothing."""
    words = _WORDS.findall(left), _WORDS.findall(right)
    steps = difflib.SequenceMatcher(None, *words, autojunk=False).get_opcodes()
    old, new = [], []
    for number, (kind, a, b, c, d) in enumerate(steps):
        told = kind != "equal"
        trailing = number == len(steps) - 1 and not whole
        old.append(("".join(words[0][a:b]), "del" if told else ""))
        new.append(("".join(words[1][c:d]), "ins" if told and not trailing else ""))
    return old, new


def _cut(segments: list[Segment]) -> list[Segment]:
    """The first characters of the pieces."""
    out, left = [], EXTRACT
    for text, kind in segments:
        if text[:left]:
            out.append((text[:left], kind))
        left -= len(text[:left])
    return out
