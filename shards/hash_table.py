"""A file that answers "which entries have this key?" by reading a few of its pages.

Keys are 32-bit hashes, values 32-bit numbers (a row, a token). Entries are sorted by key and cut
into buckets by the key's leading bits; only the other bits are stored. A look-up reads one entry
of the bucket table and one bucket, whatever the size of the file. Two keys may share a hash:
whoever asks must check what the values lead to.

    magic, 8 bytes | entries, uint32 | bucket bits, uint32
    first entry of every bucket, and the end: uint32 [2**bits + 1]
    the keys' other bits: uint16, or uint32 where they are more than 16 [entries]
    values: uint32 [entries]
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shards.errors import DatasetError

_MAGIC = b"TALLYHT1"
_HEADER_BYTES = 16
_BUCKET_ENTRIES = 16  # on average; a page holds some two thousand
_MOST_BITS = 24
_BLOCK_BYTES, _SUM_BYTES = 4096, 8

Values = npt.NDArray[np.uint32]


def write_table(file: IO[Any], keys: Values, values: Values) -> None:
    """Write a table: the same bytes whatever the order of the entries.

    Args:
        file: open for writing bytes.
        keys: uint32 [n], uniform hashes; may repeat.
        values: uint32 [n].
    """
    packed = np.sort(keys.astype(np.uint64) << np.uint64(32) | values)
    keys = (packed >> np.uint64(32)).astype("<u4")
    bits = min(max((len(keys) // _BUCKET_ENTRIES).bit_length() - 1, 0), _MOST_BITS)
    bounds = np.arange((1 << bits) + 1, dtype=np.uint64) << np.uint64(32 - bits)
    file.write(_MAGIC + np.array([len(keys), bits], "<u4").tobytes())
    file.write(np.searchsorted(keys, bounds).astype("<u4").tobytes())
    file.write((keys & _rest_mask(bits)).astype(_rest_dtype(bits)).tobytes())
    file.write(packed.astype("<u4").tobytes())  # the low half


def write_sums(table: bytes, file: IO[Any]) -> None:
    """Write the checksums of a table's blocks, for `find_values` to check what it reads."""
    for start in range(0, len(table), _BLOCK_BYTES):
        file.write(_sum_of(table[start : start + _BLOCK_BYTES]))


def find_values(path: Path, keys: Iterable[int], sums: Path | None = None) -> list[list[int]]:
    """The values of all entries with each of the keys, ascending.

    Args:
        path: the table.
        keys: 32-bit hashes.
        sums: what `write_sums` wrote of it; without, damage to the entries stays unseen.

    Raises:
        DatasetError: not such a table, cut off, or damaged where it is read.
    """
    with path.open("rb") as file:
        table = _Table(path, file.fileno(), None if sums is None else sums.read_bytes())
        return [table.find(key) for key in keys]


def _sum_of(block: bytes) -> bytes:
    return blake3(block).digest(length=_SUM_BYTES)


class _Table:
    """An open table. Read, not mapped: the system would read ahead at every page it touches."""

    def __init__(self, path: Path, descriptor: int, sums: bytes | None) -> None:
        self._path, self._descriptor, self._sums = path, descriptor, sums
        self._size = size = os.fstat(descriptor).st_size
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)
        if size < _HEADER_BYTES:
            raise DatasetError(f"{path}: not a look-up table; make it again")
        header = self._bytes(0, _HEADER_BYTES)
        if not header.startswith(_MAGIC):
            raise DatasetError(f"{path}: not a look-up table; make it again")
        entries, self._bits = np.frombuffer(header, "<u4", offset=len(_MAGIC)).tolist()
        if self._bits > _MOST_BITS:
            raise DatasetError(
                f"{path}: damaged at byte 12: 2**{self._bits} buckets; make it again"
            )
        self._entries = entries
        self._rest = _rest_dtype(self._bits)
        self._rests = _HEADER_BYTES + 4 * ((1 << self._bits) + 1)
        self._values = self._rests + entries * self._rest.itemsize
        if size != self._values + 4 * entries:
            raise DatasetError(f"{path}: {size} bytes are no table of {entries}; make it again")

    def find(self, key: int) -> list[int]:
        bucket = key >> (32 - self._bits)
        first, stop = self._read(_HEADER_BYTES, np.dtype("<u4"), bucket, bucket + 2).tolist()
        if not first <= stop <= self._entries:
            at = _HEADER_BYTES + 4 * bucket
            raise DatasetError(f"{self._path}: damaged at byte {at}: entries {first} to {stop}")
        rests = self._read(self._rests, self._rest, first, stop)
        rest = rests.dtype.type(key & int(_rest_mask(self._bits)))
        low, high = (first + int(np.searchsorted(rests, rest, side)) for side in ("left", "right"))
        found: list[int] = self._read(self._values, np.dtype("<u4"), low, high).tolist()
        return found

    def _read(self, base: int, dtype: np.dtype[Any], first: int, stop: int) -> npt.NDArray[Any]:
        start = base + first * dtype.itemsize
        return np.frombuffer(self._bytes(start, start + (stop - first) * dtype.itemsize), dtype)

    def _bytes(self, start: int, stop: int) -> bytes:
        """Bytes [start, stop) of the file, whose blocks are whole."""
        if self._sums is None:
            return self._pread(start, stop)
        low = start - start % _BLOCK_BYTES
        data = self._pread(low, min(stop + -stop % _BLOCK_BYTES, self._size))
        for at in range(0, len(data), _BLOCK_BYTES):
            place = (low + at) // _BLOCK_BYTES * _SUM_BYTES
            wanted = self._sums[place : place + _SUM_BYTES]
            if _sum_of(data[at : at + _BLOCK_BYTES]) != wanted:
                raise DatasetError(f"{self._path}: damaged in the block at byte {low + at}")
        return data[start - low : stop - low]

    def _pread(self, start: int, stop: int) -> bytes:
        data = b""
        while len(data) < stop - start:  # network storage may give less than was asked for
            more = os.pread(self._descriptor, stop - start - len(data), start + len(data))
            if not more:
                raise DatasetError(f"{self._path}: ends at byte {start + len(data)}; make it again")
            data += more
        return data


def _rest_mask(bits: int) -> np.uint32:
    return np.uint32((1 << (32 - bits)) - 1)


def _rest_dtype(bits: int) -> np.dtype[Any]:
    return np.dtype("<u2") if bits >= 16 else np.dtype("<u4")
