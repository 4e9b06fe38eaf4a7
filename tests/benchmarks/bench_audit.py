"""How fast the audit is: kernels and whole commands, beside what others have.

python -m tests.benchmarks.bench_audit kernel [MB]    index; scan of text and shards
python -m tests.benchmarks.bench_audit rivals [MB]    lm-eval's janitor, datatrove's n-gram stage
python -m tests.benchmarks.bench_audit classic [MB]   the pass of the classic definitions

TALLY_TESTDATA names the folder with real text. Times are processor time of this process, the least
of five; for two threads, time on the wall.
"""

import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from contamination.benchmarks import load_benchmarks
from contamination.classic_characters import character_index, match_characters
from contamination.classic_words import match_words, word_index
from contamination.corpus import Batch, TokenBatch, batch_of
from contamination.index import Index, build_index
from contamination.items import Benchmark
from contamination.scan import scan, scan_tokens
from contamination.surprisal import Vocabulary, vocabulary_of
from contamination.token_words import document_sizes, token_table
from shards.detokenize import byte_table
from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size

_BLOCKS = 4


def _best(call: Callable[[], Any], clock: Callable[[], float] = time.process_time) -> float:
    call()
    times = []
    for _ in range(5):
        start = clock()
        call()
        times.append(clock() - start)
    return min(times)


def _print(name: str, seconds: float, num_bytes: int, tokens: int = 0) -> None:
    rate = f"{num_bytes / seconds / 1e6:8.1f} MB/s"
    print(f"{name:34} {rate}" + (f" {tokens / seconds / 1e6:7.1f} M tokens/s" if tokens else ""))


def _packed(texts: list[str]) -> TokenBatch:
    tokenizer = Tokenizer.from_file(str(data_folder() / TOKENIZER))
    ids = [e.ids for e in tokenizer.encode_batch(texts, add_special_tokens=False)]
    lengths = np.array([len(one) for one in ids])
    stops = np.cumsum(lengths)
    tokens = np.concatenate([np.array(one, np.uint16) for one in ids])
    table = token_table(byte_table(tokenizer))
    sizes = np.empty(len(ids), np.int64)
    document_sizes(tokens, stops - lengths, stops, table.rows, sizes)
    return TokenBatch(tokens, stops - lengths, stops, sizes, table)


def kernel(texts: list[str], sets: list[Benchmark]) -> None:
    """The index, and the scan of text and of tokens."""
    build_index(sets[:1])
    start = time.process_time()
    index = build_index(sets)
    print(f"index of {len(sets)} sets: {time.process_time() - start:.1f} s, {_size(index):.0f} MB")
    vocabulary = vocabulary_of(index.sequences)
    batch, packed = batch_of([text.encode() for text in texts]), _packed(texts)
    size, tokens = len(batch.data), len(packed.tokens)
    seconds = _best(lambda: scan(batch.data, batch.offsets, index, vocabulary))
    _print("text, one core", seconds, size)
    seconds = _best(lambda: scan_tokens(packed, index, vocabulary))
    _print("shards, one core", seconds, size, tokens)
    seconds = _best(lambda: _on_two(batch, index, vocabulary), time.perf_counter)
    _print("text, two threads, on the wall", seconds, size)


def _size(index: Index) -> float:
    arrays: list[NDArray[Any]] = [index.seeds, index.buckets, index.filter, index.postings]
    arrays += [index.posting_item, index.posting_position, index.sequences.words]
    return sum(array.nbytes for array in arrays) / 1e6


def _on_two(batch: Batch, index: Index, vocabulary: Vocabulary) -> None:
    cuts = np.linspace(0, len(batch.offsets) - 1, _BLOCKS + 1).astype(int)
    with ThreadPoolExecutor(2) as pool:
        for start, stop in pairwise(cuts):
            part = batch.offsets[start : stop + 1]
            pool.submit(scan, batch.data, part, index, vocabulary)


def classic(texts: list[str], sets: list[Benchmark]) -> None:
    """The pass of the classic definitions."""
    batch = batch_of([text.encode() for text in texts])
    words, characters = word_index(sets), character_index(sets)
    _print("words (four definitions)", _best(lambda: match_words(batch, words)), len(batch.data))
    seconds = _best(lambda: match_characters(batch, characters))
    _print("characters (GPT-4)", seconds, len(batch.data))


def rivals(texts: list[str], sets: list[Benchmark]) -> None:
    """What others need for the same text and items; their matching alone."""
    size = sum(len(text.encode()) for text in texts)
    questions = [item.question for benchmark in sets for item in benchmark.items]
    _print("lm-eval janitor (Python)", _janitor(texts, questions), size)
    _print("datatrove n-gram decontamination", _datatrove(texts, sets), size)


def _janitor(texts: list[str], questions: list[str]) -> float:
    from lm_eval.decontamination.janitor import Janitor

    janitor = Janitor(ngram_n=13)
    janitor.register_contaminant_python("\n".join(questions))
    start = time.process_time()
    for text in texts:
        janitor.clean_python(text)
    return time.process_time() - start


def _datatrove(texts: list[str], sets: list[Benchmark]) -> float:
    """Its own words and hashes, put together as in `NGramsDecontFilter`.

    The stage itself wants lighteval, which is not among the dependencies.
    """
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig
    from datatrove.utils.hashing import create_hash_func
    from datatrove.utils.text import ngrams, simplify_text
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    config, tokenizer = NGramsDecontConfig(), load_word_tokenizer("en")
    hashed = create_hash_func(config.hash_config)
    known: set[int] = set()
    for item in sets[0].items:
        words = tokenizer.word_tokenize(simplify_text(item.question, config.norm_config))
        known.update(hashed(" ".join(gram)) for gram in ngrams(words, config.n_grams))
    start = time.process_time()
    for text in texts:
        words = tokenizer.word_tokenize(simplify_text(text, config.norm_config))
        for gram in ngrams(words, config.n_grams):
            if hashed(" ".join(gram)) in known:
                break
    return time.process_time() - start


def main() -> None:
    what, megabytes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 64.0
    sets = load_benchmarks(["olmo:all"])
    {"kernel": kernel, "rivals": rivals, "classic": classic}[what](texts_of_size(megabytes), sets)


if __name__ == "__main__":
    main()
