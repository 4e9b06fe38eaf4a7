r"""Megatron-LM: PREFIX.bin of tokens and PREFIX.idx, lengths and places of its sequences.

The index, little-endian: `MMIDIDX\0\0`, uint64 version 1, uint8 dtype code, uint64 number of
sequences, uint64 length of the document index; then int32 lengths in tokens, int64 places in bytes,
int64 document index (number of its first sequence for every document, and the end).
"""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from shards.convert_files import Output
from shards.errors import DatasetError
from shards.formats_base import Part, Reading, TokenFile, head_bytes, map_tokens

_MAGIC = b"MMIDIDX\0\0"
_HEAD = struct.Struct("<9sQBQQ")
_CODES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
# Megatron has no uint32; ids are below 2^31, so its int32 has the same bytes.
_CODE_OF_BYTES = {2: 8, 4: 4}


def write_megatron(part: Part, output: Output) -> None:
    """Write SOURCE/SPLIT_00000.bin (linked) and .idx, one pair a shard; one sequence a document."""
    for number, shard in enumerate(part.facts.shards):
        name = f"{part.source}/{part.split}_{number:05d}"
        output.same_bytes(part.shard_file(shard), f"{name}.bin")
        index = part.index(shard)
        lengths = index["token_count"].to_numpy()
        if len(lengths) and lengths.max() >= 2**31:
            raise DatasetError(
                f"{shard.index_path}: a document of {lengths.max()} tokens, and Megatron counts "
                "in int32; filter such documents out"
            )
        code = _CODE_OF_BYTES[part.token_bytes]
        with output.file(f"{name}.idx") as file:
            file.write(_HEAD.pack(_MAGIC, 1, code, len(lengths), len(lengths) + 1))
            file.write(lengths.astype("<i4").data)
            file.write((index["token_start"].to_numpy() * part.token_bytes).astype("<i8").data)
            file.write(np.arange(len(lengths) + 1, dtype="<i8").data)


def open_megatron(path: Path, reading: Reading) -> TokenFile:
    """Open PREFIX.bin by its PREFIX.idx.

    Raises:
        DatasetError: no index; wrong magic, version or type; index and tokens of other sizes.
    """
    index_path = path.with_suffix(".idx")
    if not index_path.is_file():
        raise DatasetError(
            f"{path}: its index {index_path.name} is missing, which says where documents end; "
            "restore it, or cut the tokens at EOS: --from nanogpt"
        )
    dtype, sequences, documents = _head(index_path)
    lengths, places, bounds = _arrays(index_path, sequences, documents)
    tokens = map_tokens(path, 0, dtype)
    ends = np.cumsum(lengths, dtype=np.int64)
    if not np.array_equal(places, (ends - lengths) * dtype.itemsize):
        raise DatasetError(f"{index_path}: sequences do not lie end to end; merge the files anew")
    if len(tokens) != (ends[-1] if len(ends) else 0):
        raise DatasetError(
            f"{path}: {len(tokens)} tokens of {dtype.name}, the index says "
            f"{ends[-1] if len(ends) else 0}; one of the two is cut off or of another file"
        )
    return TokenFile(path, tokens, np.concatenate([[0], ends])[bounds[1:]])


def _head(path: Path) -> "tuple[np.dtype[Any], int, int]":
    head = head_bytes(path, _HEAD.size)
    if len(head) < _HEAD.size or not head.startswith(_MAGIC):
        raise DatasetError(
            f"{path}: begins with {head[:9]!r}, a Megatron index with {_MAGIC!r}; not an index, "
            "or one of the old format, which Megatron's tools convert"
        )
    _, version, code, sequences, documents = _HEAD.unpack(head)
    if version != 1:
        raise DatasetError(f"{path}: index version {version} at byte 9, known is 1")
    if code not in _CODES:
        raise DatasetError(f"{path}: dtype code {code} at byte 17 is no integer type of Megatron's")
    return np.dtype(_CODES[code]), sequences, documents


def _arrays(
    path: Path, sequences: int, documents: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    expected = _HEAD.size + 12 * sequences + 8 * documents
    size = path.stat().st_size
    # A file of multimodal data has one byte more a sequence, its mode.
    if size not in (expected, expected + sequences):
        raise DatasetError(
            f"{path}: {size} bytes, {sequences} sequences and {documents - 1} documents make "
            f"{expected}; cut off or damaged, restore it"
        )
    places_at = _HEAD.size + 4 * sequences
    lengths = np.fromfile(path, "<i4", sequences, offset=_HEAD.size)
    places = np.fromfile(path, "<i8", sequences, offset=places_at)
    bounds = np.fromfile(path, "<i8", documents, offset=places_at + 8 * sequences)
    sound = len(bounds) and bounds[0] == 0 and bounds[-1] == sequences
    if not sound or (bounds[1:] < bounds[:-1]).any() or (lengths < 0).any():
        raise DatasetError(f"{path}: the document index does not run from 0 to {sequences}")
    return lengths, places, bounds
