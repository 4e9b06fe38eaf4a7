"""The files of one shard: packed tokens, what masks them, document index, table of ids.

Tokens and documents are written apart, so that two tasks can share a shard.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from shards.atomic import atomic_write
from shards.errors import DatasetError
from shards.hashing import blake3_file
from shards.index import SCHEMA, write_ids, write_index
from shards.loss_mask import SUFFIX, Spans, as_bytes, merged
from shards.manifest import MaskFacts, ShardFacts

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]
Dtype = np.dtype[np.uint16] | np.dtype[np.uint32]
Facts = dict[str, Any]
"""Some of the fields of `ShardFacts`."""


def write_tokens(directory: Path, name: str, tokens: Iterable[Tokens]) -> Facts:
    """Write the tokens of a shard as they come.

    Args:
        directory: of the dataset.
        name: of the shard in it, without an ending.
        tokens: parts, all of the dataset's dtype.
    """
    path, count = f"{name}.bin", 0
    with atomic_write(directory / path) as file:
        for part in tokens:
            file.write(part.data)
            count += len(part)
    return {"path": path, "tokens": count, **_file_facts(directory / path)}


def write_mask(directory: Path, name: str, masked: list[Spans]) -> MaskFacts | None:
    """Write which tokens of a shard give no loss; no file where all do.

    Args:
        directory: of the dataset.
        name: of the shard in it, without an ending.
        masked: spans of tokens, counted in the shard.
    """
    spans = merged(np.concatenate([np.empty((0, 2), np.int64), *masked]))
    if not len(spans):
        return None
    path = f"{name}{SUFFIX}"
    with atomic_write(directory / path) as file:
        file.write(as_bytes(spans))
    masked_tokens = int((spans[:, 1] - spans[:, 0]).sum())
    return MaskFacts(path=path, tokens=masked_tokens, **_file_facts(directory / path))


def write_documents(directory: Path, name: str, rows: pl.DataFrame) -> Facts:
    """Write the document index of a shard and the table of ids.

    Args:
        directory: of the dataset.
        name: of the shard in it, without an ending.
        rows: the columns of the index; `token_start` is not looked at.
    """
    starts = rows["token_count"].cum_sum() - rows["token_count"]
    frame = rows.with_columns(starts.alias("token_start")).select(list(SCHEMA))
    facts: Facts = {"documents": len(frame)}
    for kind, end, write in (
        ("index", ".docs.parquet", write_index),
        ("ids", ".docs.ids", write_ids),
    ):
        with atomic_write(directory / f"{name}{end}") as file:
            write(frame, file)
        found = _file_facts(directory / f"{name}{end}")
        facts |= {f"{kind}_path": f"{name}{end}"}
        facts |= {f"{kind}_{key}": value for key, value in found.items()}
    return facts


def shard_facts(tokens: Facts, masked: MaskFacts | None, documents: Facts) -> ShardFacts:
    """What the three functions above found, put together."""
    return ShardFacts(**tokens, **documents, masked=masked)


def check_documents(
    where: str, rows: pl.DataFrame, tokens: Tokens, eos_id: int, dtype: Dtype
) -> None:
    """Refuse tokens that are not those of whole documents.

    Args:
        where: what to call the place in a message.
        rows: documents, `doc_id` and `token_count` among their columns.
        tokens: of all of them, one after the other.
        eos_id: what every document ends with, and has nowhere else.
        dtype: that must hold every token.

    Raises:
        DatasetError: another number of tokens, no EOS at an end, EOS elsewhere, or an id that the
            dtype cannot hold.
    """
    ends = rows["token_count"].cum_sum().to_numpy()
    if (int(ends[-1]) if len(ends) else 0) != len(tokens):
        raise DatasetError(f"{where}: {len(tokens)} tokens for rows of {ends[-1:]}")
    if not len(tokens):
        return
    bad = (rows["token_count"].to_numpy() < 1) | (tokens[ends - 1] != eos_id)
    if bad.any():
        document = rows["doc_id"][int(bad.argmax())]
        raise DatasetError(f"document {document}: tokens do not end with EOS {eos_id}")
    is_eos = tokens == eos_id
    if np.count_nonzero(is_eos) != len(ends):
        inside = np.setdiff1d(np.flatnonzero(is_eos), ends - 1)[0]
        document = rows["doc_id"][int(np.searchsorted(ends, inside, side="right"))]
        raise DatasetError(f"document {document}: EOS {eos_id} inside the document")
    if int(tokens.max()) > np.iinfo(dtype).max:
        document = rows["doc_id"][int(np.searchsorted(ends, tokens.argmax(), side="right"))]
        raise DatasetError(f"document {document}: token {tokens.max()} > {dtype}")


def _file_facts(path: Path) -> Facts:
    return {"bytes": path.stat().st_size, "blake3": blake3_file(path)}
