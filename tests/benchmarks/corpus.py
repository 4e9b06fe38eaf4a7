"""Real text for the benchmarks of the pipeline, from the folder that TALLY_TESTDATA names."""

import gzip
import json
import os
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from pipeline.documents import DocumentFile, document

_FOLDERS = ("fineweb_edu", "fineweb", "c4", "commoncrawl", "edu", "books", "math", "wikipedia")
TOKENIZER = "tokenizers/gpt2/tokenizer.json"
"""GPT-2: 50,257 entries, byte-level."""


def data_folder() -> Path:
    """The folder of the test data; ends the program where there is none."""
    folder = os.environ.get("TALLY_TESTDATA")
    if not folder:
        sys.exit("set TALLY_TESTDATA to the folder of the test data: these read real text")
    return Path(folder)


def real_texts() -> Iterator[str]:
    """English documents of all folders in turn, so that any first part is a mixture."""
    streams = [_folder_texts(data_folder() / "corpora" / name) for name in _FOLDERS]
    while streams:
        for stream in list(streams):
            part = list(islice(stream, 100))
            yield from part
            if not part:
                streams.remove(stream)


def _folder_texts(folder: Path) -> Iterator[str]:
    for path in sorted(folder.glob("*.jsonl.gz")):
        if not path.name.startswith("zh"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                rows = (json.loads(line).get("text") for line in file)
                texts = (text for text in rows if text)
                yield from _joined(texts) if path.name.startswith("enwiki") else texts


def _joined(texts: Iterator[str]) -> Iterator[str]:
    """Eight at a time: these rows are paragraphs of 600 bytes, web documents are larger."""
    while part := list(islice(texts, 8)):
        yield "\n\n".join(part)


def texts_of_size(megabytes: float) -> list[str]:
    """The first documents that make up the size (UTF-8), each once."""
    out, size = [], 0
    for text in dict.fromkeys(real_texts()):
        if size >= megabytes * 1e6:
            break
        out.append(text)
        size += len(text.encode("utf-8"))
    return out


def write_documents(path: Path, texts: list[str], prefix: str = "d") -> float:
    """Write a documents file (zstd Parquet) as the filters leave it; returns megabytes of text."""
    with DocumentFile(path) as file:
        for row, text in enumerate(texts):
            file.add(document(f"{prefix}{row}", text, "benchmark", row))
    return sum(len(text.encode("utf-8")) for text in texts) / 1e6
