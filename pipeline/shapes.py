"""What is known of chunks' shapes, for all texts of a process.

How a chunk is cut depends on nothing but its shape (see `pipeline/cutting.py`), so what one task
learned serves the next, and no decision depends on which texts came before.
"""

import re
from array import array
from functools import cache
from itertools import accumulate, pairwise

import numpy as np
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.characters import codes
from pipeline.cutting import slot_of, spell
from pipeline.words import english

_REMEMBERED = 400_000


class Shapes:
    """The words of every shape met, as a hash table for `pipeline.cutting.cut`.

    Attributes:
        keys: uint64; hashes of shapes, 0 where there is none.
        firsts: int64; where the entry of a key begins in `ends`.
        ends: int16; entries: how many words, then where in the shape each of them ends.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._make_room(1024)
        self._used = self._known = 0
        self.ends = np.zeros(0, np.int16)

    @property
    def is_full(self) -> bool:
        """Whether to forget before the next text; some tens of megabytes."""
        return self._known > _REMEMBERED

    def learn(self, unknown: NDArray[np.uint32], ends: list[int]) -> None:
        """Ask spaCy's rules about shapes, and remember what they say.

        Args:
            unknown: the shapes, one after the other.
            ends: where each of them ends.
        """
        bounds = pairwise([0, *ends])
        shapes = list(dict.fromkeys(_text(unknown[start:end]) for start, end in bounds))
        entries, firsts = array("h"), list[int]()
        for shape in shapes:
            words = english().words(shape)
            firsts.append(self._used + len(entries))
            entries.extend([len(words), *accumulate(map(len, words))])
        self._append(entries)
        self._known += len(shapes)
        if 2 * self._known > len(self.keys):
            self._grow()
        _remember(self.keys, self.firsts, hashes_of(shapes), np.array(firsts))

    def _append(self, entries: "array[int]") -> None:
        start, self._used = self._used, self._used + len(entries)
        if self._used > len(self.ends):
            self.ends = np.concatenate([self.ends, np.zeros(self._used, np.int16)])
        self.ends[start : self._used] = entries

    def _grow(self) -> None:
        keys, firsts = self.keys, self.firsts
        self._make_room(4 * self._known)
        _remember(self.keys, self.firsts, keys[keys > 0], firsts[keys > 0])

    def _make_room(self, least: int) -> None:
        size = 1 << least.bit_length()
        self.keys, self.firsts = np.zeros(size, np.uint64), np.zeros(size, np.int64)


@cache
def known_shapes() -> Shapes:
    """The table of this process."""
    return Shapes()


def hashes_of(texts: list[str]) -> NDArray[np.uint64]:
    """Hash of every text, as of a word."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    hashes: NDArray[np.uint64] = _spell_all(codes("".join(texts)), lengths)
    return hashes


@cache
def exceptions() -> NDArray[np.uint64]:
    """Hash table of the runs of letters that the rules name; their letters matter."""
    special = english().special
    runs = {run for chunk in special for run in re.findall("[A-Za-z]{2,}", chunk)}
    hashes = hashes_of(sorted(runs | {chunk for chunk in special if chunk.isalpha()}))
    table = np.zeros(1 << (4 * len(hashes)).bit_length(), np.uint64)
    _remember(table, np.zeros(len(table), np.int64), hashes, np.zeros(len(hashes), np.int64))
    return table


def _text(characters: NDArray[np.uint32]) -> str:
    return characters.tobytes().decode("utf-32-le", "surrogatepass")


@kernel
def _spell_all(codes: NDArray[np.uint32], lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
    hashes, start = np.empty(len(lengths), np.uint64), 0
    for text in range(len(lengths)):
        hashes[text] = spell(codes, start, start + lengths[text])
        start += lengths[text]
    return hashes


@kernel
def _remember(
    keys: NDArray[np.uint64],
    values: NDArray[np.int64],
    new_keys: NDArray[np.uint64],
    new_values: NDArray[np.int64],
) -> None:
    """Puts keys and their values into an open hash table that has room."""
    for row in range(len(new_keys)):
        slot = slot_of(keys, new_keys[row])
        keys[slot], values[slot] = new_keys[row], new_values[row]
