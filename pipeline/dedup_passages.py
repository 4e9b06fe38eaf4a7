"""Passages that stand in several documents are cut out of all but one (`dedup.passages`).

After whole documents, in four stages: `units` (spans of lines, paragraphs or sentences,
dedup_units.py), `repeats` and `keepers` (which stand in several documents and who keeps them,
dedup_repeats.py), and here `passages`, the cut. Texts are rewritten only where something is cut, in
files beside those of the filters (see `pipeline.revisions`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.cleaning import DedupConfig
from pipeline.dedup_candidates import pair_runs
from pipeline.dedup_files import EXTRA_KEYS, Corpus, DedupInput, slice_of
from pipeline.dedup_repeats import WHOLE, decided
from pipeline.dedup_units import Units, text_bytes, units_of
from pipeline.documents import DocumentFile, document, task_file
from pipeline.revisions import BEFORE, CUT, DROPPED
from pipeline.task_report import tracked

REASON = "repeated_passages"
"""In the funnel: what is edited, and documents that would be left too short."""
_BATCH_ROWS = 1000


class CutPassages(PipelineStep):
    """The cuts of one file -> the shortened and the dropped documents, in files of their own.

    Args:
        inputs: files of documents, the held ones last.
        config: the section `dedup`.
        keepers: the folder of what `DecidePassages` wrote.
        folder: where to write.
    """

    type = "🫂 - DEDUP"
    name = "passages"

    def __init__(
        self, inputs: Sequence[DedupInput], config: DedupConfig, keepers: Path, folder: Path
    ) -> None:
        super().__init__()
        assert config.passages is not None
        self.inputs, self.kinds, self.config = inputs, config.bands + EXTRA_KEYS, config.passages
        self.keepers, self.folder = keepers, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Cut the documents of file `rank`; yields nothing."""
        cut, dropped, before = (
            task_file(self.folder / name, rank) for name in (CUT, DROPPED, BEFORE)
        )
        with DocumentFile(cut) as cuts, DocumentFile(dropped) as drops, DocumentFile(before) as old:
            for row, text in self._revised(rank):
                if text is None:
                    drops.add(_document(row, row["text"]), REASON)
                else:
                    old.add(_document(row, row["text"]), REASON)
                    cuts.add(_document(row, text))
        yield from ()

    def _revised(self, rank: int) -> Iterator[tuple[dict[str, Any], str | None]]:
        """The rows of documents with repeated passages, and their texts without; None drops."""
        wanted = self._cuts(rank)
        first = 0
        with pq.ParquetFile(self.inputs[rank].documents) as file:
            batches = file.iter_batches(_BATCH_ROWS)
            for batch in tracked(batches, file.metadata.num_rows, lambda b: b.num_rows):
                rows = [row for row in range(batch.num_rows) if first + row in wanted]
                chosen = batch.take(pa.array(rows, pa.int64()))
                units = units_of(chosen["text"], self.config.unit)
                data, _ = text_bytes(chosen["text"])
                for number, row in enumerate(chosen.to_pylist()):
                    cut = wanted[first + rows[number]]
                    yield row, _without(data, units, number, cut, self.config.span)
                first += batch.num_rows

    def _cuts(self, rank: int) -> dict[int, list[int]]:
        """By row of the file, the first units of the spans to cut."""
        base, stop = Corpus(self.inputs, self.kinds).bases[rank : rank + 2].tolist()
        found: dict[int, list[int]] = {}
        for codes in pair_runs(self.keepers, 1):
            here = codes[slice(*slice_of(codes, base << 32, stop << 32))]
            rows = (here >> np.uint64(32)).astype(np.int64) - base
            units = (here & np.uint64(WHOLE)).astype(np.int64)
            for row, unit in zip(rows.tolist(), units.tolist(), strict=True):
                found.setdefault(row, []).append(unit)
        return found


def _without(data: Any, units: Units, number: int, cut: list[int], span: int) -> str | None:
    """The text of one of the documents without some spans; None where it is dropped."""
    if int(WHOLE) in cut:
        return None
    first, stop = units.offsets[number : number + 2].tolist()
    gone = {first + unit + more for unit in cut for more in range(span)}
    starts = units.starts
    parts = [bytes(data[starts[u] : starts[u + 1]]) for u in range(first, stop) if u not in gone]
    return b"".join(parts).decode("utf-8").strip()


def _document(row: dict[str, Any], text: str) -> Document:
    names = ("origin_file", "origin_row", "url")
    return document(row["doc_id"], text, *(row[name] for name in names))


def recount(keepers: Path, num_tasks: int, directory: Path) -> dict[str, Any]:
    """What was decided, and how many documents were cut and dropped, from the finished files.

    Args:
        keepers: directory of the stage that decided.
        num_tasks: of the stage.
        directory: of the stage.
    """
    rows = {
        name: sum(
            pq.read_metadata(task_file(directory / name, rank)).num_rows
            for rank in range(num_tasks)
        )
        for name in (CUT, DROPPED)
    }
    return decided(keepers) | {"documents_cut": rows[CUT], "documents_dropped": rows[DROPPED]}
