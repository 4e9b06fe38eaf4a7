"""Near-duplicates, all stages, one core: speed, recall and precision, ours against datatrove.

Run: `TALLY_TESTDATA=... TALLY_RIVAL_PYTHON=... taskset -c 0 python tests/benchmarks/bench_dedup.py
[MEGABYTES] [RUNS]`.

Real documents, and among them copies of every tenth with words replaced at random places, so that
similarities from 0.5 to 1 are there. Truth is the exact Jaccard similarity of word 5-grams of every
planted pair and of every pair the rival or we propose. Recall: of planted pairs by similarity, how
many lose at least one document. Precision: of the documents dropped, how many have a document left
in the set that resembles them. The labelled near-duplicates of the test data (the same articles by
several extractors, the same sentences in another order) are measured in the same way, with truth
from all pairs within a cluster.
"""

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from configs.cleaning import DedupConfig
from pipeline.dedup import DUPLICATES
from pipeline.ngrams import jaccard_of_pairs, ngrams_of, sorted_sets
from tests.benchmarks.bench_tokenize import rival
from tests.benchmarks.corpus import data_folder, texts_of_size, write_documents
from tests.benchmarks.rival_datatrove import timed
from tests.helpers_dedup import dedup_stages, run_stage

BANDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)


class Corpus(NamedTuple):
    """Texts, and pairs of them that may be near-duplicates, with their similarity."""

    texts: list[str]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    similarity: NDArray[np.float64]


def planted(megabytes: float, every: int = 10) -> Corpus:
    """Real documents and edited copies of some: 0.1 to 12 % of words replaced."""
    rng = np.random.default_rng(11)
    texts, left, right = texts_of_size(megabytes), [], []
    for i in range(0, len(texts), every):
        words = texts[i].split(" ")
        if len(words) >= 60:
            share = 10 ** rng.uniform(-3, np.log10(0.12))
            for place in rng.choice(len(words), max(1, int(share * len(words))), replace=False):
                words[place] = f"edit{rng.integers(1 << 30)}"
            left.append(i)
            right.append(len(texts))
            texts.append(" ".join(words))
    return _corpus(texts, left, right)


def labelled() -> Corpus:
    """The test data's near-duplicates: all pairs within every cluster."""
    texts: list[str] = []
    left: list[int] = []
    right: list[int] = []
    for members in _clusters():
        first = len(texts)
        texts += members
        i, j = np.triu_indices(len(members), 1)
        left += (i + first).tolist()
        right += (j + first).tolist()
    return _corpus(texts, left, right)


def _clusters() -> Iterator[list[str]]:
    for name in ("article_extractions", "owt_5", "wikipedia_5"):
        rows: dict[str, list[str]] = {}
        path = data_folder() / f"corpora/near_dups/{name}.jsonl.gz"
        with gzip.open(path, "rt", encoding="utf-8") as file:
            for row in map(json.loads, file):
                rows.setdefault(str(row["cluster"]), []).append(row["text"])
        yield from rows.values()


def _corpus(texts: list[str], left: list[int], right: list[int]) -> Corpus:
    sets = sorted_sets(ngrams_of(pa.array(texts, pa.large_string()), 5))
    pairs = np.array(left, np.int64), np.array(right, np.int64)
    return Corpus(texts, *pairs, jaccard_of_pairs(sets.hash, sets.offsets, *pairs))


def ours(folder: Path, num_documents: int, config: DedupConfig) -> dict[str, Any]:
    """All stages; seconds and the ids left."""
    documents = folder / "in/00000.parquet"
    with tempfile.TemporaryDirectory(dir=folder) as made:
        stages = dedup_stages(Path(made), [("a", documents)], config)
        times = [timed(lambda stage=stage: run_stage(stage)) for stage in stages.all()]  # type: ignore[misc]
        gone = set(pl.read_parquet(stages.decide.directory / DUPLICATES)["doc_id"])
    kept = [name for name in (f"d{i}" for i in range(num_documents)) if name not in gone]
    return {
        "wall": sum(wall for wall, _ in times), "cpu": sum(cpu for _, cpu in times),
        "stages": [round(cpu, 2) for _, cpu in times], "kept": kept,
    }  # fmt: skip


