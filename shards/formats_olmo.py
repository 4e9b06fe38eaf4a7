"""OLMo (and Dolma): headerless PART.npy of tokens, and PART.csv.gz, one line a document.

Despite its name the token file has no NumPy header. The lines are start, end (in tokens), id,
source file, place in the source file. OLMo-core reads both; without the second, EOS ends documents.
"""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from shards.convert_files import Output
from shards.errors import DatasetError
from shards.formats_base import Label, Part, Reading, TokenFile
from shards.formats_raw import open_raw

_MOST_LINE_BYTES = 1 << 20
_COLUMNS = ("token_start", "token_count", "doc_id", "origin_file", "origin_row")


def write_olmo(part: Part, output: Output) -> None:
    """Write SOURCE/SPLIT/part-00000.npy (linked) and its .csv.gz, one pair a shard."""
    for number, shard in enumerate(part.facts.shards):
        name = f"{part.source}/{part.split}/part-{number:05d}"
        output.same_bytes(part.shard_file(shard), f"{name}.npy")
        # No name and no clock time in the file, so equal datasets give equal bytes.
        with (
            output.file(f"{name}.csv.gz") as file,
            gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
            io.TextIOWrapper(packed, "utf-8", newline="") as text,
        ):
            writer = csv.writer(text)
            for start, count, *rest in part.index(shard).select(_COLUMNS).iter_rows():
                writer.writerow((start, start + count, *rest))


def open_olmo(path: Path, reading: Reading) -> TokenFile:
    """Open PART.npy, by its PART.csv.gz where there is one.

    Raises:
        DatasetError: a NumPy header, a size that does not fit, lines that do not cover the tokens.
    """
    file = open_raw(path, reading)
    lines = path.with_suffix(".csv.gz")
    if not lines.is_file():
        return file
    return file._replace(ends=_ends(lines, len(file.tokens)), labels=_labels(lines))


def _ends(path: Path, num_tokens: int) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    ends, start = [], 0
    for number, row in enumerate(_rows(path), start=1):
        if int(row[0]) != start or int(row[1]) < start:
            raise DatasetError(
                f"{path}, line {number}: tokens {row[0]} to {row[1]} do not follow token {start}"
            )
        start = int(row[1])
        ends.append(start)
    if start != num_tokens:
        raise DatasetError(
            f"{path}: its documents end at token {start} and the tokens at {num_tokens}; cut off, "
            "of another file, or of another type (--dtype); without it documents are cut at EOS"
        )
    return np.array(ends, dtype=np.int64)


def _labels(path: Path) -> Iterator[Label]:
    for _, _, doc_id, origin_file, origin_row in _rows(path):
        yield Label(doc_id, origin_file, int(origin_row))


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with gzip.open(path, "rb") as packed:
            for number, row in enumerate(csv.reader(_lines(packed, path)), start=1):
                if len(row) != 5 or not all(_is_count(row[i]) for i in (0, 1, 4)):
                    raise DatasetError(
                        f"{path}, line {number}: {row}, not start,end,id,source,place; "
                        "restore it, or remove it to have documents cut at EOS"
                    )
                yield row
    except (OSError, EOFError, UnicodeDecodeError, zlib.error, csv.Error) as error:
        raise DatasetError(f"{path}: not readable ({error}); restore or remove it") from None


def _is_count(text: str) -> bool:
    return text.isdecimal() and len(text) < 19  # fits 64 bits


def _lines(packed: gzip.GzipFile, path: Path) -> Iterator[str]:
    """Lines of bounded length: a small archive may hold one of any size."""
    while line := packed.readline(_MOST_LINE_BYTES):
        if len(line) == _MOST_LINE_BYTES:
            raise DatasetError(f"{path}: a line of more than {_MOST_LINE_BYTES} bytes; restore it")
        yield line.decode("utf-8")
