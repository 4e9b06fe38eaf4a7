"""Passages that stand in several documents: which spans they are, and which document keeps them.

Documents are taken in the order of deduplication (pipeline/dedup_order.py). A document keeps every
passage that no document before it has kept; one that would be left with too few words without the
others is dropped, and keeps nothing. So whatever is cut stands in a document of the dataset.
Passages that one document repeats within itself are left alone.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from numba import njit
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup import scratch
from pipeline.dedup_candidates import pairs_file, sizes_file
from pipeline.dedup_files import (
    EXTRA_KEYS,
    NONE,
    Corpus,
    DedupInput,
    Ints,
    Keys,
    map_array,
    ranges,
    slice_of,
)
from pipeline.dedup_order import ROWS
from pipeline.dedup_units import SPAN, span_runs, spans_file
from shards.atomic import atomic_write, write_json_atomic

MEMBER = np.dtype([("group", "<u4"), ("start", "<u4"), ("end", "<u4"), ("words", "<u4")])
"""A span that stands in several documents: number of its text, rest as in `SPAN`."""
FACTS = "facts.json"
WHOLE = np.uint32(2**32 - 1)
"""In the place of a unit: the document is dropped."""
_BYTES_A_SPAN = 120


class FindRepeats(PipelineStep):
    """Spans -> those whose hash is in several documents, in runs by document and unit.

    A task looks at a share of all hashes. `<task>.spans` holds for every run the keys, uint64
    `place << 32 | unit`, then `MEMBER` records; `<task>.groups.npy` the number of texts.

    Args:
        units: the units stage's folder.
        files: number of its files.
        folder: where to write.
        tasks: how many there are.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "repeats"

    def __init__(self, units: Path, files: int, folder: Path, tasks: int, memory: int) -> None:
        super().__init__()
        self.units, self.files, self.folder, self.tasks = units, files, folder, tasks
        self.spans = max(1, memory // _BYTES_A_SPAN)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Look at the hashes of task `rank`; yields nothing."""
        files = range(self.files)
        runs = [run for n in files for run in span_runs(spans_file(self.units, n), SPAN)]
        path, sizes, groups = spans_file(self.folder, rank), list[int](), 0
        with atomic_write(path) as out:
            for low, high in self._ranges([keys for keys, _ in runs], rank):
                here = [(run, slice_of(run[0], low, high)) for run in runs]
                keys = np.concatenate([run[0][a:b] for run, (a, b) in here])
                rows = np.concatenate([run[1][a:b] for run, (a, b) in here])
                found, members = repeated(keys, rows)
                members["group"] += np.uint32(groups)
                groups += len(np.unique(members["group"]))
                sizes.append(_write_run(found, members, out))
        for name, values in ((".sizes.npy", sizes), (".groups.npy", [groups])):
            with atomic_write(path.with_suffix(name)) as file:
                np.save(file, np.array(values, np.int64))
        yield from ()

    def _ranges(self, keys: list[Keys], rank: int) -> list[tuple[int, int]]:
        parts = max(1, -(-sum(map(len, keys)) // (self.tasks * self.spans)))
        return ranges(keys, self.tasks * parts)[rank * parts : (rank + 1) * parts] if keys else []


def repeated(keys: Keys, spans: NDArray[np.void]) -> tuple[Keys, NDArray[np.void]]:
    """Of spans, those with a hash that is in several documents.

    Args:
        keys: their hashes.
        spans: `SPAN` records.

    Returns:
        `place << 32 | unit` of each, and `MEMBER` records whose groups are numbered from 0.
    """
    order = np.lexsort((spans["unit"], spans["place"], keys))
    keys, spans = keys[order], spans[order]
    starts = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]][: len(keys)])
    sizes = np.diff(np.r_[starts, len(keys)])
    places = spans["place"]
    several = places[starts] != places[starts + sizes - 1]
    spans = spans[np.repeat(several, sizes)]
    members = np.empty(len(spans), MEMBER)
    members["group"] = np.repeat(np.arange(several.sum()), sizes[several])
    for name in ("start", "end", "words"):
        members[name] = spans[name]
    return (spans["place"].astype(np.uint64) << np.uint64(32)) | spans["unit"], members


