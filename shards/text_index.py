"""The text index of a dataset: from a passage to the tokens where it may stand, in milliseconds.

    TALLY_CACHE/text/<dataset_id>/<source>/<split>/00000.grams    a table a shard (`hash_table`)
                                                   00000.sums     checksums of its blocks

`tally inspect DATASET --index` makes it, from the tokens alone; it may be deleted at any time. It
holds the sample of token sequences that `shards.grams` chooses, 0.37 bytes a token. A passage is
encoded as if it stood alone; its first and last words, which may be cut in other tokens where they
stand, are left aside, and what is left must have SURE_TOKENS tokens.
"""

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from shards.atomic import atomic_write
from shards.cache import cache_directory
from shards.errors import DatasetError
from shards.grams import SURE_TOKENS, sampled
from shards.hash_table import find_values, write_sums, write_table
from shards.manifest import ShardFacts
from shards.reader import Dataset, TokenStream

_READERS = 8  # tables read at the same time: a disk answers many questions as fast as one
_MARGIN = 8  # tokens left aside at both ends where the tokenizer cuts no words


class Probe(NamedTuple):
    """A token sequence that the index holds wherever the passage stands."""

    key: int
    offset: int
    """Of its first token in the passage."""


class Passage(NamedTuple):
    """A text to look for, as tokens."""

    text: str
    num_tokens: int
    probes: tuple[Probe, ...]
    """None where the text is too short for the index."""


class Candidate(NamedTuple):
    """Where a passage may stand, in tokens of the stream."""

    start: int
    """First token of the passage, if it is cut there as it is alone."""
    probe: int
    """First token of the sequence that was found."""


def encode_passage(tokenizer: Tokenizer, text: str) -> Passage:
    """Prepare a text for the index."""
    tokenizer.encode_special_tokens = True  # as text, like the build
    encoding = tokenizer.encode(text, add_special_tokens=False)
    ids, words = np.array(encoding.ids, np.uint32), encoding.word_ids
    first, stop = _MARGIN, len(ids) - _MARGIN
    if len(set(words)) > 1:
        first = words.count(words[0])
        stop = len(ids) - words.count(words[-1])
    return Passage(text, len(ids), _probes(ids[first : max(stop, first)], first))


def _probes(inside: npt.NDArray[np.uint32], first: int) -> tuple[Probe, ...]:
    """Of the first, a middle and the last window: one is enough where all is cut alike."""
    room = len(inside) - SURE_TOKENS
    if room < 0:
        return ()
    found = set[Probe]()
    for place in {0, room // 2, room}:
        keys, positions = sampled(inside[place : place + SURE_TOKENS])
        found.add(Probe(int(keys[0]), first + place + int(positions[0])))
    return tuple(sorted(found))


class TextIndex:
    """The text index of one dataset, whole, in parts, or not there yet."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.directory = cache_directory() / "text" / dataset.manifest.dataset_id

    def missing(self) -> list[tuple[TokenStream, int]]:
        """Shards that have no table yet: stream and number."""
        return [
            (self._dataset.stream(source, split), number)
            for source, facts in self._dataset.manifest.sources.items()
            for split, split_facts in facts.splits.items()
            for number, shard in enumerate(split_facts.shards)
            if not _sums_of(self._path(shard)).is_file()
        ]

    def build(self, advance: Callable[[float], None] = lambda _: None) -> None:
        """Make the tables that are missing, a thread a core, about 3 bytes a token of memory each.

        Args:
            advance: called with the tokens of every shard once it is done.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            for done in pool.map(lambda shard: self._make(*shard), self.missing()):
                advance(done)

    def num_bytes(self) -> int:
        """Size of the tables on disk."""
        return sum(path.stat().st_size for path in self.directory.rglob("*.grams"))

    def candidates(self, stream: TokenStream, passage: Passage) -> list[Candidate]:
        """Where the passage may stand in a stream, in order; each place once."""
        keys = [probe.key for probe in passage.probes]
        paths = [self._path(shard) for shard in stream.facts.shards]
        with ThreadPoolExecutor(_READERS) as pool:
            tables = list(pool.map(lambda path: _looked_up(path, keys), paths))
        found: dict[int, int] = {}
        for base, places in zip(stream.starts, tables, strict=False):
            for probe, positions in zip(passage.probes, places, strict=True):
                for position in positions:
                    found[base + position - probe.offset] = base + position
        return [Candidate(start, probe) for start, probe in sorted(found.items())]

    def _make(self, stream: TokenStream, number: int) -> int:
        tokens = stream.shard_tokens(number)
        if len(tokens) >= 1 << 32:
            raise DatasetError(
                f"{stream.facts.shards[number].path}: the text index has 32 bits for a token's "
                "place; build the dataset with smaller shards"
            )
        path = self._path(stream.facts.shards[number])
        table = io.BytesIO()
        write_table(table, *sampled(tokens))
        with atomic_write(path) as file:
            file.write(table.getbuffer())
        with atomic_write(_sums_of(path)) as file:  # last: its presence says the table is whole
            write_sums(table.getvalue(), file)
        return len(tokens)

    def _path(self, shard: ShardFacts) -> Path:
        return (self.directory / shard.path).with_suffix(".grams")


def _sums_of(path: Path) -> Path:
    return path.with_suffix(".sums")


def _looked_up(path: Path, keys: list[int]) -> list[list[int]]:
    """Like `find_values`; a damaged table is taken away, so that it is made anew."""
    try:
        return find_values(path, keys, _sums_of(path))
    except DatasetError as error:
        for damaged in (_sums_of(path), path):
            damaged.unlink(missing_ok=True)
        raise DatasetError(
            f"{error}: this part of the text index is removed; make it anew with "
            "`tally inspect DATASET --index`, or ask again and all tokens are searched"
        ) from None