def recall(corpus: Corpus, kept: list[str]) -> list[tuple[int, int]]:
    """By band of similarity: pairs of which a document was dropped, and pairs."""
    is_kept = np.zeros(len(corpus.texts), np.bool_)
    is_kept[[int(name[1:]) for name in kept]] = True
    hit = ~(is_kept[corpus.left] & is_kept[corpus.right])
    out = []
    for low, high in zip(BANDS, [*BANDS[1:], 2.0], strict=True):
        band = (corpus.similarity >= low) & (corpus.similarity < high)
        out.append((int(hit[band].sum()), int(band.sum())))
    return out


def precision(corpus: Corpus, kept: list[str]) -> dict[float, tuple[int, int]]:
    """Least similarity -> dropped documents that have a kept one at least so similar, and all.

    Every dropped document is compared with every kept one that shares any 5-gram with it.
    """
    names = {int(name[1:]) for name in kept}
    dropped = np.array([i for i in range(len(corpus.texts)) if i not in names])
    sets = sorted_sets(ngrams_of(pa.array(corpus.texts, pa.large_string()), 5))
    sizes = np.diff(sets.offsets)
    grams = pl.DataFrame({"gram": sets.hash, "doc": np.repeat(np.arange(len(sizes)), sizes)})
    rare = grams.filter(pl.len().over("gram") <= 200)  # boilerplate shared by more says little
    of_dropped = rare.filter(pl.col("doc").is_in(dropped))
    of_kept = rare.filter(pl.col("doc").is_in(sorted(names)))
    pairs = of_dropped.join(of_kept, "gram").select("doc", "doc_right").unique()
    left, right = (pairs[name].to_numpy() for name in ("doc", "doc_right"))
    best = np.zeros(len(sizes))
    np.maximum.at(best, left, jaccard_of_pairs(sets.hash, sets.offsets, left, right))
    levels = (0.5, 0.7, 0.75)
    return {level: (int((best[dropped] >= level).sum()), len(dropped)) for level in levels}


def compare(title: str, corpus: Corpus, runs: int) -> None:
    """Run both on one corpus and print the table."""
    configs = {"ours": DedupConfig(), "ours 14x8": DedupConfig(bands=14, rows_per_band=8)}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        (folder / "in").mkdir()
        size = write_documents(folder / "in/00000.parquet", corpus.texts)
        print(f"\n{title}: {size:.1f} MB, {len(corpus.texts):,} documents", flush=True)
        ours(folder, len(corpus.texts), DedupConfig())  # compiled code is loaded
        results = {
            name: [ours(folder, len(corpus.texts), config) for _ in range(runs)]
            for name, config in configs.items()
        }
        results["datatrove"] = [rival("dedup", folder / "in") for _ in range(runs)]
    base = size / median(row["cpu"] for row in results["datatrove"])
    for name, rows in results.items():
        cpu, wall = (size / median(row[key] for row in rows) for key in ("cpu", "wall"))
        print(f"{name:9s} {cpu:7.2f} MB/s ({wall:.2f} on the wall) {cpu / base:6.1f} x", end=" ")
        print(f"stages {rows[0]['stages']} s; words by {rows[0].get('words', 'ours')}")
        found = recall(corpus, rows[0]["kept"])
        shown = zip(BANDS, found, strict=True)
        print("   recall   ", "  ".join(f"{low}: {hit}/{all_}" for low, (hit, all_) in shown))
        right = precision(corpus, rows[0]["kept"]).items()
        print("   precision", "  ".join(f">={low}: {hit}/{all_}" for low, (hit, all_) in right))


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 20.0
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    compare("planted edits", planted(megabytes), runs)
    compare("labelled near-duplicates", labelled(), runs)


if __name__ == "__main__":
    main()
