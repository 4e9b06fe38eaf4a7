"""RUN/metrics.jsonl is JSON whatever happens, and the display counts the steps of the run."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from train.metrics import Display, MetricsLog

LINE: dict[str, Any] = {"step": 4, "loss": math.nan, "lr": 0.1, "grad_norm": None}
LINE |= {"tokens_per_s": 1000.0, "val_loss": {"web": math.inf, "docs": 2.0}}


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    MetricsLog(tmp_path).append(LINE)
    text = (tmp_path / "metrics.jsonl").read_text()
    found = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert found == LINE | {"loss": None, "val_loss": {"web": None, "docs": 2.0}}


def test_progress_is_that_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A segment ends at step 5 of 20: its last line is shown, with the steps of all segments."""
    with Display(first=2, last=5, num_steps=20, enabled=True) as display:
        display.show(LINE | {"step": 3})  # too soon after the start
        display.show(LINE)
    shown = capsys.readouterr().out
    assert "step 4/20" not in shown
    assert "step 5/20  loss nan  lr 1.00e-01  skipped  1k tok/s  remaining" in shown
    assert "step 5: held-out loss web inf, docs 2.000" in shown
