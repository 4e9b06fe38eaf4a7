"""Deduplication on documents made by hand: who goes, for whom, and how similar they are."""

import gzip
import itertools
import json
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from blake3 import blake3

from configs.cleaning import DedupConfig
from pipeline.dedup import DUPLICATES
from pipeline.documents import DocumentFile, document
from pipeline.errors import BuildError
from pipeline.ngrams import NGrams, jaccard_of_pairs, ngrams_of, sorted_sets
from tests.helpers_dedup import run_dedup

WORDS = [f"word{i}" for i in range(4000)]


def text_of(start: int, length: int, changed: Collection[int] = ()) -> str:
    """`length` words from `start` on, some of them replaced."""
    words = WORDS[start : start + length]
    return " ".join(f"other{start}x{i}" if i in changed else w for i, w in enumerate(words))


def decide(
    folder: Path, sources: dict[str, dict[str, str]], priority: Sequence[str] = (), **config: Any
) -> dict[str, tuple[str, str, float]]:
    """Run both stages over {source: {doc_id: text}}; returns rows by id, and the facts."""
    files = write_files(folder, sources)
    out = run_dedup(folder / "work", files, DedupConfig(priority=tuple(priority), **config))
    rows = pl.read_parquet(out / DUPLICATES).rows(named=True)
    return {row["doc_id"]: (row["keeper"], row["kind"], row["jaccard"]) for row in rows}


def write_files(folder: Path, sources: dict[str, dict[str, str]]) -> list[tuple[str, Path]]:
    """A documents file for every source of {source: {doc_id: text}}."""
    files = []
    for source, docs in sources.items():
        files.append((source, folder / f"{source}.parquet"))
        with DocumentFile(files[-1][1]) as file:
            for row, (doc_id, text) in enumerate(docs.items()):
                file.add(document(doc_id, text, source, row))
    return files


def sets_of(texts: list[str], n: int = 5) -> NGrams:
    return sorted_sets(ngrams_of(pa.array(texts, pa.large_string()), n))


def test_ngrams_are_sets_of_word_runs() -> None:
    sets = sets_of(["a b c d e f", "A, b; c d e -- F", "a b", "", "a b c d e a b c d e"])
    assert np.diff(sets.offsets).tolist() == [2, 2, 1, 0, 5]
    left, right = np.array([0, 0, 3]), np.array([1, 4, 3])
    found = jaccard_of_pairs(sets.hash, sets.offsets, left, right)
    assert found.tolist() == [1.0, 1 / 6, 0.0]


def test_ngrams_of_a_slice_read_only_the_slice() -> None:
    texts = pa.array(["x y z", "a b c d e f", "q"], pa.large_string())
    whole, part = ngrams_of(texts, 5), ngrams_of(texts.slice(1, 1), 5)
    assert part.hash.tolist() == whole.hash[whole.offsets[1] : whole.offsets[2]].tolist()


def test_exact_near_and_different_documents(tmp_path: Path) -> None:
    found = decide(
        tmp_path,
        {
            "a": {
                "long": text_of(0, 200),
                "other": text_of(1000, 200),
                "unrelated": text_of(2000, 200),
            },
            "b": {
                "copy": text_of(0, 200),
                # 1 of 200 words changed: 5 of 196 five-grams differ: 191 / (196 + 5)
                "near": text_of(1000, 200, changed={100}),
                # 10 spread changes: 146 / 246, below the threshold
                "far": text_of(2000, 200, changed=set(range(10, 200, 19))),
            },
        },
    )
    assert found == {
        "copy": ("long", "exact", 1.0),
        "near": ("other", "near", 191 / 201),
    }


def test_priority_then_length_then_id_decide_who_stays(tmp_path: Path) -> None:
    text = text_of(0, 100)
    sources = {"web": {"w": text + " tail"}, "math": {"m2": text, "m1": text}}
    similarity = 96 / 97  # 96 five-grams, and one more with the tail
    assert decide(tmp_path, sources) == {
        "m1": ("w", "near", similarity),
        "m2": ("w", "near", similarity),
    }
    assert decide(tmp_path, sources, priority=["math"]) == {
        "m2": ("m1", "exact", 1.0),
        "w": ("m1", "near", similarity),
    }


def test_chains_do_not_carry_a_document_away(tmp_path: Path) -> None:
    # Each step changes a few words more; the ends of the chain have little in common.
    steps = {f"s{k}": text_of(0, 300, changed=set(range(0, 5 * k, 5))) for k in range(0, 40, 4)}
    found = decide(tmp_path, {"a": steps})
    assert found
    sets = sets_of(list(steps.values()))
    place = {doc_id: i for i, doc_id in enumerate(steps)}
    for doc_id, (keeper, _, jaccard) in found.items():
        assert keeper not in found  # the keeper on record is kept
        pair = np.array([place[doc_id]]), np.array([place[keeper]])
        assert jaccard_of_pairs(sets.hash, sets.offsets, *pair)[0] == jaccard >= 0.7
    kept = np.array([place[doc_id] for doc_id in steps if doc_id not in found])
    assert len(kept) > 2
    left, right = np.triu_indices(len(kept), 1)
    assert jaccard_of_pairs(sets.hash, sets.offsets, kept[left], kept[right]).max() < 0.7


def test_decisions_belong_to_documents_not_positions(tmp_path: Path) -> None:
    docs = {f"d{i}": text_of(i * 50 % 700, 150, changed={i % 7}) for i in range(60)}
    backwards = dict(reversed(docs.items()))
    assert decide(tmp_path, {"a": docs}) == decide(tmp_path, {"a": backwards})


