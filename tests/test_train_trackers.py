"""Trackers get every line; steps done again after a resume replace the old ones."""

import csv
import importlib.util
from pathlib import Path
from typing import Any

import pytest

from configs.train import TrainConfig
from tests.test_train_zero import config
from train.errors import TrainError
from train.trackers import check_trackers, flat, opened


def with_trackers(*names: str) -> TrainConfig:
    return TrainConfig.model_validate(config().model_dump() | {"trackers": names})


def line(step: int, **more: Any) -> dict[str, Any]:
    return {"step": step, "phase": "pretrain", "loss": 3.5, "grad_norm": None, **more}


def read_csv(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_nested_values_are_named_by_source() -> None:
    assert flat({"a": 1, "val_loss": {"web": 3, "math": 2}, "deep": {"x": {"y": 0.5}}}) == {
        "a": 1,
        "val_loss/web": 3,
        "val_loss/math": 2,
        "deep/x/y": 0.5,
    }


def test_csv_has_late_columns_and_survives_a_resume(tmp_path: Path) -> None:
    with opened(tmp_path, with_trackers("csv"), 0, enabled=True) as trackers:
        trackers.log(line(0))
        trackers.log(line(1, val_loss={"web": 4.0}))
        trackers.log(line(2))
    with opened(tmp_path, with_trackers("csv"), 2, enabled=True) as trackers:
        trackers.log(line(2, loss=3.0))
    rows = read_csv(tmp_path)
    assert [row["step"] for row in rows] == ["0", "1", "2"]
    assert [row["val_loss/web"] for row in rows] == ["", "4.0", ""]
    assert [row["loss"] for row in rows] == ["3.5", "3.5", "3.0"]


def test_only_the_first_rank_tracks(tmp_path: Path) -> None:
    with opened(tmp_path, with_trackers("csv"), 0, enabled=False) as trackers:
        trackers.log(line(0))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_a_missing_package_is_named_with_its_extra(name: str) -> None:
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    check_trackers(["csv"])
    with pytest.raises(TrainError, match=rf"pip install 'tallylm\[{name}\]'"):
        check_trackers([name])


def test_tensorboard_has_the_values(tmp_path: Path) -> None:
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with opened(tmp_path, with_trackers("tensorboard"), 0, enabled=True) as trackers:
        for step in range(3):
            trackers.log(line(step, val_loss={"web": 4.0 - step}))
    with opened(tmp_path, with_trackers("tensorboard"), 2, enabled=True) as trackers:
        trackers.log(line(2, loss=1.0))
    events = reading.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.value for event in events.Scalars("val_loss/web")] == [4.0, 3.0]
    assert [event.value for event in events.Scalars("loss")] == [3.5, 3.5, 1.0]
