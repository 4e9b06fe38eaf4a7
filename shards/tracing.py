"""From steps to documents and back: what a step read, and when a document was read."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import polars as pl

from shards.errors import DatasetError
from shards.plan import Plan
from shards.reader import Dataset, TokenStream


class Passage(NamedTuple):
    """A part of a document that lies in a window."""

    slot: int
    """Place of the window in the step's global batch."""
    source: str
    window: int
    doc_id: str
    origin: str
    url: str | None
    token_start: int
    """First token of the part, counted in the stream."""
    token_stop: int
    text: str


class Reading(NamedTuple):
    """A step that trained on part of a document."""

    step: int
    source: str
    window: int
    targets: int
    """Targets of the document in that window."""


def streams_of(plan: Plan, datasets: Mapping[str, Dataset]) -> dict[str, TokenStream]:
    """Open the stream of every source of a plan.

    Raises:
        DatasetError: a dataset's id is not the one the plan was made with.
    """
    streams = {}
    for facts in plan.sources:
        dataset = datasets[facts.name]
        if dataset.manifest.dataset_id != facts.dataset_id:
            raise DatasetError(
                f"source '{facts.name}': {dataset.path} is dataset {dataset.manifest.dataset_id}, "
                f"the plan was made with {facts.dataset_id}; give the right directory"
            )
        streams[facts.name] = dataset.stream(facts.source, facts.split)
    return streams


def trace_step(plan: Plan, datasets: Mapping[str, Dataset], step: int) -> Iterator[Passage]:
    """Yield the documents in the global batch of `step`, slot by slot."""
    streams = streams_of(plan, datasets)
    batch = plan.step(step)
    indexes = {plan.sources[s].name: None for s in np.unique(batch.source)}
    documents = {name: streams[name].documents() for name in indexes}
    for slot, (number, window) in enumerate(zip(*batch, strict=True)):
        name = plan.sources[number].name
        for start, stop in plan.layout(number).pieces(int(window)):
            for row in overlapping(documents[name], start, stop).iter_rows(named=True):
                first = max(start, row["token_start"])
                last = min(stop, row["token_start"] + row["token_count"])
                ids = streams[name].tokens(first, last).tolist()
                text = datasets[name].tokenizer().decode(ids)
                origin = f"{row['origin_file']}:{row['origin_row']}"
                where = (row["doc_id"], origin, row["url"], first, last, text)
                yield Passage(slot, name, int(window), *where)


def trace_document(
    plan: Plan, datasets: Mapping[str, Dataset], doc_id: str, last_step: int | None = None
) -> list[Reading]:
    """All steps that trained on a document, in order.

    Args:
        plan: the plan of the run.
        datasets: dataset of every source by name.
        doc_id: the document's id, or the id of a duplicate that was folded into it.
        last_step: only the steps before this one.

    Raises:
        DatasetError: no source of the plan holds the document.
    """
    for number, (name, stream) in enumerate(streams_of(plan, datasets).items()):
        frame = stream.documents()
        folded = pl.col("duplicates").list.contains(doc_id)
        found = frame.filter((pl.col("doc_id") == doc_id) | folded)
        if len(found):
            start, count = found["token_start"][0], found["token_count"][0]
            return sorted(
                Reading(step, name, window, targets)
                for step, window, targets in plan.readings(number, start, start + count)
                if last_step is None or step < last_step
            )
    raise DatasetError(f"document '{doc_id}': in no source of this run (held out, or dropped?)")


def overlapping(documents: pl.DataFrame, start: int, stop: int) -> pl.DataFrame:
    """Rows of a stream's document index that overlap tokens [start, stop)."""
    starts = documents["token_start"]
    first = max(int(starts.search_sorted(start, side="right")) - 1, 0)
    last = int(starts.search_sorted(stop, side="left"))
    return documents[first:last]
