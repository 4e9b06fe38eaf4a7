"""The card says what the files say, leaves out what they do not, and notices every change."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.pages import sort_script
from tests.tiny_run import make_run
from train.card import write_card
from train.card_check import check_card, marks
from train.card_content import line, table
from train.card_cost import Stated, cost_rows, state
from train.curves import Series, chart, moving_average, ticks
from train.errors import TrainError
from train.facts import Evidence, MissingValueError
from train.generate import SamplingSettings, generate_run
from train.heldout import heldout_run
from train.process import prepare_process

RESULT = {  # a task's result file, as train.evaluate writes it
    "task": "copa",
    "lm_eval": "0.4.13",
    "data": {"split": "validation", "scored_split": "validation"},
    "settings": {"limit": 20, "num_fewshot": 0},
    "items": {"in_split": 100, "scored": 20},
    "metrics": {"acc": {"value": 0.55, "stderr": 0.1141, "higher_is_better": True}},
    "headline": "acc",
    "chance": 0.5,
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every result file."""
    prepare_process()
    run_dir = make_run(tmp_path_factory.mktemp("tiny"), num_steps=20)
    heldout_run(run_dir)
    generate_run(run_dir, ["Return <the> | *list*"], SamplingSettings(max_new_tokens=4))
    (run_dir / "eval" / "copa.json").write_text(json.dumps(RESULT))
    return run_dir


@pytest.fixture
def run_dir(finished: Path, tmp_path: Path) -> Path:
    """A copy of the run with a fresh card, to damage."""
    copy = tmp_path / "run"
    shutil.copytree(finished, copy)
    write_card(copy)
    return copy


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (old, text.count(old))
    path.write_text(text.replace(old, new))


def test_values_are_read_by_key(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"b/c": [1, {"d~": 2.5}], "n": null}')
    (tmp_path / "m.jsonl").write_text('{"x": 1}\n{"x": 4, "y": 2}\n{"x": 9')
    evidence = Evidence({"run": tmp_path})
    fact = evidence.fact("run/a.json", "/b~1c/1/d~0", "float2")
    assert fact is not None
    assert (fact.value, fact.shown) == (2.5, "2.50")
    assert evidence.fact("run/a.json", "/n") is None
    assert evidence.fact("run/a.json", "/b~1c/7") is None
    assert evidence.fact("run/none.json", "/x") is None
    assert evidence.fact("audit/audit.json", "/x") is None
    columns = {how: evidence.raw("run/m.jsonl", f"{how}/x") for how in ("last", "max", "sum")}
    assert columns == {"last": 4, "max": 4, "sum": 5}, "a half-written last line is not read"
    assert evidence.raw("run/m.jsonl", "count") == 2
    assert evidence.raw("run/m.jsonl", "mean/y") == 2.0
    ratio = evidence.compute("divide", fact, fact, style="float2")
    assert ratio is not None
    assert ratio.value == 1.0
    assert evidence.compute("divide", fact, None, style="float2") is None
    with pytest.raises(MissingValueError):
        evidence.read({"file": "run/m.jsonl", "key": "mean/z"})


def test_a_line_with_a_missing_fact_is_not_said() -> None:
    assert line("It has ", None, " parts.") is None
    assert line("It has ", "3", " parts.") == ("It has ", "3", " parts.")
    kept = table(("", "a", "b"), [(("x",), ("1",), ()), (("y",), ("2",), ())])
    assert kept[0].headers == ("", "a")  # type: ignore[union-attr]


def test_readme_has_the_hubs_metadata_and_the_numbers(run_dir: Path) -> None:
    text = (run_dir / "card" / "README.md").read_text()
    head = yaml.safe_load(text.split("---\n")[1])
    (result,) = head["model-index"][0]["results"]
    assert result["metrics"] == [{"type": "acc", "value": 0.55}]
    assert result["dataset"] == {
        "name": "copa, first items only",
        "type": "copa",
        "split": "validation",
    }
    assert head["pipeline_tag"] == "text-generation"
    held = json.loads((run_dir / "eval" / "heldout.json").read_bytes())
    assert f"{held['all']['bits_per_byte']:.3f}<!--" in text
    # 20 steps of 8 windows of 64 targets
    assert "10,240<!--" in text
    assert "55.0 %<!--" in text
    assert "![curve](curve-1.svg)" in text
    assert (run_dir / "card" / "curve-1.svg").read_text().startswith("<svg")