def _write_run(keys: Keys, members: NDArray[np.void], out: IO[bytes]) -> int:
    order = np.argsort(keys)
    out.write(keys[order].data)
    out.write(members[order].data)
    return len(keys)


class DecidePassages(PipelineStep):
    """The one task of the stage: who keeps what -> what is cut, and facts.json.

    The cuts are sorted runs of `row << 32 | unit`, as the candidates stage writes pairs; the unit
    is `WHOLE` where the document is dropped.

    Args:
        inputs: files of documents, the held ones last.
        config: the section `dedup`.
        order: the order stage's folder.
        repeats: the folder of what `FindRepeats` wrote.
        tasks: its number of tasks.
        folder: where to write.
        memory: working bytes.
    """

    type = "🫂 - DEDUP"
    name = "keepers"

    def __init__(
        self,
        inputs: Sequence[DedupInput],
        config: DedupConfig,
        order: Path,
        repeats: Path,
        tasks: int,
        folder: Path,
        memory: int,
    ) -> None:
        super().__init__()
        self.inputs, self.dedup, self.order, self.repeats = inputs, config, order, repeats
        self.tasks, self.folder = tasks, folder
        self.spans = max(1, memory // _BYTES_A_SPAN)

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Decide about all passages; yields nothing."""
        corpus = Corpus(self.inputs, self.dedup.bands + EXTRA_KEYS)
        overlap = Counter[tuple[int, int]]()
        path, sizes = pairs_file(self.folder, 0), list[int]()
        with atomic_write(path) as out:
            for codes in self._cuts(corpus, overlap):
                out.write(codes.data)
                sizes.append(len(codes))
        with atomic_write(sizes_file(path)) as file:
            np.save(file, np.array(sizes, np.int64))
        write_json_atomic(self.folder / FACTS, self._facts(overlap))
        yield from ()

    def _cuts(self, corpus: Corpus, overlap: Counter[tuple[int, int]]) -> Iterator[Keys]:
        config, rows = self.dedup.passages, map_array(self.order / ROWS)
        assert config is not None
        files = [spans_file(self.repeats, task) for task in range(self.tasks)]
        groups = np.cumsum([0, *(int(np.load(f.with_suffix(".groups.npy"))[0]) for f in files)])
        runs = [
            (keys, members, np.uint32(groups[task]))
            for task, path in enumerate(files)
            for keys, members in span_runs(path, MEMBER)
        ]
        keeper = scratch(self.folder, int(groups[-1]), np.uint32)
        keeper[:] = NONE
        held = len(corpus) - corpus.own
        for low, high in _by_document([keys for keys, _, _ in runs], self.spans):
            here = [(*run, *slice_of(run[0], low, high)) for run in runs]
            keys = np.concatenate([keys[a:b] for keys, _, _, a, b in here])
            members = np.concatenate([m[a:b] for _, m, _, a, b in here])
            members["group"] += np.concatenate(
                [np.full(b - a, base, np.uint32) for _, _, base, a, b in here]
            )
            order = np.argsort(keys)
            keys, members = keys[order], members[order]
            least, span = config.min_words_left, config.span
            found, gone = decide(keys, *_columns(members), keeper, held, span, least)
            row = rows[(keys[found] >> np.uint64(32)).astype(np.int64)].astype(np.int64)
            self._count(corpus, row, rows[keeper[members["group"][found]]], overlap)
            dropped = np.unique(rows[gone].astype(np.uint64)) << np.uint64(32) | WHOLE
            units = row.astype(np.uint64) << np.uint64(32) | (keys[found] & np.uint64(WHOLE))
            yield np.unique(np.concatenate([units, dropped]))

    def _count(self, corpus: Corpus, rows: Ints, keepers: NDArray[np.uint32], overlap: Any) -> None:
        files = corpus.file_of(rows), corpus.file_of(keepers.astype(np.int64))
        pairs, counts = np.unique(np.stack(files), axis=1, return_counts=True)
        for (left, right), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            overlap[left, right] += count

    def _facts(self, overlap: Counter[tuple[int, int]]) -> dict[str, Any]:
        config = self.dedup.passages
        assert config is not None
        sources: dict[str, dict[str, int]] = {}
        for (left, right), count in sorted(overlap.items()):
            row = sources.setdefault(self.inputs[left].source, {})
            name = self.inputs[right].source
            row[name] = row.get(name, 0) + count
        return {**config.model_dump(mode="json"), "repeated": sources}


def _columns(members: NDArray[np.void]) -> list[NDArray[np.uint32]]:
    return [np.ascontiguousarray(members[name]) for name in MEMBER.names or ()]


def _by_document(keys: list[Keys], most: int) -> list[tuple[int, int]]:
    """Ranges of keys with about so many spans each, cut between documents."""
    if not keys:
        return []
    cuts = [low >> 32 << 32 for low, _ in ranges(keys, -(-sum(map(len, keys)) // most))]
    cuts = sorted(set(cuts))
    return list(zip(cuts, [*cuts[1:], 2**64], strict=True))


@njit(cache=True)
def decide(keys, group, start, end, words, keeper, held, span, least):  # type: ignore[no-untyped-def]
    """Take documents by place; find the spans that a document before has kept.

    Args:
        keys: uint64 [num_spans], ascending: `place << 32 | unit`; documents are whole.
        group: uint32 [num_spans], the number of the text.
        start: uint32 [num_spans], words of the document before the span.
        end: uint32 [num_spans], words up to its end.
        words: uint32 [num_spans], words of the document.
        keeper: uint32 [num_groups], `NONE`, or the place of the document that keeps the text; gets
            those of the documents here.
        held: documents at lower places are never cut.
        span: units in a span.
        least: words that a document must be left with.

    Returns:
        Indices of the spans to cut; places of the documents to drop, whose spans are not among
        them.
    """
    cut, num_cut = np.empty(len(keys), np.int64), 0
    gone, num_gone = np.empty(len(keys), np.int64), 0
    low = 0
    while low < len(keys):
        place, high = keys[low] >> np.uint64(32), low
        while high < len(keys) and keys[high] >> np.uint64(32) == place:
            high += 1
        left, reached, before = np.int64(words[low]), np.int64(0), num_cut
        for i in range(low, high):
            if place >= np.uint64(held) and keeper[group[i]] != NONE:
                cut[num_cut] = i
                num_cut += 1
                first, stop = np.int64(start[i]), np.int64(end[i])
                if stop > reached:
                    left -= stop - (reached if first < reached else first)
                    reached = stop
        if num_cut > before and (left < least or left == 0):
            num_cut = before
            gone[num_gone] = place
            num_gone += 1
        else:
            _keep(keys, group, keeper, low, high, cut[before:num_cut], span)
        low = high
    return cut[:num_cut], gone[:num_gone]


@njit(cache=True)
def _keep(keys, group, keeper, low, high, cut, span):  # type: ignore[no-untyped-def]
    """Have a document keep the spans that no cut touches."""
    after = 0
    for i in range(low, high):
        while after < len(cut) and cut[after] < i:
            after += 1
        is_cut = after < len(cut) and cut[after] == i
        touched = is_cut or (after < len(cut) and keys[cut[after]] - keys[i] < np.uint64(span))
        touched = touched or (after > 0 and keys[i] - keys[cut[after - 1]] < np.uint64(span))
        if not touched and keeper[group[i]] == NONE:
            keeper[group[i]] = keys[i] >> np.uint64(32)


def decided(directory: Path) -> dict[str, Any]:
    """What `DecidePassages` found, as its finished stage says."""
    facts: dict[str, Any] = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    return facts
