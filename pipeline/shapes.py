"""What is known of chunks' shapes, for all texts of a process.

How a chunk is cut depends on nothing but its shape (see `pipeline/cutting.py`), so what one task
learned serves the next, and no decision depends on which texts came before.
"""

import re
from array import array
from functools import cache
from itertools import accumulate
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from contamination.jit import kernel
from pipeline.characters import codes
from pipeline.cutting import slot_of, spell
from pipeline.words import english

_REMEMBERED = 400_000


class Known(NamedTuple):
    """Shapes with their words, in an order of their own.

    Attributes:
        keys: uint64; hashes of the shapes.
        sizes: int64; of their entries.
        entries: int16; as in `Shapes.ends`, one after the other.
    """

    keys: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    entries: NDArray[np.int16]

    def chosen(self, which: NDArray[np.bool_]) -> "Known":
        """Some of them."""
        return Known(self.keys[which], self.sizes[which], self.entries[which.repeat(self.sizes)])


class Shapes:
    """The words of every shape met, as a hash table for `pipeline.cutting.cut`.

    Attributes:
        keys: uint64; hashes of shapes, 0 where there is none.
        firsts: int64; where the entry of a key begins in `ends`.
        ends: int16; entries: how many words, then where in the shape each of them ends.
        number: of shapes.
    """

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew."""
        self._make_room(1024)
        self._used = self.number = 0
        self.ends = np.zeros(0, np.int16)

    @property
    def is_full(self) -> bool:
        """Whether to forget before the next text; some tens of megabytes."""
        return self.number > _REMEMBERED

    def learn(
        self,
        unknown: NDArray[np.uint32],
        ends: NDArray[np.int64],
        keys: NDArray[np.uint64],
        number: int,
    ) -> None:
        """Ask spaCy's rules about shapes, and remember what they say.

        Args:
            unknown: the shapes, one after the other; some may be there twice.
            ends: where each of them ends.
            keys: their hashes.
            number: how many there are.
        """
        bounds = ends[:number].tolist()
        text = _text(unknown[: bounds[-1]])
        cuts = map(slice, [0, *bounds], bounds)
        shapes = dict(zip(keys[:number].tolist(), map(text.__getitem__, cuts), strict=True))
        entries, sizes = array("h"), array("q")
        for words in map(english().words, shapes.values()):
            entries.extend([len(words), *accumulate(map(len, words))])
            sizes.append(len(words) + 1)
        self.add(Known(np.array(list(shapes), np.uint64), np.array(sizes), np.array(entries)))

    def add(self, new: Known) -> None:
        """Remember shapes that are not remembered yet."""
        firsts = self._used + np.cumsum(new.sizes) - new.sizes
        start, self._used = self._used, self._used + len(new.entries)
        if self._used > len(self.ends):
            self.ends = np.concatenate([self.ends, np.zeros(self._used, np.int16)])
        self.ends[start : self._used] = new.entries
        self.number += len(new.keys)
        if 2 * self.number > len(self.keys):
            self._grow()
        _remember(self.keys, self.firsts, new.keys, firsts)

    def lacks(self, keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which of the hashes are those of shapes that are not remembered."""
        lacking: NDArray[np.bool_] = _lacking(self.keys, keys)
        return lacking

    def known(self) -> Known:
        """All of them, in the order in which they were learned."""
        taken = np.flatnonzero(self.keys)
        taken = taken[np.argsort(self.firsts[taken])]
        firsts = np.append(self.firsts[taken], self._used)
        return Known(self.keys[taken], np.diff(firsts), self.ends[: self._used])

    def _grow(self) -> None:
        keys, firsts = self.keys, self.firsts
        self._make_room(4 * self.number)
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
def _lacking(keys: NDArray[np.uint64], asked: NDArray[np.uint64]) -> NDArray[np.bool_]:
    lacking = np.empty(len(asked), np.bool_)
    for row in range(len(asked)):
        lacking[row] = keys[slot_of(keys, asked[row])] == 0
    return lacking


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