def test_page_is_self_contained_and_escaped(run_dir: Path) -> None:
    page = (run_dir / "card" / "card.html").read_text()
    script = sort_script()
    assert page.count("<script") == 1
    assert f"<script>{script.source}</script>" in page
    assert f"default-src 'none'; style-src 'unsafe-inline'; script-src '{script.digest}'" in page
    rest = page.replace("http://www.w3.org/2000/svg", "").replace("<meta http-equiv=", "")
    assert "http" not in rest
    assert "Return &lt;the&gt;" in page
    assert "prefers-color-scheme: dark" in page
    fact, *_ = marks("card.html", page)
    receipts = json.loads((run_dir / "card" / "receipts.json").read_bytes())["facts"]
    assert receipts[fact.fact]["shown"] == fact.written


def test_same_files_same_card(run_dir: Path) -> None:
    before = {path.name: path.read_bytes() for path in (run_dir / "card").iterdir()}
    write_card(run_dir)
    assert {path.name: path.read_bytes() for path in (run_dir / "card").iterdir()} == before


def test_a_fresh_card_is_true(run_dir: Path) -> None:
    assert check_card(run_dir) == ([], [])


def test_a_number_changed_in_the_readme_is_named(run_dir: Path) -> None:
    edit(run_dir / "card" / "README.md", " 55.0 %<!--", " 95.0 %<!--")
    (wrong,), _ = check_card(run_dir)
    assert "README.md:" in wrong
    assert "is not true: 55.0 %" in wrong
    assert "run/eval/copa.json /metrics/acc/value" in wrong


def test_a_digit_put_before_a_number_is_noticed(run_dir: Path) -> None:
    edit(run_dir / "card" / "README.md", " 55.0 %<!--", " 155.0 %<!--")
    assert len(check_card(run_dir)[0]) == 1


def test_the_models_score_in_the_metadata_is_checked(run_dir: Path) -> None:
    edit(run_dir / "card" / "README.md", "value: 0.5500 #", "value: 0.6500 #")
    assert "0.5500" in check_card(run_dir)[0][0]


def test_a_number_changed_in_the_page_is_named(run_dir: Path) -> None:
    edit(run_dir / "card" / "card.html", ">55.0 %</data>", ">65.0 %</data>")
    (wrong,), _ = check_card(run_dir)
    assert "card.html:" in wrong


def test_a_mark_taken_away_is_noticed(run_dir: Path) -> None:
    readme = run_dir / "card" / "README.md"
    mark = next(marks("README.md", readme.read_text())).fact
    edit(readme, f" # {mark}\n", "\n")
    assert f"mark of {mark}" in check_card(run_dir)[0][0]


def test_a_result_that_changed_since_is_named(run_dir: Path) -> None:
    changed = RESULT | {"metrics": {"acc": {"value": 0.6, "stderr": 0.1141}}}
    (run_dir / "eval" / "copa.json").write_text(json.dumps(changed))
    wrong, _ = check_card(run_dir)
    assert any("the card says 55.0 %" in words and "gives 60.0 %" in words for words in wrong)


def test_a_file_that_is_gone_is_named(run_dir: Path) -> None:
    (run_dir / "eval" / "heldout.json").unlink()
    wrong, _ = check_card(run_dir)
    assert any("is gone" in words for words in wrong)


def test_words_may_be_edited_and_are_remarked_upon(run_dir: Path) -> None:
    edit(run_dir / "card" / "README.md", "## Limits", "## What it cannot do")
    wrong, remarks = check_card(run_dir)
    assert not wrong
    assert len(remarks) == 1


