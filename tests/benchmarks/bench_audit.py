"""How fast the audit is: kernels and whole commands, beside what others have.

python -m tests.benchmarks.bench_audit kernel [MB]    index; scan of text and shards
python -m tests.benchmarks.bench_audit large [MB]     the same with a hundred million runs of words
python -m tests.benchmarks.bench_audit rivals [MB] [NAME...]   janitor of lm-eval, datatrove, decon
python -m tests.benchmarks.bench_audit classic [MB]   the pass of the classic definitions

TALLY_TESTDATA names the folder with real text. `large` keeps its index (1.3 GB, made once) below
TALLY_CACHE; `decon` needs TALLY_DECON, a Python that has `decontaminate` (3.12 or newer). Times are
processor time of this process, the least of five; for two threads, time on the wall.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from random import Random
from resource import RUSAGE_SELF, getrusage
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from contamination.benchmarks import load_benchmarks
from contamination.classic_characters import character_index, match_characters
from contamination.classic_words import match_words, word_index
from contamination.corpus import Batch, TokenBatch, batch_of
from contamination.index import Index, build_index
from contamination.index_files import cached_index
from contamination.items import Benchmark, Item
from contamination.scan import scan, scan_tokens
from contamination.surprisal import Vocabulary, vocabulary_of
from contamination.token_words import document_sizes, token_table
from shards.cache import cache_directory
from shards.detokenize import byte_table
from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size

_BLOCKS = 4
_LARGE_WORDS, _ITEM_WORDS = 52_000_000, 60


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
    print(
        f"index of {len(sets)} sets: {time.process_time() - start:.1f} s, "
        f"{index.num_bytes / 1e6:.1f} MB, {len(index.places) / 1e6:.1f} M runs"
    )
    vocabulary = vocabulary_of(index.sequences)
    batch, packed = batch_of([text.encode() for text in texts]), _packed(texts)
    size, tokens = len(batch.data), len(packed.tokens)
    seconds = _best(lambda: scan(batch.data, batch.offsets, index, vocabulary))
    _print("text, one core", seconds, size)
    seconds = _best(lambda: scan_tokens(packed, index, vocabulary))
    _print("shards, one core", seconds, size, tokens)
    seconds = _best(lambda: _on_two(batch, index, vocabulary), time.perf_counter)
    _print("text, two threads, on the wall", seconds, size)


def large(texts: list[str], sets: list[Benchmark]) -> None:
    """An index of so many runs beside that of the real sets, in turns, on the same text."""
    start = time.process_time()
    big = cached_index([*sets, _made_up(_LARGE_WORDS, set(texts))], cache_directory() / "bench")
    gigabytes = getrusage(RUSAGE_SELF).ru_maxrss / 1e6
    print(f"index: {time.process_time() - start:.0f} s, where it was not made before; with the")
    print(f"making of its items, which is a good part of it: {gigabytes:.1f} GB of memory")
    for name, index in (("real sets", build_index(sets)), ("large", big)):
        seeds, size = len(index.places), index.num_bytes
        print(f"{name}: {seeds / 1e6:.1f} M runs, {size / 1e6:.0f} MB")
        vocabulary = vocabulary_of(index.sequences)
        batch = batch_of([text.encode() for text in texts])
        seconds = _best(lambda: scan(batch.data, batch.offsets, index, vocabulary))  # noqa: B023
        _print(f"text, one core, {name}", seconds, len(batch.data))


def _made_up(num_words: int, without: set[str]) -> Benchmark:
    """Items of sixty words of other real text; after one pass over it, in another order."""
    chooser, items, total = Random(0), list[Item](), 0
    others = (text for text in texts_of_size(1e6) if text not in without)
    words = [word for text in others for word in text.split()]
    while total < num_words:
        for start in range(0, len(words) - _ITEM_WORDS, _ITEM_WORDS):
            part = words[start : start + _ITEM_WORDS]
            if total >= len(words):
                chooser.shuffle(part)
            items.append(Item(str(len(items)), " ".join(part), ""))
            total += _ITEM_WORDS
    return Benchmark("made up", "test", "made up", tuple(items))


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
    known = {"janitor": _janitor, "datatrove": _datatrove, "decon": _decon}
    for name in sys.argv[3:] or known:
        _print(name, known[name](texts, sets), size)
    batch, index = batch_of([text.encode() for text in texts]), build_index(sets)
    vocabulary = vocabulary_of(index.sequences)
    _print("here", _best(lambda: scan(batch.data, batch.offsets, index, vocabulary)), size)


def _janitor(texts: list[str], sets: list[Benchmark]) -> float:
    """lm-eval's, in Python; finds the questions."""
    from lm_eval.decontamination.janitor import Janitor

    janitor = Janitor(ngram_n=13)
    questions = "\n".join(item.question for benchmark in sets for item in benchmark.items)
    janitor.register_contaminant_python(questions)
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


def _decon(texts: list[str], sets: list[Benchmark]) -> float:
    """Its own clock of the detection, one thread; items are planted to see that it finds any."""
    with TemporaryDirectory() as folder:
        root, number = Path(folder), 0
        for benchmark in sets:
            rows = [_decon_row(benchmark, k, number + k) for k in range(len(benchmark.items))]
            _write(root / f"evals/{benchmark.name}.jsonl", rows)
            number += len(rows)
        planted = [f"{text}\n\n{i.question}\n{i.answer}" for text, i in _pairs(texts, sets)]
        _write(root / "train/text.jsonl", [{"text": t} for t in planted + texts[len(planted) :]])
        code = "import decon; decon.detect(decon.Config('train', 'evals', 'out', worker_threads=1))"
        command = [os.environ["TALLY_DECON"], "-c", code]
        said = subprocess.run(command, cwd=root, check=True, capture_output=True, text=True).stdout
    found = re.findall(r"Contaminated documents +([\d,]+)", said)[0]
    print(f"decon: {found} documents found, {len(planted)} have an item")
    return float(re.findall(r"Detection time +([\d.]+)s", said)[0])


def _decon_row(benchmark: Benchmark, k: int, number: int) -> dict[str, Any]:
    item, facts = benchmark.items[k], {"eval_key": benchmark.name, "split": benchmark.split}
    facts |= {"question": item.question, "answer": item.answer, "passage": item.passage}
    facts |= {"fingerprint": f"{benchmark.name}{k}"}
    return facts | {"doc_id": number, "eval_instance_index": k, "is_correct": True}


def _pairs(texts: list[str], sets: list[Benchmark]) -> Iterator[tuple[str, Item]]:
    """A text with an item of each set in turn, for a hundred texts."""
    for k, text in enumerate(texts[:100]):
        yield text, sets[k % len(sets)].items[k]


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    what, megabytes = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 64.0
    sets = load_benchmarks(["olmo:all"])
    modes = {"kernel": kernel, "large": large, "rivals": rivals, "classic": classic}
    modes[what](texts_of_size(megabytes), sets)


if __name__ == "__main__":
    main()
