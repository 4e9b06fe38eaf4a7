"""The pass over the corpus for the classic definitions; pieces are kept as in `stored`."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from configs.terminal import progress
from contamination.classic import Name, Values, judge_characters, judge_words
from contamination.classic_characters import character_index, match_characters
from contamination.classic_words import WordMatches, match_words, no_matches, word_index
from contamination.corpus import Batch, Corpus
from contamination.items import Benchmark
from contamination.pieces import in_order
from contamination.stored import is_sound
from contamination.words import RECIPE_HASH
from shards.atomic import atomic_write
from shards.hashing import blake3_json

_VERSION = 1


def classic_values(
    corpus: Corpus,
    benchmarks: Sequence[Benchmark],
    names: Sequence[Name],
    work: Path,
    workers: int,
) -> list[Values]:
    """What the named definitions say of every item.

    Args:
        corpus: what is audited.
        benchmarks: what is looked for.
        names: of `contamination.classic.DEFINITIONS`.
        work: directory for scanned pieces.
        workers: threads; the result does not depend on it.
    """
    values = []
    sets = [[benchmark.name, benchmark.digest] for benchmark in benchmarks]
    folder = work / "classic" / blake3_json([_VERSION, RECIPE_HASH, sets])[:24]
    sizes = [len(benchmark.items) for benchmark in benchmarks]
    of_words = [name for name in names if name != "gpt4"]
    if of_words:
        words = word_index(benchmarks)
        matches = no_matches(words)
        for part in _parts(
            corpus, folder / "words", lambda batch: _flat(match_words(batch, words)), workers
        ):
            matches.merge(_unflat(part, len(words.words)))
        values += judge_words(of_words, words, matches, sizes)
    if "gpt4" in names:
        characters = character_index(benchmarks)
        found = np.zeros(len(characters.item), np.bool_)
        for part in _parts(
            corpus, folder / "characters", lambda b: match_characters(b, characters), workers
        ):
            found |= part.astype(np.bool_)
        values.append(judge_characters(characters, found, sum(sizes)))
    return values


def _flat(matches: WordMatches) -> NDArray[np.int32]:
    """One array whose parts merge by the larger value: both flags, and the longest runs."""
    return np.concatenate([matches.seen, matches.skip, matches.longest]).astype(np.int32)


def _unflat(flat: NDArray[np.int32], num_words: int) -> WordMatches:
    seen, skip, longest = np.split(flat, [num_words, 2 * num_words])
    return WordMatches(seen.astype(np.bool_), longest, skip.astype(np.bool_))


def _parts(
    corpus: Corpus, folder: Path, task: Callable[[Batch], NDArray[np.generic]], workers: int
) -> Iterator[NDArray[np.int32]]:
    """The results of the pieces that have blocks, from `folder` or scanned now."""
    total = sum(piece.size for piece in corpus.pieces) * corpus.unit_scale
    with (
        progress("scanning by the classic definitions", total, corpus.unit) as bar,
        ThreadPoolExecutor(workers) as pool,
    ):
        for piece in corpus.pieces:
            path = folder / f"{piece.key}.npz"
            if not is_sound(path):
                blocks = in_order(
                    corpus, piece, lambda block: task(corpus.decode(block)), pool, workers, bar
                )
                _save(path, blocks)
            part = _load(path)
            if len(part):
                yield part


def _save(path: Path, blocks: Iterator[NDArray[np.generic]]) -> None:
    """Merges the blocks of a piece; few of an audit's items are in it, so only those are kept."""
    merged: NDArray[np.int32] | None = None
    for block in blocks:
        values = block.astype(np.int32)
        merged = values if merged is None else np.maximum(merged, values)
    merged = np.zeros(0, np.int32) if merged is None else merged
    places = np.flatnonzero(merged)
    with atomic_write(path) as file:
        np.savez(file, size=np.array([len(merged)]), places=places, values=merged[places])


def _load(path: Path) -> NDArray[np.int32]:
    with np.load(path, allow_pickle=False) as stored:
        out = np.zeros(int(stored["size"][0]), np.int32)
        out[stored["places"]] = stored["values"]
    return out
