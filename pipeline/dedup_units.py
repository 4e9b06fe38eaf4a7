"""Texts cut into lines, paragraphs or sentences, and the hashes of spans of them.

The first stage of looking for passages that stand in several documents (`dedup.passages`). A span
is compared by its words alone (contamination/words.py), so case, punctuation and white space do not
matter; numbers do.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numba import njit
from numpy.typing import NDArray

from configs.cleaning import DedupConfig, PassagesConfig
from contamination.words import hash_words
from pipeline.dedup_files import EXTRA_KEYS, Corpus, DedupInput, Ints, Keys, map_array, map_file
from pipeline.dedup_order import PLACES
from pipeline.documents import task_file
from pipeline.sentences import SentenceEnds
from pipeline.task_report import tracked
from shards.atomic import atomic_write

SPAN = np.dtype(
    [("place", "<u4"), ("unit", "<u4"), ("start", "<u4"), ("end", "<u4"), ("words", "<u4")]
)
"""A span: its document's place, its first unit, words before it and up to its end, and the words
of the whole document."""
_LEAST_NEWLINES = {"line": 1, "paragraph": 2}
_BATCH_ROWS, _BYTES_A_SPAN = 4096, 100
_MULTIPLIER, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


class Units(NamedTuple):
    """Texts in pieces that lie one behind the other; those without words belong to the one before.

    Attributes:
        starts: int64 [num_units + 1], the first byte of every unit, and the end of the last.
        offsets: int64 [num_documents + 1]; document d has units [o[d], o[d + 1]).
        hash: uint64 [num_units], of their words.
        words: int64 [num_units], how many.
    """

    starts: Ints
    offsets: Ints
    hash: Keys
    words: Ints


def text_bytes(texts: pa.LargeStringArray) -> tuple[NDArray[np.uint8], Ints]:
    """The bytes of texts without nulls, and where each begins and the last ends: no copy."""
    _, offsets, data = texts.buffers()
    ends = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return np.frombuffer(data, np.uint8) if data is not None else np.zeros(0, np.uint8), ends


def units_of(texts: pa.LargeStringArray, unit: str) -> Units:
    """Cut texts without nulls into units."""
    data, ends = text_bytes(texts)
    if unit == "sentence":
        cuts = _sentence_cuts(texts, ends)
    else:
        cuts = _line_cuts(data, ends, _LEAST_NEWLINES[unit])
    starts = np.unique(np.concatenate([ends, cuts]))
    words = np.diff(hash_words(data, starts, keep_single_letters=True).document_offsets)
    worded = np.r_[words > 0, True] | np.isin(starts, ends)
    starts = starts[worded]
    found = hash_words(data, starts, keep_single_letters=True)
    hashes = _folded(found.hash, found.document_offsets)
    offsets = np.searchsorted(starts, ends)
    return Units(starts, offsets, hashes, np.diff(found.document_offsets))


def _sentence_cuts(texts: pa.LargeStringArray, ends: Ints) -> Ints:
    """Behind every sentence: white space belongs to the next one."""
    sentences, cuts = SentenceEnds(), [np.zeros(0, np.int64)]
    for text, first in zip(texts.to_pylist(), ends.tolist(), strict=False):
        cuts.append(sentences.of(text) + first)
    sentences.keep()
    return np.concatenate(cuts)


@njit(nogil=True, cache=True)
def _line_cuts(data, ends, least):  # type: ignore[no-untyped-def]
    """Before every line that at least `least` ends of lines separate from what stood before."""
    out, count = np.empty(np.count_nonzero(data[ends[0] : ends[-1]] == 10), np.int64), 0
    for document in range(len(ends) - 1):
        newlines, line = 0, ends[document]
        for i in range(ends[document], ends[document + 1]):
            if data[i] == 10:
                newlines, line = newlines + 1, i + 1
            elif data[i] != 32 and data[i] != 9 and data[i] != 13:
                if newlines >= least:
                    out[count] = line
                    count += 1
                newlines = 0
    return out[:count]


@njit(nogil=True, cache=True)
def _folded(values, offsets):  # type: ignore[no-untyped-def]
    """One hash for every row of hashes: uint64 [num_rows]."""
    out = np.empty(len(offsets) - 1, np.uint64)
    for row in range(len(out)):
        value = np.uint64(offsets[row + 1] - offsets[row])
        for i in range(offsets[row], offsets[row + 1]):
            value = (value ^ values[i]) * _MULTIPLIER
            value ^= value >> np.uint64(32)
        value *= _MIX
        out[row] = value ^ (value >> np.uint64(29))
    return out


def spans_of(
    units: Units, config: PassagesConfig, places: NDArray[np.uint32]
) -> tuple[Keys, NDArray[np.void]]:
    """The spans that are long enough, in order: their hashes, and `SPAN` records.

    Args:
        units: of some documents.
        config: how many units are a span, and its least words.
        places: uint32 [num_documents].
    """
    before = np.r_[0, np.cumsum(units.words)]
    document = np.repeat(np.arange(len(places)), np.diff(units.offsets))
    first = np.arange(len(document))
    last = np.minimum(first + config.span, units.offsets[document + 1])
    whole = first + config.span == last
    whole &= before[last] - before[first] >= config.min_words
    first, last, document = first[whole], last[whole], document[whole]
    hashes = units.hash[first]
    if config.span > 1:
        # [spans, units of a span] -> one hash a span
        rows = units.hash[first[:, None] + np.arange(config.span)]
        hashes = _folded(rows.ravel(), np.arange(len(rows) + 1) * config.span)
    origin = before[units.offsets]
    out = np.empty(len(first), SPAN)
    out["place"], out["unit"] = places[document], first - units.offsets[document]
    out["start"], out["end"] = before[first] - origin[document], before[last] - origin[document]
    out["words"] = np.diff(origin)[document]
    return hashes, out


class WriteUnits(PipelineStep):
    """Documents that are no duplicates -> their spans, in runs by ascending hash.

    `<rank>.spans` holds for every run the hashes, uint64 [spans], then the `SPAN` records;
    `<rank>.sizes.npy` the spans of every run.

    Args:
        inputs: files of documents, the held ones last.
        config: the section `dedup`.
        order: the order stage's folder.
        duplicates: what was decided about the documents.
        folder: where to write.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "units"

    def __init__(
        self,
        inputs: list[DedupInput],
        config: DedupConfig,
        order: Path,
        duplicates: Path,
        folder: Path,
        memory: int,
    ) -> None:
        super().__init__()
        assert config.passages is not None
        self.inputs, self.kinds, self.config = inputs, config.bands + EXTRA_KEYS, config.passages
        self.order, self.duplicates, self.folder = order, duplicates, folder
        self.run_spans = max(1, memory // _BYTES_A_SPAN)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Write the spans of file `rank`; yields nothing."""
        path = spans_file(self.folder, rank)
        with atomic_write(path) as out, atomic_write(path.with_suffix(".sizes.npy")) as sizes:
            np.save(sizes, np.array(list(self._runs(rank, out)), np.int64))
        yield from ()

    def _runs(self, rank: int, out: IO[bytes]) -> Iterator[int]:
        pending: list[tuple[Keys, NDArray[np.void]]] = []
        for found in self._spans(rank):
            pending.append(found)
            if sum(len(keys) for keys, _ in pending) >= self.run_spans:
                yield _write_run(pending, out)
                pending = []
        if pending:
            yield _write_run(pending, out)

    def _spans(self, rank: int) -> Iterator[tuple[Keys, NDArray[np.void]]]:
        item, gone = self.inputs[rank], frozenset[str]()
        row = int(Corpus(self.inputs, self.kinds).bases[rank])
        places = map_array(self.order / PLACES)
        if not item.held:
            known = pl.read_parquet(task_file(self.duplicates, rank), columns=["doc_id"])
            gone = frozenset(known["doc_id"])
        for batch in _batches(item.documents):
            ids = batch["doc_id"].to_pylist()
            left = np.array([doc_id not in gone for doc_id in ids], np.bool_)
            units = units_of(batch["text"].filter(pa.array(left)), self.config.unit)
            yield spans_of(units, self.config, places[row : row + len(ids)][left])
            row += len(ids)


def _batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        for group in tracked(range(file.num_row_groups), file.num_row_groups):
            yield from file.iter_batches(
                _BATCH_ROWS, row_groups=[group], columns=["doc_id", "text"]
            )


def _write_run(spans: list[tuple[Keys, NDArray[np.void]]], out: IO[bytes]) -> int:
    keys, rows = (np.concatenate(parts) for parts in zip(*spans, strict=True))
    order = np.argsort(keys, kind="stable")
    out.write(keys[order].data)
    out.write(rows[order].data)
    return len(keys)


def spans_file(folder: Path, rank: int) -> Path:
    """Where the spans of file `rank` are."""
    return folder / f"{rank:05d}.spans"


def span_runs(path: Path, record: np.dtype[np.void]) -> Iterator[tuple[Keys, NDArray[np.void]]]:
    """The runs of a file: ascending keys, and a record for each."""
    data, start = map_file(path, np.dtype(np.uint8)), 0
    for size in np.load(path.with_suffix(".sizes.npy")).tolist():
        middle, stop = start + 8 * size, start + (8 + record.itemsize) * size
        yield data[start:middle].view("<u8"), data[middle:stop].view(record)
        start = stop
