"""The stage that encodes every document.

Dropped documents and duplicates are encoded too, to be counted: the funnel is in tokens.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.build import SplitConfig, TokenizerConfig
from pipeline.bpe import DocumentEnds, document_ends
from pipeline.decisions import Decisions, Fate
from pipeline.documents import SCHEMA, UNREADABLE, task_file
from pipeline.encoders import BATCH_DOCUMENTS, Encoded, Encoder, encoder_of
from pipeline.funnel_sums import write_sums
from pipeline.reuse import FileByFile
from pipeline.revisions import BEFORE, DROPPED, Revisions, revision_files
from pipeline.roundtrip import Checked, round_trip_of, total
from pipeline.row_file import RowFile, row_file
from pipeline.task_report import tracked
from shards.atomic import atomic_write, write_json_atomic

_COLUMNS = ["doc_id", "characters", "bytes", "content_hash", "origin_file", "origin_row", "url"]
ROWS_SCHEMA = pa.schema(
    [
        *(SCHEMA.field(name) for name in _COLUMNS),
        ("stage", pa.string()),  # where the document ended, see `Fate`
        ("reason", pa.string()),
        ("tokens", pa.int64()),  # BOS and EOS included
    ]
)


class EncodeInput(NamedTuple):
    """What one task encodes: the kept and the dropped documents of one file, texts before edits."""

    source: str
    kept: Path
    dropped: Path
    edited: Path
    revised: Sequence[tuple[str, Path]] = ()
    """The stages that revised them, in order, and the folders of what each made of them."""


class EncodeDocuments(FileByFile):
    """Kept documents -> token ids in `<rank>.bin`; every document -> a row in `<rank>.parquet`.

    Every text before an edit -> a row in `edited/<rank>.parquet`, the edit's name as its reason.
    """

    type = "🔢 - TOKENIZER"
    name = "encode"

    def __init__(
        self,
        items: list[EncodeInput],
        duplicates: Path,
        tokenizer: Path,
        encoder: Path,
        split: SplitConfig,
        config: TokenizerConfig,
        folder: Path,
    ) -> None:
        super().__init__(folder, [split.model_dump(), config.eos_token, config.bos_token])
        self.items, self.duplicates, self.split = items, duplicates, split
        self.tokenizer, self.encoder, self.config = tokenizer, encoder, config

    def inputs(self, rank: int) -> list[Path | str]:
        """The documents, what was decided about them, and the tokenizer."""
        item, decided = self.items[rank], task_file(self.duplicates, rank)
        files = [item.kept, item.dropped, item.edited, decided, self.tokenizer]
        names = [self._encoder_name(), *(stage for stage, _ in item.revised)]
        return [*files, *names, *revision_files([folder for _, folder in item.revised], rank)]

    def outputs(self, rank: int) -> list[Path]:
        """What is described above, and what was counted."""
        files = (task_file, edits_file, tokens_file, _checked_file, sums_file)
        return [file(self.folder, rank) for file in files]

    def make(self, rank: int) -> None:
        """Encode the documents of input `rank`."""
        item = self.items[rank]
        ends = document_ends(self.tokenizer, self.config)
        encoder = encoder_of(self._encoder_name(), self.tokenizer)
        with (
            row_file(task_file(self.folder, rank), ROWS_SCHEMA) as rows,
            row_file(edits_file(self.folder, rank), ROWS_SCHEMA) as edits,
        ):
            checked = self._encode_kept(rank, encoder, ends, rows)
            for stage, dropped, before in _not_passed_on(item, rank):
                for file, path in ((rows, dropped), (edits, before)):
                    for table in _counted(stage, path, encoder, ends):
                        file.add(table)
        write_json_atomic(_checked_file(self.folder, rank), checked._asdict())
        files = task_file(self.folder, rank), edits_file(self.folder, rank)
        write_sums(sums_file(self.folder, rank), *files)

    def _encoder_name(self) -> str:
        name: str = json.loads(self.encoder.read_text(encoding="utf-8"))["name"]
        return name

    def _encode_kept(
        self, rank: int, encoder: Encoder, ends: DocumentEnds, rows: RowFile
    ) -> Checked:
        """Write the tokens of the kept documents; returns how many decoded to their texts."""
        item = self.items[rank]
        decisions = Decisions(task_file(self.duplicates, rank), self.split)
        revisions = Revisions([folder for _, folder in item.revised], rank)
        round_trip, checked = round_trip_of(self.tokenizer), Checked(0, 0)
        with atomic_write(tokens_file(self.folder, rank)) as out:
            for batch in map(revisions.apply, _batches(item.kept)):
                fates = decisions.fates(*(batch[k].to_pylist() for k in ("doc_id", "content_hash")))
                encoded = encoder.encode(batch["text"].to_pylist())
                checked = total([checked, round_trip.check(batch["text"], encoded)])
                rows.add(_rows(batch, fates, encoded, ends))
                goes_on = np.array([fate.stage == "pack" for fate in fates], np.bool_)
                out.write(ends.put_around(encoded, goes_on).data)
        return checked


def tokens_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes the tokens of its kept documents, one after the other."""
    return task_file(folder, rank).with_suffix(".bin")


