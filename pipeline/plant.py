"""Plant one benchmark item in a copy of real documents, to show what the audit makes of it."""

import json
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3

from contamination.benchmarks import load_benchmarks
from contamination.items import Item
from shards.atomic import atomic_write
from shards.reader import Dataset

_MIN_QUESTION_WORDS = 15
_MIN_DOCUMENT_CHARACTERS = 2000


class Planted(NamedTuple):
    """What was planted where."""

    benchmark: str
    item: str
    doc_id: str
    text: str


def plant(dataset: Dataset, source: str, benchmark: str, path: Path) -> Planted:
    """Write a source's training documents as JSONL, a benchmark item in the middle of one of them.

    Args:
        dataset: where the documents come from.
        source: name of the source.
        benchmark: specification of the benchmark, as in "olmo:arc_easy".
        path: the JSONL file to write, with columns id and text.

    Returns:
        The item and the document: always the same ones for the same dataset and benchmark.
    """
    documents = _documents(dataset, source)
    (loaded,) = load_benchmarks([benchmark])
    item = min((i for i in loaded.items if _is_long(i)), key=lambda i: _lot(i.id))
    doc_id = min((d for d in documents if len(documents[d]) > _MIN_DOCUMENT_CHARACTERS), key=_lot)
    text = f"{item.question} {item.answer}"
    documents[doc_id] = _insert(documents[doc_id], text)
    with atomic_write(path, "w") as file:
        for name, document in documents.items():
            file.write(json.dumps({"id": name, "text": document}, ensure_ascii=False) + "\n")
    return Planted(loaded.name, item.id, doc_id, text)


def _documents(dataset: Dataset, source: str) -> dict[str, str]:
    stream = dataset.stream(source)
    rows = list(stream.documents().select("doc_id", "token_start", "token_count").iter_rows())
    tokens = [stream.tokens(start, start + count).tolist() for _, start, count in rows]
    texts = dataset.tokenizer().decode_batch(tokens)
    return {row[0]: text for row, text in zip(rows, texts, strict=True)}


def _is_long(item: Item) -> bool:
    return len(item.question.split()) >= _MIN_QUESTION_WORDS


def _lot(name: str) -> str:
    """A draw that depends on the name alone."""
    return blake3(name.encode()).hexdigest()


def _insert(document: str, text: str) -> str:
    middle = document.index(" ", len(document) // 2)
    return f"{document[:middle]} {text}{document[middle:]}"
