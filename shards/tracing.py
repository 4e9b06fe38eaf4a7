"""From steps to documents and back: what a step read, and when a document or a text was read.

Nothing here reads a whole index or a whole ledger: the plan says which tokens, the documents that
hold them are looked up.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from shards.documents import Document, DocumentReader
from shards.errors import DatasetError
from shards.ledger import ledger_entry, planned_entry
from shards.plan import Plan
from shards.reader import Dataset, TokenStream
from shards.text_search import TextSearch


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
    """Of the part, or of its beginning."""


class Subject(NamedTuple):
    """Tokens of a document whose readings are asked for."""

    number: int
    """Of the source in the plan."""
    document: Document
    start: int
    stop: int


class Reading(NamedTuple):
    """A step that trained on tokens of a document."""

    step: int
    source: str
    doc_id: str
    window: int
    seq_len: int
    """Targets of the window."""
    targets: int
    """Those of them that were asked for."""


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
                f"source '{facts.name}': {dataset.address} is dataset "
                f"{dataset.manifest.dataset_id}, the plan was made with {facts.dataset_id}; "
                "give the right directory"
            )
        streams[facts.name] = dataset.stream(facts.source, facts.split)
    return streams


def check_step(run: Path, plan: Plan, datasets: Mapping[str, Dataset], step: int) -> bool:
    """Compare the tokens of a step, as they are now, with what the ledger says was trained on.

    Returns whether it was trained on already; a step that is only planned compares with nothing.

    Raises:
        DatasetError: they differ, so that the text shown would not be what the model saw.
    """
    entry = ledger_entry(run, step)
    if entry is None:
        return False
    wanted = planned_entry(plan, step, streams_of(plan, datasets))["tokens_digest"]
    if wanted != entry.tokens_digest:
        raise DatasetError(
            f"{run}: the tokens of step {step} are not those that the ledger says were trained on; "
            "a shard or the ledger is damaged: see `tally verify` and `tally ledger --verify`"
        )
    return True


def trace_step(
    plan: Plan, datasets: Mapping[str, Dataset], step: int, most_tokens: int | None = None
) -> list[Passage]:
    """The documents in the global batch of a step, slot by slot.

    Args:
        plan: the plan of the run.
        datasets: dataset of every source by name.
        step: which step.
        most_tokens: decode no more than this of each passage.
    """
    streams, batch = streams_of(plan, datasets), plan.step(step)
    passages = []
    for number, facts in enumerate(plan.sources):
        slots = (batch.source == number).nonzero()[0].tolist()
        layout = plan.layout(number, plan.seq_len_at(step))
        windows = {slot: int(batch.window[slot]) for slot in slots}
        pieces = [(slot, *piece) for slot in slots for piece in layout.pieces(windows[slot])]
        stream = streams[facts.name]
        found = DocumentReader(stream).overlapping([(start, stop) for _, start, stop in pieces])
        parts = [
            (slot, document, max(start, document.start), min(stop, document.stop))
            for (slot, start, stop), documents in zip(pieces, found, strict=True)
            for document in documents
        ]
        texts = _texts(datasets[facts.name], stream, [part[2:] for part in parts], most_tokens)
        for (slot, document, start, stop), text in zip(parts, texts, strict=True):
            where = (document.doc_id, document.origin, document.url, start, stop)
            passages.append(Passage(slot, facts.name, windows[slot], *where, text))
    return sorted(passages, key=lambda passage: passage.slot)


def _texts(
    dataset: Dataset,
    stream: TokenStream,
    ranges: Sequence[tuple[int, int]],
    most_tokens: int | None,
) -> list[str]:
    """The texts of token ranges, on all cores."""
    stops = [
        stop if most_tokens is None else min(stop, start + most_tokens) for start, stop in ranges
    ]
    tokens = [
        stream.tokens(start, stop).tolist() for (start, _), stop in zip(ranges, stops, strict=True)
    ]
    return dataset.tokenizer().decode_batch(tokens)


def find_text(
    plan: Plan, searches: Mapping[str, TextSearch], advance: Callable[[float], None]
) -> list[Subject]:
    """Every place of a text in the sources of a plan.

    Args:
        plan: the plan of the run.
        searches: for the text, in the dataset of every source by name.
        advance: called with the number of tokens done.

    Raises:
        DatasetError: it stands in none.
    """
    streams = streams_of(plan, {name: search.dataset for name, search in searches.items()})
    subjects = [
        Subject(number, *match)
        for number, facts in enumerate(plan.sources)
        for match in searches[facts.name].matches(streams[facts.name], advance)
    ]
    if not subjects:
        raise DatasetError("the text is in no source of this run, as its tokens decode")
    return subjects


def find_document(plan: Plan, datasets: Mapping[str, Dataset], doc_id: str) -> list[Subject]:
    """The document of that id, or the one it was folded into, in every source that has it.

    Raises:
        DatasetError: no source of the plan does.
    """
    streams = streams_of(plan, datasets)
    subjects = []
    for number, facts in enumerate(plan.sources):
        document = DocumentReader(streams[facts.name]).find(doc_id)
        if document:
            subjects.append(Subject(number, document, document.start, document.stop))
    if not subjects:
        raise DatasetError(f"document '{doc_id}': in no source of this run (held out, or dropped?)")
    return subjects


def readings(plan: Plan, subjects: Sequence[Subject], until: int) -> list[Reading]:
    """All trainings on the subjects' tokens by the steps before `until`, in order."""
    return sorted(
        Reading(step, plan.sources[number].name, document.doc_id, window, seq_len, targets)
        for number, document, start, stop in subjects
        for step, seq_len, window, targets in plan.readings(number, start, stop)
        if step < until
    )
