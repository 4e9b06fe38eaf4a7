"""`tally plot`: a file a curve, of whatever the runs have."""

import json
from pathlib import Path
from typing import Any

import pytest

from train.errors import TrainError
from train.plot import plot_runs

PNG = b"\x89PNG"


def make_run(path: Path, steps: int, validated: bool) -> Path:
    path.mkdir(parents=True)
    lines: list[dict[str, Any]] = [
        {"step": i, "loss": 5 - i / steps, "lr": 0.1, "grad_norm": None if i == 3 else 1.0}
        | {"tokens": 64 * (i + 1), "unique_tokens": min(64 * (i + 1), 256), "tokens_per_s": 9.0}
        for i in range(steps)
    ]
    if validated:
        lines[-1]["val_loss"] = {"web": 4.0, "math": 3.0}
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (path / "metrics.jsonl").write_text(text + '{"step": 9')  # a line being written
    return path


def test_every_curve_that_some_run_has(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "a", 40, True), make_run(tmp_path / "b", 10, False)]
    names = ["loss", "loss_unique", "heldout", "lr", "grad_norm", "speed"]
    paths = plot_runs(runs, tmp_path / "plots")
    assert [path.name for path in paths] == [f"{name}.png" for name in names]
    assert all(path.read_bytes().startswith(PNG) for path in paths)
    names.remove("heldout")
    assert [p.stem for p in plot_runs(runs[1:], tmp_path / "other")] == names


def test_a_run_that_did_not_train_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="is this a run that trained"):
        plot_runs([tmp_path], tmp_path / "plots")