def test_large_runs_of_boilerplate_collapse_into_one(tmp_path: Path) -> None:
    docs = {f"d{i:04d}": f"{text_of(0, 200)} number{i}" for i in range(300)}
    found = decide(tmp_path, {"a": docs})
    assert len(found) == 299
    (keeper,) = {keeper for keeper, _, _ in found.values()}
    ids = [f"d{i:04d}" for i in range(100, 300)]  # the longest
    assert keeper == min(ids, key=lambda doc_id: blake3(doc_id.encode()).digest(length=8)[::-1])


def test_short_and_wordless_documents(tmp_path: Path) -> None:
    docs = {
        "one": "hello world",
        "two": "Hello, world!",
        "three": "...",
        "four": "!!!",
        "five": "?",
    }
    assert decide(tmp_path, {"a": docs}) == {"one": ("two", "near", 1.0)}


def test_recall_and_precision_on_documents_of_known_similarity(tmp_path: Path) -> None:
    originals = {f"o{i}": text_of(i * 40, 200) for i in range(40)}
    copies = {f"c{i}": text_of(i * 40, 200, changed={50, 120}) for i in range(40)}  # 186 / 206
    found = decide(tmp_path, {"a": originals, "b": copies})
    assert sum(key.startswith("c") for key in found) == 40
    assert all(jaccard >= 0.7 for _, _, jaccard in found.values())


def test_pairs_just_above_the_threshold_are_found(tmp_path: Path) -> None:
    # 8 spread changes in 200 words: 156 / 236 five-grams, 0.66; 7 changes: 161 / 231, 0.697;
    # 6 changes: 166 / 226, 0.73.
    originals = {f"o{i}": text_of(i * 35, 200) for i in range(0, 100, 6)}
    for changes, wanted in ((6, len(originals)), (7, 0)):
        places = set(range(10, 190, 25)[:changes])
        copies = {f"c{i}": text_of(i * 35, 200, changed=places) for i in range(0, 100, 6)}
        found = decide(tmp_path, {"a": originals, "b": copies})
        assert sum(key.startswith("c") for key in found) == wanted


@pytest.mark.skipif("TALLY_TESTDATA" not in os.environ, reason="real text: set TALLY_TESTDATA")
def test_recall_on_labelled_near_duplicates(tmp_path: Path) -> None:
    path = Path(os.environ["TALLY_TESTDATA"]) / "corpora/near_dups/owt_5.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    clusters: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        clusters.setdefault(str(row["cluster"]), []).append(i)
    pairs = np.array([p for c in clusters.values() for p in itertools.combinations(c, 2)])
    sets = sets_of([row["text"] for row in rows])
    similar = jaccard_of_pairs(sets.hash, sets.offsets, pairs[:, 0], pairs[:, 1]) >= 0.7
    found = decide(tmp_path, {"a": {f"{i}": row["text"] for i, row in enumerate(rows)}})
    kept = np.array([f"{i}" not in found for i in range(len(rows))])
    missed = kept[pairs[similar]].all(axis=1)
    assert similar.sum() > 1000
    assert missed.mean() < 0.005


def test_no_result_depends_on_the_memory(tmp_path: Path) -> None:
    docs = {
        f"d{i:04d}": f"{text_of(i * 29 % 900, 60 + i % 7, changed={i % 50})} {'x' * (i % 3)}"
        for i in range(900)
    }
    copies = {f"c{i}": docs[f"d{i * 7:04d}"] for i in range(100)}
    files = write_files(tmp_path, {"a": docs, "b": copies, "c": {"none": "..."}})
    seen = set()
    for memory in (None, 300_000, 60_000):
        out = run_dedup(tmp_path / f"{memory}", files, DedupConfig(), memory)
        seen.add(tuple(path.read_bytes() for path in sorted(out.rglob("*.*"))))
    assert len(seen) == 1
    facts = json.loads((out / "facts.json").read_text())
    assert facts["documents_in"] == 1001
    assert facts["dropped_exact"] > 20
    assert facts["dropped_near"] > 100


def test_facts_and_overlap(tmp_path: Path) -> None:
    decide(tmp_path, {"a": {"x": text_of(0, 50), "y": text_of(0, 50)}, "b": {"z": text_of(0, 50)}})
    facts = json.loads((tmp_path / "work/dedup/facts.json").read_text())
    size = len(text_of(0, 50))
    assert facts["overlap"] == {
        "a": {"a": {"documents": 1, "characters": size}},
        "b": {"a": {"documents": 1, "characters": size}},
    }
    assert (facts["cluster_sizes"], facts["dropped_exact"], facts["dropped_near"]) == (
        {"3": 1},
        2,
        0,
    )


def test_fineweb_bands_by_name() -> None:
    config = DedupConfig.model_validate({"preset": "fineweb", "threshold": 0.8})
    assert (config.bands, config.rows_per_band, config.threshold) == (14, 8, 0.8)
    assert "preset" not in config.model_dump()
    assert "memory_mb" not in config.model_dump()  # it changes no byte, so no dataset's id
    with pytest.raises(ValueError, match="no preset 'x'; there are: fineweb"):
        DedupConfig.model_validate({"preset": "x"})


def test_repeated_ids_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="unique in a dataset; these occur again: 'x' \\(b\\)"):
        decide(tmp_path, {"a": {"x": "one text"}, "b": {"x": "another"}})
