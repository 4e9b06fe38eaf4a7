"""Baselines beside a run: wins, averages, differences item by item; clean and dirty scores."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import transformers

from configs.errors import ConfigError
from configs.evaluation import EvalSettings, baselines, find_suite, suites
from tests.tiny_run import make_run
from train.candidates import RunCandidate, baseline_candidates, needs_hub
from train.comparison import Scored, compare, is_better, paired_difference, write_comparison
from train.errors import TrainError
from train.evaluate import Evaluation, baseline_folder, variant
from train.process import prepare_process
from train.subject import load_subject
from train.tasks import TaskData, find_data


def test_the_suites_are_those_of_the_cards() -> None:
    assert {name: len(suite.metrics) for name, suite in suites().items()} == {
        "l20": 6,
        "tinylm": 4,
        "mtlm1": 12,
    }
    assert find_suite("tinylm").average
    assert find_suite("tinylm").bos
    assert set(find_suite("l20").metrics.values()) == {"acc", "acc_norm"}
    with pytest.raises(ConfigError, match="did you mean tinylm"):
        find_suite("tinylmm")


def test_known_baselines_and_refused_ones(tmp_path: Path) -> None:
    assert len(baselines()) == 7
    assert needs_hub(["gpt2"])
    assert not needs_hub([str(tmp_path)])
    with pytest.raises(TrainError, match=r"no config\.json there"):
        baseline_candidates([str(tmp_path)], tmp_path)
    with pytest.raises(TrainError, match="neither a folder nor a known name"):
        baseline_candidates(["gpt3"], tmp_path)


def test_the_difference_is_taken_item_by_item() -> None:
    ours = {(0,): 1.0, (1,): 1.0, (2,): 0.0, (3,): 1.0, (9,): 1.0}
    theirs = {(0,): 1.0, (1,): 0.0, (2,): 0.0, (3,): 0.0, (8,): 1.0}
    found = paired_difference(ours, theirs)
    assert found is not None
    assert (found["value"], found["items"]) == (0.5, 4)  # gaps 0, 1, 0, 1
    assert found["stderr"] == pytest.approx(math.sqrt(1 / 3) / 2)
    assert found["p"] == pytest.approx(math.erfc(math.sqrt(3) / math.sqrt(2)))
    assert paired_difference({(0,): 1.0}, theirs) is None
    same = paired_difference(ours, ours)
    assert same == {"value": 0.0, "stderr": 0.0, "items": 5, "p": 1.0}


def test_a_tie_is_no_win_and_lower_perplexity_is() -> None:
    def score(value: float, higher: bool) -> dict[str, Any]:
        return {"value": value, "higher_is_better": higher}

    assert is_better(score(0.5, True), score(0.4, True))
    assert not is_better(score(0.5, True), score(0.5, True))
    assert is_better(score(9.0, False), score(10.0, False))


def test_other_ways_of_asking_are_kept_apart() -> None:
    assert variant(EvalSettings(limit=3, num_fewshot=0)) == ""
    assert variant(EvalSettings(bos=True, apart=True)) == "bos-apart"
    assert variant(EvalSettings(num_fewshot=5, dtype="bfloat16")) == "bf16-5shot"


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[TaskData]:
    """COPA with items of our own; the second half of the answers is long."""
    folder = tmp_path_factory.mktemp("data")
    rows = [
        {"premise": f"Return number {i} of the list.", "choice1": "It is a number" + " item" * i,
         "choice2": "The mean.", "question": "effect", "idx": i, "label": i % 2}
        for i in range(8)
    ]  # fmt: skip
    (folder / "copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [find_data("copa", folder, folder / "cache")]


@pytest.fixture(scope="module")
def rival(tmp_path_factory: pytest.TempPathFactory, run_dir: Path) -> Path:
    """A GPT-2 of nothing but noise, as another project would leave it."""
    folder = tmp_path_factory.mktemp("noise")
    shape = {"n_layer": 1, "n_head": 2, "n_embd": 16, "n_positions": 64, "vocab_size": 512}
    config = transformers.GPT2Config(**shape, bos_token_id=0, eos_token_id=0)
    transformers.set_seed(0)
    transformers.GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer = run_dir.parent / "dataset" / "tokenizer.json"
    transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(tokenizer), eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    ).save_pretrained(folder)
    return folder


def test_a_baseline_is_scored_once_for_all_runs(
    run_dir: Path, items: list[TaskData], rival: Path, tmp_path: Path
) -> None:
    settings, cache = EvalSettings(), tmp_path / "cache"
    candidate = RunCandidate("tiny", load_subject(run_dir))
    own = run_dir / "eval"
    ours = Evaluation(candidate, own, settings, cache).score(items)
    (baseline,) = baseline_candidates([str(rival)], cache)
    folder = baseline_folder(baseline, settings, cache)
    assert folder != baseline_folder(baseline, EvalSettings(bos=True), cache)
    theirs = Evaluation(baseline, folder, settings, cache).score(items)
    written = (folder / "copa.json").stat().st_mtime_ns
    again = Evaluation(baseline, folder, settings, cache)
    assert again.score(items) == theirs
    assert "_lm" not in vars(again), "the weights are not loaded again"
    assert (folder / "copa.json").stat().st_mtime_ns == written

    scored = Scored(baseline.name, baseline.described(), folder, theirs)
    facts = compare(Scored("tiny", candidate.described(), own, ours), [scored], settings)
    copa = facts["baselines"][0]["tasks"]["copa"]
    value = facts["tasks"]["copa"]["value"]
    assert copa["difference"]["value"] == pytest.approx(value - copa["value"])
    assert copa["difference"]["items"] == 8
    assert copa["win"] == (value > copa["value"])
    assert facts["baselines"][0]["win_rate"] == float(copa["win"])
    paths = write_comparison(facts, tmp_path)
    assert [path.name for path in paths] == ["comparison.json", "comparison.md"]
    assert json.loads(paths[0].read_bytes()) == facts
    assert f"| tiny | {value:.4f} ±" in paths[1].read_text()


def test_an_average_stands_for_a_whole_suite_alone() -> None:
    def result(task: str, metric: str, value: float) -> dict[str, Any]:
        metrics = {metric: {"value": value, "stderr": 0.03, "higher_is_better": True}}
        items = {"scored": 5, "in_split": 5}
        return {"task": task, "headline": metric, "metrics": metrics, "items": items} | {
            "lm_eval": "0", "chance": None
        }  # fmt: skip

    suite = find_suite("tinylm")
    results = [
        result(task, metric, value)
        for (task, metric), value in zip(suite.metrics.items(), (0.1, 0.2, 0.3, 0.6), strict=True)
    ]
    own = Scored("x", {}, Path(), results)
    facts = compare(own, [], EvalSettings(), "tinylm", suite)
    assert facts["average"]["value"] == pytest.approx(0.3)
    assert facts["average"]["stderr"] == pytest.approx(0.03 / 2)
    part = compare(own._replace(results=results[:3]), [], EvalSettings(), "tinylm", suite)
    assert part["average"] is None