@pytest.mark.parametrize(
    ("page", "old", "new", "said"),
    [
        ("README.md", "## Limits", "## Limits\n\nIt scores 93.5 on MMLU.", "no receipt for 93.5"),
        ("README.md", "Pretrained on text alone", "Pretrained on 7 texts", "no receipt for 7"),
        ("card.html", "<footer>", "<p>Trained for 12 hours.</p><footer>", "no receipt for 12"),
        ("card.html", '<text x="', '<text x="5', "a curve is not what"),
        ("curve-1.svg", '<text x="', '<text x="5', "a curve is not what"),
    ],
)
def test_what_has_no_receipt_is_wrong(
    run_dir: Path, page: str, old: str, new: str, said: str
) -> None:
    path = run_dir / "card" / page
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    wrong, _ = check_card(run_dir)
    assert len(wrong) == 1
    assert said in wrong[0]
    assert page in wrong[0]


def test_a_value_that_sorts_otherwise_is_wrong(run_dir: Path) -> None:
    path = run_dir / "card" / "card.html"
    path.write_text(path.read_text().replace('value="0.55"', 'value="0.95"', 1))
    assert "55.0 % is sorted as 0.95" in check_card(run_dir)[0][0]


def test_the_hub_reads_the_metadata(run_dir: Path) -> None:
    from huggingface_hub import ModelCard

    evil = "a: [b|] # <i>\n---"
    (run_dir / "config.yaml").write_text(yaml.safe_dump({"name": evil}))
    origin = {"model": "someone/something", "revision": "f" * 40}
    (run_dir / "origin.json").write_text(json.dumps(origin))
    state(run_dir, Stated(license="apache-2.0", energy_kwh=1.5))
    state(run_dir, Stated(gpu_hour_price=2.0))
    write_card(run_dir)
    card: Any = ModelCard((run_dir / "card" / "README.md").read_text())
    assert card.data.license == "apache-2.0"
    assert card.data.base_model == "someone/something"
    assert card.data.metrics == ["acc"]
    assert card.data.model_name == evil
    (result,) = card.data.eval_results
    assert (result.task_type, result.dataset_type) == ("text-generation", "copa")
    assert (result.metric_type, result.metric_value) == ("acc", 0.55)
    assert "trained on from someone/something at" in re.sub("<!--.*?-->", "", card.text)
    assert check_card(run_dir) == ([], [])


def shown_costs(run_dir: Path) -> dict[str, str]:
    return {name: fact.shown for name, fact in cost_rows(Evidence({"run": run_dir})) if fact}