def edits_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes a row for every text before an edit, in the order of the edits."""
    return task_file(folder / "edited", rank)


def sums_file(folder: Path, rank: int) -> Path:
    """Where task `rank` writes what the funnel needs to know of its documents."""
    return task_file(folder / "sums", rank).with_suffix(".json")


def _checked_file(folder: Path, rank: int) -> Path:
    return task_file(folder / "roundtrip", rank).with_suffix(".json")


def recount(num_tasks: int, folder: Path) -> dict[str, Any]:
    """How many documents were decoded again, and of how many the text did not come back."""
    files = (_checked_file(folder, rank) for rank in range(num_tasks))
    checked = total(Checked(**json.loads(file.read_text())) for file in files)
    return {"round_trip": checked._asdict()}


def _not_passed_on(item: EncodeInput, rank: int) -> Iterator[tuple[str, Path, Path]]:
    """Stages with the documents that they dropped and the texts before their edits."""
    yield "filter", item.dropped, item.edited
    for stage, folder in item.revised:
        yield stage, task_file(folder / DROPPED, rank), task_file(folder / BEFORE, rank)


def _counted(stage: str, path: Path, encoder: Encoder, ends: DocumentEnds) -> Iterator[pa.Table]:
    """Rows of texts that a stage did not pass on, encoded only to be counted."""
    for batch in _batches(path):
        encoded = encoder.encode(batch["text"].to_pylist())
        yield _rows(batch, _dropped_fates(batch, stage), encoded, ends)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    """Row group by row group: these are cut by their amount of text, batches by rows only."""
    columns = [*_COLUMNS, "text", "reason"]
    with pq.ParquetFile(path) as file:
        for group in tracked(range(file.num_row_groups), file.num_row_groups):
            yield from file.iter_batches(BATCH_DOCUMENTS, row_groups=[group], columns=columns)


def _dropped_fates(batch: pa.RecordBatch, stage: str) -> list[Fate]:
    reasons = batch["reason"].to_pylist()
    return [Fate("read" if reason in UNREADABLE else stage, reason) for reason in reasons]


def _rows(batch: pa.RecordBatch, fates: list[Fate], encoded: Encoded, ends: DocumentEnds) -> Any:
    """The batch without its text, with what became of every document: an Arrow table."""
    columns = [batch[name] for name in _COLUMNS]
    columns += [pa.array([fate[i] for fate in fates], pa.string()) for i in (0, 1)]
    columns.append(pa.array(np.diff(encoded.offsets) + ends.per_document))
    return pa.Table.from_arrays(columns, schema=ROWS_SCHEMA)
