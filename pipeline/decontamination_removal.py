"""The stage that takes benchmark items out of the text: `decontaminate`, after `scan`.

It judges what the scan found and drops documents, or cuts places out of them. Texts are rewritten
only where something was found, in files beside those of the filters (see `pipeline.revisions`).
Where places are to be masked, texts stay as they are and `pipeline.loss_masks` takes it from there.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.audit import SENSITIVITIES
from configs.cleaning import DecontaminationConfig
from contamination.items import Benchmark
from contamination.removal import Place, Remover
from contamination.rules import CLASSES, unauditable
from contamination.words import RECIPE_HASH
from pipeline.decontamination import BATCH_DOCUMENTS, BITS, identity, opened, scan_file
from pipeline.documents import DocumentFile, document, task_file
from pipeline.revisions import BEFORE, CUT, DROPPED, PLACES, Revisions
from shards.atomic import atomic_write


@lru_cache(1)
def _remover(index: Path, scanned: Path, config: DecontaminationConfig) -> Remover:
    found, vocabulary = opened(index)
    bits = np.load(scanned / BITS, allow_pickle=False)
    rules = SENSITIVITIES[config.sensitivity]
    return Remover.of(found, vocabulary, bits, rules, _audit_classes(config))


def _audit_classes(config: DecontaminationConfig) -> frozenset[str]:
    """Whether a question stands with its answer or without is one class here."""
    return frozenset(config.classes) | ({"qa"} if "question" in config.classes else set())


class RemoveItems(PipelineStep):
    """Hits -> the dropped and the cut documents, in files of their own.

    Args:
        inputs: files of documents.
        revised: folders of the stages that revised them before.
        index: directory of the index.
        scanned: folder of the scan.
        config: what to take out, and how.
        folder: where to write.
    """

    type = "🔎 - AUDIT"
    name = "decontaminate"

    def __init__(
        self,
        inputs: list[Path],
        revised: list[Path],
        index: Path,
        scanned: Path,
        config: DecontaminationConfig,
        folder: Path,
    ) -> None:
        super().__init__()
        self.inputs, self.revised, self.index, self.scanned = inputs, revised, index, scanned
        self.config, self.folder = config, folder

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Judge file `rank`; yields nothing."""
        remover = _remover(self.index, self.scanned, self.config)
        with np.load(scan_file(self.scanned, rank), allow_pickle=False) as stored:
            # A document that was left out stands between no two.
            places = remover.places(stored["hits"], np.cumsum(stored["present"]))
        by_row: dict[int, list[Place]] = {}
        for place in places:
            by_row.setdefault(place.document, []).append(place)
        files = (task_file(self.folder / name, rank) for name in (CUT, DROPPED, BEFORE))
        rows = []
        with (
            DocumentFile(next(files)) as cut,
            DocumentFile(next(files)) as dropped,
            DocumentFile(next(files)) as before,
        ):
            out = _Files(cut, dropped, before)
            revisions = Revisions(self.revised, rank)
            for row, values in _documents(self.inputs[rank], revisions, by_row):
                self._take_out(values, by_row[row], remover, out)
                rows += [_place_row(values["doc_id"], place) for place in by_row[row]]
        with atomic_write(task_file(self.folder / PLACES, rank)) as file:
            pl.DataFrame(rows, schema=_PLACE_SCHEMA, orient="row").write_parquet(file)
        yield from ()

    def _take_out(
        self, row: dict[str, Any], places: list[Place], remover: Remover, out: "_Files"
    ) -> None:
        def doc(text: str) -> Any:
            names = ("origin_file", "origin_row", "url")
            return document(row["doc_id"], text, *(row[name] for name in names))

        reason = _reason(places)
        if self.config.action == "drop":
            out.dropped.add(doc(row["text"]), reason)
            return
        text = row["text"]
        if self.config.action == "cut":
            text = remover.without(text, places, self.config.margin_characters)
        if not text.strip():
            out.dropped.add(doc(row["text"]), f"{reason}_left_nothing")
            return
        out.before.add(doc(row["text"]), reason)
        out.cut.add(doc(text))


class _Files(NamedTuple):
    cut: DocumentFile
    dropped: DocumentFile
    before: DocumentFile


_ORDER: dict[str, int] = {name: number for number, name in enumerate(CLASSES)}
_PLACE_SCHEMA = {
    "doc_id": pl.String,
    "item": pl.Int64,
    "class": pl.String,
    "start": pl.Int64,
    "end": pl.Int64,
}


def _place_row(doc_id: str, place: Place) -> tuple[str, int, str, int, int]:
    return doc_id, place.item, _removed_class(place), place.start, place.end


def _removed_class(place: Place) -> str:
    return "question" if place.class_ == "qa" else place.class_


def _reason(places: list[Place]) -> str:
    """The strongest class of a document's places, as a name in the funnel."""
    return "benchmark_" + _removed_class(min(places, key=lambda place: _ORDER[place.class_]))


def _documents(
    path: Path, revisions: Revisions, wanted: dict[int, Any]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The wanted rows of a documents file."""
    first = 0
    with pq.ParquetFile(path) as file:
        for batch in map(revisions.apply, file.iter_batches(BATCH_DOCUMENTS)):
            here = [row for row in range(batch.num_rows) if first + row in wanted]
            chosen = batch.take(pa.array(here, pa.int64())).to_pylist()
            yield from zip((first + row for row in here), chosen, strict=True)
            first += batch.num_rows


def removal_facts(
    benchmarks: Sequence[Benchmark],
    config: DecontaminationConfig,
    index: Path,
    scanned: Path,
    num_tasks: int,
    folder: Path,
) -> dict[str, Any]:
    """What the manifest says about decontamination, counted from the finished files."""
    remover = _remover(index, scanned, config)
    places = pl.concat(
        pl.read_parquet(task_file(folder / PLACES, rank)) for rank in range(num_tasks)
    )
    short = unauditable(
        remover.worth.totals[: remover.index.num_items], SENSITIVITIES[config.sensitivity]
    )
    sets, first = [], 0
    for benchmark in benchmarks:
        last = first + len(benchmark.items)
        found = places.filter(pl.col("item").is_between(first, last, closed="left"))
        sets.append(_benchmark_facts(benchmark, found, int(short[first:last].sum())))
        first = last
    return {
        "action": config.action,
        "classes": list(config.classes),
        "margin_characters": config.margin_characters,
        "thresholds": remover.rules.model_dump(),
        "recipe": RECIPE_HASH,
        "index": remover.index.key,
        "benchmarks": sets,
        "places": len(places),
        "documents": places["doc_id"].n_unique(),
    }


def _benchmark_facts(benchmark: Benchmark, found: pl.DataFrame, too_short: int) -> dict[str, Any]:
    by_class = Counter(found["class"].to_list())
    return {
        **identity(benchmark),
        "items": len(benchmark.items),
        "unauditable_items": too_short,
        "items_found": found["item"].n_unique(),
        "documents": found["doc_id"].n_unique(),
        "places_by_class": dict(sorted(by_class.items())),
    }
