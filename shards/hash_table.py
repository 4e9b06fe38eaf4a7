"""A file that answers "which entries have this key?" by reading a few of its pages.

Keys are 32-bit hashes, values 32-bit numbers (a row, a token). Entries are sorted by key and cut
into buckets by the key's leading bits; only the other bits are stored. Memory-mapped, a look-up
touches one entry of the bucket table and one bucket, whatever the size of the file. Two keys may
share a hash: whoever asks must check what the values lead to.

    magic, 8 bytes | entries, uint32 | bucket bits, uint32
    first entry of every bucket, and the end: uint32 [2**bits + 1]
    the keys' other bits: uint16, or uint32 where they are more than 16 [entries]
    values: uint32 [entries]
"""

from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from shards.errors import DatasetError

_MAGIC = b"TALLYHT1"
_HEADER_BYTES = 16
_BUCKET_ENTRIES = 16  # on average; a page holds some two thousand
_MOST_BITS = 24

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


class HashTable:
    """A table opened for look-ups."""

    def __init__(self, path: Path) -> None:
        """Map the file.

        Raises:
            DatasetError: not such a table, or cut off.
        """
        data = np.asarray(np.memmap(path, np.uint8, "r"))
        if len(data) < _HEADER_BYTES or data[:8].tobytes() != _MAGIC:
            raise DatasetError(f"{path}: not a look-up table; rebuild or restore it")
        entries, self._bits = data[8:16].view("<u4").tolist()
        rest = _rest_dtype(self._bits)
        ends = _HEADER_BYTES + np.cumsum(
            [4 * ((1 << self._bits) + 1), entries * rest.itemsize, 4 * entries]
        )
        if len(data) != ends[2]:
            raise DatasetError(f"{path}: {len(data)} bytes, a table of {entries} has {ends[2]}")
        self._firsts = data[_HEADER_BYTES : ends[0]].view("<u4")
        self._rests = data[ends[0] : ends[1]].view(rest)
        self._values = data[ends[1] :].view("<u4")

    def find(self, key: int) -> Values:
        """Values of all entries with this key, ascending: uint32 [n]."""
        bucket = key >> (32 - self._bits)
        first, stop = self._firsts[bucket : bucket + 2].tolist()
        rests = self._rests[first:stop]
        rest = rests.dtype.type(key & int(_rest_mask(self._bits)))
        low, high = (first + int(np.searchsorted(rests, rest, side)) for side in ("left", "right"))
        return self._values[low:high]


def _rest_mask(bits: int) -> np.uint32:
    return np.uint32((1 << (32 - bits)) - 1)


def _rest_dtype(bits: int) -> np.dtype[Any]:
    return np.dtype("<u2") if bits >= 16 else np.dtype("<u4")
