"""Experiments: what is declared, trained for real, and compared arm by arm and seed by seed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from configs.errors import ConfigError
from configs.experiment import ExperimentConfig, is_experiment
from configs.loading import load
from shards.atomic import write_json_atomic
from tests.test_train_run import ONE_THREAD, ROOT, Bench
from train.compare import compare_runs
from train.matrix import TRAINING, expand, factor_rows, paired, read_arms, rows, spread
from train.start import declared_runs


def write_experiment(directory: Path, **values: object) -> Path:
    path = directory / "experiment.yaml"
    arms = {"low": {}, "high": {"set": ["optimizer.lr=0.02"]}}
    whole = {"experiment": "two", "base": "train.yaml", "arms": arms} | values
    path.write_text(yaml.safe_dump(whole, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("experiment"))


def test_arms_times_seeds(bench: Bench) -> None:
    path = write_experiment(bench.directory, seeds=[3, 4])
    assert is_experiment(path)
    assert not is_experiment(bench.config)
    runs = declared_runs(path, load(path, ExperimentConfig), ["micro_batch=2"])
    assert [run.name for run in runs] == ["low-seed3", "high-seed3", "low-seed4", "high-seed4"]
    assert [run.config.data.seed for run in runs] == [3, 3, 4, 4]
    assert {run.config.seed for run in runs} == {0}, "the weights begin the same"
    assert [run.config.optimizer.lr for run in runs] == [0.01, 0.02, 0.01, 0.02]
    assert {run.config.micro_batch for run in runs} == {2}
    path = write_experiment(bench.directory, seeds=[3], seed_weights=True)
    assert {r.config.seed for r in declared_runs(path, load(path, ExperimentConfig))} == {3}
    path = write_experiment(bench.directory)
    names = [r.name for r in declared_runs(path, load(path, ExperimentConfig))]
    assert names == ["low", "high"]


@pytest.mark.parametrize("path", sorted((ROOT / "configs" / "experiments").glob("*.yaml")))
def test_shipped_experiments_name_runs_that_load(path: Path) -> None:
    assert len(declared_runs(path, load(path, ExperimentConfig))) >= 3


def test_mistakes_are_refused(bench: Bench) -> None:
    with pytest.raises(ConfigError, match="one is given twice"):
        load(write_experiment(bench.directory, seeds=[1, 1]), ExperimentConfig)
    with pytest.raises(ConfigError, match="no `config`, and the experiment has no `base`"):
        load(write_experiment(bench.directory, base=None), ExperimentConfig)
    path = write_experiment(bench.directory, base="missing.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        declared_runs(path, load(path, ExperimentConfig))


def tally_train(path: Path, output: Path, *arguments: str) -> str:
    command = [sys.executable, "-m", "train", "train", str(path), "-o", str(output), *arguments]
    result = subprocess.run(command, cwd=ROOT, env=ONE_THREAD, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_an_experiment_is_trained_resumed_and_compared(
    bench: Bench, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_experiment(bench.directory)
    settings = ("--ranks", "1", "micro_batch=4", "validation.every_steps=20")
    tally_train(path, tmp_path / "two", *settings, "--stop-after", "20")
    output = tally_train(path, tmp_path / "two", *settings, "--stop-after", "20")
    assert output.count("20 of 240 steps are done already") == 2
    assert "tally compare" in output
    compare_runs([tmp_path / "two"], tmp_path / "comparison")
    shown = capsys.readouterr().out
    assert "high - low, paired" in shown
    assert "held-out loss, one" in shown
    written = json.loads((tmp_path / "comparison" / "comparison.json").read_bytes())
    assert list(written["arms"]) == ["low", "high"]
    means = [written["arms"][arm]["measures"][TRAINING]["mean"] for arm in ("low", "high")]
    difference = written["paired_difference"][TRAINING]["mean"]
    assert difference == pytest.approx(means[1] - means[0])


def finished(run: Path, lr: float, seed: int, loss: float, score: float | None = None) -> Path:
    run.mkdir(parents=True)
    config = {"name": run.name, "seed": 0, "data": {"seed": seed}, "optimizer": {"lr": lr}}
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    line = {"step": 0, "loss": loss, "tokens": 64, "unique_tokens": 64}
    (run / "metrics.jsonl").write_text(json.dumps(line) + "\n")
    if score is not None:
        result = {"headline": "acc", "metrics": {"acc": {"value": score}}}
        for task in ("copa", "piqa"):
            write_json_atomic(run / "eval" / f"{task}.json", result)
    return run


def test_spread_and_paired_difference(tmp_path: Path) -> None:
    """Losses 3, 4, 5 and 2.9, 3.8, 4.7: unpaired they overlap, seed by seed they do not."""
    runs = {}
    for seed, (a, b) in enumerate([(3.0, 2.9), (4.0, 3.8), (5.0, 4.7)]):
        runs[f"a-seed{seed}"] = finished(tmp_path / f"a-seed{seed}", 0.1, seed, a)
        runs[f"b-seed{seed}"] = finished(tmp_path / f"b-seed{seed}", 0.2, seed, b)
    arms = read_arms(runs)
    assert [(arm.name, len(arm.runs)) for arm in arms] == [("a", 3), ("b", 3)]
    assert str(spread(arms[0].values(TRAINING))) == "4.0000 ± 1.0000"
    assert str(paired(arms[0], arms[1], TRAINING)) == "-0.2000 ± 0.1000"
    headings, body = rows(arms)
    assert headings == ["", "a (3)", "b (3)", "b - a, paired"]
    assert body == [[TRAINING, "4.0000 ± 1.0000", "3.8000 ± 0.9000", "-0.2000 ± 0.1000"]]


def test_two_factors_make_a_matrix(tmp_path: Path) -> None:
    combinations = {"a": ("MHA", "AdamW"), "b": ("MLA", "AdamW"), "c": ("MHA", "Muon")}
    arms = {
        name: {"factors": {"attention": pair[0], "optimizer": pair[1]}}
        for name, pair in combinations.items()
    }
    declared = {name: {"arm": name, "seed": None} for name in [*arms, "not-begun"]}
    write_json_atomic(tmp_path / "experiment.json", {"arms": arms, "runs": declared})
    for number, name in enumerate(arms):
        finished(tmp_path / name, 0.1 * (number + 1), 0, 3.0, 0.5 + number / 10)
    runs = {path.name: path for path in expand([tmp_path])}
    found = factor_rows(read_arms(runs))
    assert found is not None
    assert found[0] == ["mean of tasks", "AdamW", "Muon"]
    assert found[1] == [["MHA", "0.5000", "0.7000"], ["MLA", "0.6000", "–"]]
    compare_runs([tmp_path], tmp_path / "comparison")
    page = (tmp_path / "comparison" / "comparison.html").read_text()
    assert "mean of tasks" in page
    assert "Muon" in page
