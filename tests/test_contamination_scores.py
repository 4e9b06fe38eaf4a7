"""Scores split by the audit: intervals by hand, samples found by content, sides that are honest."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from contamination.errors import AuditError
from contamination.exposure import Exposure
from contamination.found import ItemFacts, Key
from contamination.intervals import difference, mean_of, wilson
from contamination.items import Benchmark, Item
from contamination.samples import Sample, TaskSamples, load_samples
from contamination.score_tables import group_rows, main_rows
from contamination.scores import score_split

ITEMS = (
    Item("a", "Which gas do plants take in?", "carbon dioxide", ("oxygen", "carbon dioxide")),
    Item("b", "What is the capital of Peru?", "Lima", ("Lima", "Quito")),
    Item("c", "What is the capital of Peru?", "the city of kings", ("the city of kings", "Cusco")),
    Item("d", "The man turned on the tap.", "Water flowed."),
    Item("e", "Sam met Tom and hugged him. Who hugged?", "Sam"),
)
BENCHMARK = Benchmark("quiz", "test", "made", ITEMS)


def sample(doc: dict[str, Any], score: float, **more: Any) -> dict[str, Any]:
    return {"doc": doc, "metrics": ["acc"], "acc": score, "filter": "none", **more}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_wilson_and_newcombe_give_the_published_values() -> None:
    # Newcombe 1998, part one, 81 of 263; part two, example (a): 56/70 - 48/80, method 10.
    assert wilson(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    left, right = np.repeat([1.0, 0.0], [56, 14]), np.repeat([1.0, 0.0], [48, 32])
    found = difference(left, right)
    assert (found.value, found.low, found.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    # Two shares with pooled variance: p = 104/150, z = 0.2 / sqrt(p (1 - p) (1/70 + 1/80)).
    assert found.z == pytest.approx(2.6499, abs=5e-4)
    assert found.p == pytest.approx(0.00805, abs=5e-5)


def test_other_scores_have_a_bootstrap_interval_that_repeats() -> None:
    scores = np.array([0.1, 0.4, 0.4, 0.9] * 10)
    found = mean_of(scores)
    assert found.mean == pytest.approx(0.45)
    assert 0.34 < found.low < 0.40 < 0.50 < found.high < 0.56
    assert mean_of(scores) == found
    assert mean_of(np.ones(5)).low == pytest.approx(0.5655, abs=1e-4)


def test_samples_are_found_by_content_in_any_order(tmp_path: Path) -> None:
    rows = [
        sample({"goal": "What is the CAPITAL of Peru", "ends": ["Cusco", "The city of kings"]}, 1),
        sample({"q": "Which gas do plants take in?"}, 0),
        sample({"q": "What is the capital of Peru?", "right": "Lima"}, True),
        sample({"premise": "x"}, 1, arguments=[["Question: The man turned on the tap.\nAnswer:"]]),
        sample({"context": "Sam met Tom and hugged him.", "question": "Who hugged?"}, 0.5),
        sample({"q": "Something else altogether?"}, 1),
    ]
    (task,) = load_samples([write(tmp_path / "quiz_task.samples.jsonl", rows)], [BENCHMARK])
    found = [each.item and each.item.id for each in task.samples]
    assert (task.task, task.benchmark) == ("quiz_task", "quiz")
    assert found == ["c", "a", "b", "d", "e", None]
    assert [each.scores["acc"] for each in task.samples] == [1, 0, 1, 1, 0.5, 1]


def test_files_of_lm_eval_itself_are_read(tmp_path: Path) -> None:
    arguments = {"gen_args_0": {"arg_0": "Q: Which gas do plants take in?", "arg_1": " oxygen"}}
    strict = sample({"id": 3}, 1, arguments=arguments) | {"filter": "strict-match"}
    flexible = strict | {"filter": "flexible", "acc": 0, "metrics": ["acc", "f1"], "f1": [1, 2]}
    write(tmp_path / "samples_gsm_2026-01-02T03-04-05.678.jsonl", [strict, flexible])
    write(tmp_path / "results.jsonl", [{"no": "samples"}])
    (task,) = load_samples([tmp_path], [BENCHMARK])
    assert task.task == "gsm"
    assert [each.scores for each in task.samples] == [{"acc:strict-match": 1}, {"acc:flexible": 0}]


def test_what_is_no_sample_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="--log_samples"):
        load_samples([tmp_path], [BENCHMARK])
    bad = write(tmp_path / "x.samples.jsonl", [sample({"q": "?"}, 1), {"doc": 1}])
    with pytest.raises(AuditError, match="line 2: not a sample"):
        load_samples([bad], [BENCHMARK])


def facts(class_: str, times: int, run: int, partial: int = 0) -> ItemFacts:
    return ItemFacts(class_, 1, 1, run, run / 50, Exposure(times, partial, None, None))


def split() -> dict[str, Any]:
    """40 items found (30 count), 50 clean, 10 too short, 5 samples of no item."""
    items = [Item(f"i{k}", f"q{k}", "") for k in range(100)]
    right = [float(k % 5 != 0) if k < 40 else float(k % 2) for k in range(100)]
    samples = [Sample((), {"acc": s}, item) for s, item in zip(right, items, strict=True)]
    samples += [Sample((), {"acc": 1.0})] * 5
    found = {
        Key("quiz", f"i{k}"): facts(
            "qa" if k < 20 else "near" if k < 30 else "source", k % 7, 50 if k < 20 else 8, k % 2
        )
        for k in range(40)
    }
    task = TaskSamples("t", "quiz", tuple(samples))
    (row,) = score_split([task], found, {"quiz": [f"i{k}" for k in range(90, 100)]})
    return row


def test_clean_dirty_and_not_audited_are_told_apart() -> None:
    row = split()
    sides = {side: row[side]["n"] for side in ("all", "clean", "dirty", "not_audited")}
    assert sides == {"all": 100, "clean": 60, "dirty": 30, "not_audited": 10}
    assert (row["samples"], row["unmatched"]) == (105, 5)
    assert row["dirty"]["mean"] == pytest.approx(24 / 30)
    assert row["clean"]["mean"] == pytest.approx((8 + 25) / 60)
    assert row["difference"]["value"] == pytest.approx(0.25)
    assert {name: group["n"] for name, group in row["by_class"].items()} == {
        "qa": 20, "near": 10, "source": 10,
    }  # fmt: skip
    # Of 0..29: k % 7 == 0 five times, of which 7 and 21 were read in part.
    assert {name: group["n"] for name, group in row["by_exposure"].items()} == {
        "never": 3, "in part": 2, "1": 5, "2-4": 12, "5+": 8,
    }  # fmt: skip


def test_the_curve_shows_other_thresholds() -> None:
    points = {(p["measure"], p["threshold"]): p for p in split()["curve"]}
    assert points["longest_run", 8]["dirty_items"] == 40
    assert points["longest_run", 10]["dirty_items"] == 20
    assert ("longest_run", 50) in points
    gain = points["longest_run", 8]["estimated_performance_gain"]
    assert gain == pytest.approx((32 + 30) / 100 - 30 / 60)
    assert points["longest_run", 8]["difference"]["value"] == pytest.approx(0.8 - 0.5)
    assert points["longest_run", 10]["difference"] is None  # 20 items are too few


def test_few_items_say_nothing() -> None:
    items = [Item(f"i{k}", f"q{k}", "") for k in range(59)]
    samples = tuple(Sample((), {"acc": 1.0}, item) for item in items)
    found = {Key("quiz", f"i{k}"): facts("qa", 1, 9) for k in range(29)}
    (row,) = score_split([TaskSamples("t", "quiz", samples)], found, {})
    assert row["difference"] is None
    assert main_rows([row])[0][-2:] == ("not enough items", "–")
    assert group_rows([row])[0] == ("t", "acc", "class qa", "29", "1.000 [0.883, 1.000]")
