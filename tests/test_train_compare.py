"""Runs side by side: only what differs is listed, nothing is made up where a file is missing."""

import json
import re
import shutil
from pathlib import Path

import pytest

from tests import tiny_run
from train.compare import compare_runs, run_names
from train.compare_data import leaves
from train.errors import TrainError


def make_run(path: Path, lr: float, losses: list[float]) -> Path:
    path.mkdir(parents=True)
    config = (
        f"name: a\noptimizer: {{lr: {lr}, betas: [0.9, 0.95]}}\ndata: {{dataset: /{path.name}}}\n"
    )
    (path / "config.yaml").write_text(config)
    lines = [
        {"step": i, "loss": x, "tokens": 64 * (i + 1), "unique_tokens": 64}
        for i, x in enumerate(losses)
    ]
    (path / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    return path


def test_only_differing_settings_are_listed(tmp_path: Path) -> None:
    runs = [
        make_run(tmp_path / "a", 0.001, [3.0, 2.5]),
        make_run(tmp_path / "b", 0.002, [3.0, 2.0]),
    ]
    compare_runs(runs, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "optimizer.lr" in page
    assert "betas" not in page
    assert "/a<" not in page, "paths of datasets are no settings"
    assert page.count("<figure>") == 2
    assert "held-out loss" not in page, "there is no held-out result"
    written = json.loads((tmp_path / "out" / "comparison.json").read_bytes())
    values = [f["value"] for f in written["facts"] if f["receipt"]["key"] == "/optimizer/lr"]
    assert values == [0.001, 0.002]


def test_equal_runs_differ_in_nothing(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, 0.001, [3.0, 2.5]) for name in ("a", "b")]
    compare_runs(runs, tmp_path / "out")
    assert "Nothing: settings" in (tmp_path / "out" / "comparison.html").read_text()


def test_names_are_as_short_as_they_may_be() -> None:
    assert run_names([Path("/x/a"), Path("/x/b")]) == ["a", "b"]
    assert run_names([Path("/x/run"), Path("/y/run")]) == ["x-run", "y-run"]
    with pytest.raises(TrainError, match="named twice"):
        run_names([Path("/x/a"), Path("/x/a")])


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path / "a", 0.001, [3.0])
    with pytest.raises(TrainError, match="two runs"):
        compare_runs([run], tmp_path / "out")
    with pytest.raises(TrainError, match=r"no config\.yaml"):
        compare_runs([run, tmp_path], tmp_path / "out")


def test_leaves_name_settings() -> None:
    config = {"a": {"b": 1, "dataset": "/x"}, "c/d": [1, 2]}
    assert list(leaves(config)) == ["/a/b", "/c~1d"]


def test_arms_by_seeds_and_what_they_read(tmp_path: Path) -> None:
    arms = {"a": 0.001, "b": 0.002}
    runs = []
    for name, lr in arms.items():
        for seed in (0, 1):
            run = make_run(tmp_path / f"{name}-seed{seed}", lr, [3.0, 2.0 + lr * 100 + seed])
            text = (run / "config.yaml").read_text()
            text = text.replace(f"dataset: /{run.name}", f"seed: {seed}")
            (run / "config.yaml").write_text(text)
            runs.append(run)
    compare_runs(runs, tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    words = re.sub(r"\s+", " ", re.sub("<[^>]*>", " ", page))
    assert re.search(r"seed 0 +seeds 1, 0 +less a, paired", words), words
    # means of both steps; b is 0.05 higher at either seed
    assert re.search(r" a +2\.5500 +3\.0500 +– +b +2\.6000 +3\.1000 +0\.0500 ± 0\.0000", words)


def test_datasets_are_compared_too(tmp_path: Path) -> None:
    run = tiny_run.make_run(tmp_path / "one", num_steps=2)
    other = tmp_path / "two"
    shutil.copytree(tmp_path / "one", other)
    for folder, value in ((tmp_path / "one", 1), (other, 2)):
        manifest = json.loads((folder / "dataset" / "manifest.json").read_bytes())
        changed = manifest | {"config": {"dedup": {"n": value}}, "dataset_id": f"{value}" * 32}
        (folder / "dataset" / "manifest.json").write_text(json.dumps(changed))
        plan = folder / "run" / "plan.json"
        plan.write_text(plan.read_text().replace(str(tmp_path / "one"), str(folder)))
        (folder / "run" / "config.yaml").write_text("name: tiny\n")
    compare_runs([run, other / "run"], tmp_path / "out")
    page = (tmp_path / "out" / "comparison.html").read_text()
    assert "dedup.n" in page
    facts = json.loads((tmp_path / "out" / "comparison.json").read_bytes())["facts"]
    key = "account/2/docs/unique_tokens"
    assert [f["value"] for f in facts if f["receipt"]["key"] == key] == [512, 512]