def test_hours_and_cost_are_reckoned_from_the_starts(tmp_path: Path) -> None:
    lines = [{"step": step, "step_s": 900.0} for step in range(4)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    starts = [{"first_step": 0, "world_size": 2}, {"first_step": 3, "world_size": 8}]
    facts = {"starts": starts, "device_type": "cuda", "device": "NVIDIA H100 80GB HBM3"}
    (tmp_path / "environment.json").write_text(json.dumps(facts))
    (tmp_path / "config.yaml").write_text("launch: {gpu_hour_price: {H100: 3.0, L20: 1.0}}")
    expected = {"hours in steps": "1", "GPU hours in steps": "3.5"}
    # three quarters of an hour on 2 ranks, one on 8
    assert shown_costs(tmp_path) == expected | {"cost at the stated price": "10.50"}
    state(tmp_path, Stated(gpu_hour_price=2.0))
    assert shown_costs(tmp_path) == expected | {"cost at the stated price": "7.00"}
    (tmp_path / "environment.json").write_text(json.dumps(facts | {"starts": starts[1:]}))
    assert shown_costs(tmp_path) == {"hours in steps": "1"}, "who knows the ranks before?"


COMPARISON = {
    "lm_eval": "0.4.13",
    "suite": None,
    "tasks": {"copa": {"metric": "acc", "value": 0.55, "stderr": 0.05}},
    "average": None,
    "baselines": [
        {
            "name": "gpt2",
            "parameters": 124_439_808,
            "tasks": {
                "copa": {
                    "value": 0.5,
                    "stderr": 0.05,
                    "difference": {"value": 0.05, "stderr": 0.02, "items": 100, "p": 0.01},
                }
            },
            "average": None,
            "wins": 1,
        }
    ],
}


def test_baselines_stand_beside_the_model(run_dir: Path) -> None:
    model = json.loads((run_dir / "eval" / "heldout.json").read_bytes())["model"]
    (run_dir / "eval" / "comparison.json").write_text(json.dumps(COMPARISON | {"model": model}))
    write_card(run_dir)
    text = re.sub("<!--.*?-->", "", (run_dir / "card" / "README.md").read_text())
    assert "| gpt2 | 124M | 50.0 % ± 5.0 % | 1 of 1 |" in text
    assert "| gpt2 | +5.0 % ± 2.0 % |" in text
    assert check_card(run_dir) == ([], [])


CLEAN = {
    "task": "copa",
    "metric": "acc",
    "all": {"n": 100, "mean": 0.55, "low": 0.45, "high": 0.64},
    "clean": {"n": 60, "mean": 0.5, "low": 0.38, "high": 0.62},
    "dirty": {"n": 40, "mean": 0.625, "low": 0.47, "high": 0.76},
    "not_audited": {"n": 0},
    "difference": {"value": 0.125, "low": -0.07, "high": 0.31, "z": 1.2, "p": 0.22},
}


def test_clean_and_contaminated_items_are_told_apart(run_dir: Path) -> None:
    (run_dir / "eval" / "clean.json").write_text(json.dumps({"scores": [CLEAN]}))
    write_card(run_dir)
    text = re.sub("<!--.*?-->", "", (run_dir / "card" / "README.md").read_text())
    row = "| 55.0 % (100) | 50.0 % (60) | 62.5 % (40) | – (0) | +12.5 % (-7.0 % to +31.0 %) |"
    assert row in text


def test_without_results_there_are_no_claims(finished: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(finished, copy, ignore=shutil.ignore_patterns("eval", "card"))
    write_card(copy)
    text = (copy / "card" / "README.md").read_text()
    assert "Benchmarks" not in text
    assert "Held-out" not in text
    assert "Samples" not in text
    assert "parameters" not in text.split("## Data")[0].split("---\n")[2]
    assert check_card(copy) == ([], [])


def test_an_audit_of_other_data_is_refused(run_dir: Path, tmp_path: Path) -> None:
    audit = {"corpus": {"kind": "dataset", "digest": "0" * 32}, "benchmarks": []}
    (tmp_path / "audit.json").write_text(json.dumps(audit))
    with pytest.raises(TrainError, match="an audit of dataset 0000"):
        write_card(run_dir, tmp_path)
    with pytest.raises(TrainError, match=r"no audit\.json"):
        write_card(run_dir, run_dir)


def test_chart_pieces() -> None:
    assert moving_average([1, 2, 3, 4], 2) == [1, 1.5, 2.5, 3.5]
    assert ticks(0, 10, 5) == [0, 2, 4, 6, 8, 10]
    assert ticks(4.9, 9.1, 5) == [5, 6, 7, 8, 9]
    svg = chart([Series("a", "strong", [0, 1], [5.0, 4.0])], "steps", "loss", 380)
    assert svg.count("<polyline") == 2  # the line and its legend
    assert 'viewBox="0 0 380 300"' in svg


def test_results_of_two_checkpoints_do_not_make_a_card(run_dir: Path) -> None:
    model = {"step": 10, "weights_blake3": "of an older checkpoint"}
    (run_dir / "eval" / "copa.json").write_text(json.dumps(RESULT | {"model": model}))
    with pytest.raises(TrainError, match=r"eval/copa\.json \(step 10\)"):
        write_card(run_dir)
