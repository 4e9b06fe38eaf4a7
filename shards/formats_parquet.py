"""Parquet, one row a document: id, text, tokens, origin; for `datasets`, DuckDB, polars, people.

`tokens` are exactly the document's, EOS included. A dataset keeps no text, so the text is decoded
from them with the dataset's tokenizer.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
from polars.exceptions import PanicException

from shards.convert_files import Output
from shards.detokenize import Decoder
from shards.errors import DatasetError
from shards.formats_base import Label, Part, PeerDocument, Reading, TokenFile
from shards.formats_documents import read_documents
from shards.hashing import content_hash
from shards.manifest import ShardFacts

_BATCH_TOKENS = 1 << 20
_BATCH_ROWS = 1000
_ORIGIN = pa.struct([("file", pa.string()), ("row", pa.int64()), ("url", pa.string())])


def write_parquet(part: Part, output: Output) -> None:
    """Write SOURCE/SPLIT-00000.parquet, one a shard."""
    width = pa.uint16() if part.token_bytes == 2 else pa.uint32()
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("text", pa.string()),
            ("tokens", pa.list_(width)),
            ("origin", _ORIGIN),
        ]
    )
    changed, decoder = 0, Decoder(part.dataset.tokenizer())
    for number, shard in enumerate(part.facts.shards):
        name = f"{part.source}/{part.split}-{number:05d}.parquet"
        with (
            output.file(name) as file,
            pq.ParquetWriter(file, schema, compression="zstd") as writer,
        ):
            for rows, tokens in _batches(part, shard):
                table, inexact = _table(decoder, rows, tokens, schema)
                writer.write_table(table)
                changed += inexact
                output.advance(tokens.nbytes)
        output.copied.append(name)
    if changed:
        output.notes.append(
            f"{part.source}/{part.split}: the text of {changed} of {part.facts.documents} "
            "documents differs from the original (the tokenizer normalises); tokens are exact"
        )


def _batches(
    part: Part, shard: ShardFacts
) -> "Iterator[tuple[pl.DataFrame, np.ndarray[Any, np.dtype[Any]]]]":
    """Rows of the index with their tokens, about a million at a time."""
    index = part.index(shard)
    tokens = np.memmap(part.shard_file(shard), dtype=f"<u{part.token_bytes}", mode="r")
    ends = index["token_count"].cum_sum().to_numpy()
    first = 0
    while first < len(index):
        start = int(ends[first - 1]) if first else 0
        full = int(np.searchsorted(ends, start + _BATCH_TOKENS, side="right"))
        last = min(max(full, first + 1), first + _BATCH_ROWS)
        yield index[first:last], np.array(tokens[start : int(ends[last - 1])])
        first = last


def _table(
    decoder: Decoder, rows: pl.DataFrame, tokens: "np.ndarray[Any, np.dtype[Any]]", schema: Any
) -> tuple[Any, int]:
    """A batch as a table, and how many texts are not byte for byte the original."""
    offsets = np.concatenate([[0], rows["token_count"].cum_sum().to_numpy()])
    texts = decoder.texts(tokens, offsets[:-1], offsets[1:] - 1)  # without EOS
    hashes = zip(texts, rows["content_hash"], strict=True)
    inexact = sum(content_hash(text) != known for text, known in hashes)
    origin = rows.select(file="origin_file", row="origin_row", url="url").to_arrow()
    columns = [
        pa.array(rows["doc_id"].to_list(), pa.string()),
        pa.array(texts, pa.string()),
        pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), pa.array(tokens)),
        pa.array(origin.to_pylist(), _ORIGIN),
    ]
    return pa.Table.from_arrays(columns, schema=schema), inexact


def read_parquet(files: list[Path], reading: Reading) -> Iterator[PeerDocument]:
    """Documents of Parquet files with a column `tokens`; `id`, `text`, `origin` if they are there.

    Raises:
        DatasetError: not Parquet, no `tokens` that are integers, EOS missing or inside a document.
    """
    for path in files:
        row = 0
        for batch in _read_batches(path):
            file = TokenFile(path, *_flat(path, batch["tokens"], row), _labels(batch))
            for document in read_documents([file], reading):
                yield document._replace(row=row + document.row)
            row += len(batch)


def _opened(path: Path) -> Any:
    """The file, its columns checked."""
    try:
        file = pq.ParquetFile(path)
        schema = file.schema_arrow
        names = schema.names
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: not readable as Parquet ({error}); restore it") from None
    if "tokens" not in names:
        raise DatasetError(
            f"{path}: no column 'tokens'; there are: {', '.join(names)}. "
            "A file of texts is read by `tally build` (kind: parquet), which also filters it"
        )
    kind = schema.field("tokens").type
    lists = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    if not lists or not pa.types.is_integer(kind.value_type):
        raise DatasetError(f"{path}: column 'tokens' is {kind}, not lists of integers")
    return file


def _read_batches(path: Path) -> Iterator[pl.DataFrame]:
    with _opened(path) as file:
        names = file.schema_arrow.names
        columns = [name for name in ("id", "text", "tokens", "origin") if name in names]
        batches = file.iter_batches(_BATCH_ROWS, columns=columns)
        row = 0
        while True:
            try:
                batch = next(batches, None)
                if batch is not None:
                    batch.validate(full=True)  # offsets and UTF-8, which polars takes on trust
                frame = None if batch is None else pl.DataFrame(batch)
            except (OSError, pa.ArrowException, UnicodeDecodeError, PanicException) as error:
                raise DatasetError(
                    f"{path}: not readable from row {row} on ({error}); restore it"
                ) from None
            if frame is None:
                return
            yield frame
            row += len(frame)


def _flat(path: Path, tokens: pl.Series, row: int) -> tuple[Any, Any]:
    """The batch's tokens end to end, and the documents' ends."""
    if tokens.null_count():
        where = row + tokens.is_null().arg_true()[0]
        raise DatasetError(f"{path}, row {where}: no tokens; remove the row")
    lengths = tokens.list.len().to_numpy().astype(np.int64)
    flat = tokens.explode(empty_as_null=False, keep_nulls=False)
    return flat.to_numpy(), np.cumsum(lengths)


def _labels(batch: pl.DataFrame) -> Iterator[Label]:
    for row in batch.drop("tokens").iter_rows(named=True):
        origin = row.get("origin")
        if not isinstance(origin, dict):
            origin = {"file": origin}  # a column of the same name that is not ours: its text
        yield Label(
            doc_id=row.get("id"),
            origin_file=origin.get("file"),
            origin_row=origin.get("row"),
            url=origin.get("url"),
            text=row.get("text"),
        )


def stored_bytes(path: Path) -> int:
    """Bytes of the file's tokens when they are read, the unit of progress."""
    with _opened(path) as file:
        metadata = file.metadata
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        columns = (group.column(i) for group in groups for i in range(group.num_columns))
        values = sum(c.num_values for c in columns if c.path_in_schema.split(".")[0] == "tokens")
        width = pa.types.is_uint16(file.schema_arrow.field("tokens").type.value_type)
    return int(values) * (2 if width else 4)
