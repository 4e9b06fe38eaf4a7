"""What a task cost is written when it ends, and added up by stage."""

import time
from pathlib import Path

import pytest

from pipeline.task_costs import measuring, stage_costs

ROOM = 80_000_000


def burn(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        sum(range(1000))


def test_processor_time_is_added_up_and_the_largest_task_is_told(tmp_path: Path) -> None:
    with measuring(tmp_path, 0):
        burn(0.05)
        large = bytearray(ROOM)  # zeros that are written: they take memory
        large[::4096] = b"1" * len(large[::4096])
        time.sleep(0.5)  # memory is looked at five times a second
        del large
    with measuring(tmp_path, 1):
        time.sleep(0.05)  # no work
    costs = stage_costs(tmp_path)
    assert 0.05 <= costs["processor_seconds"] < 0.5
    assert costs["tasks"] == 2
    alone = tmp_path / "alone"
    alone.mkdir()
    with measuring(alone, 0):
        pass
    assert costs["peak_mb"] - stage_costs(alone)["peak_mb"] > 0.9 * ROOM / 1e6


def test_a_task_that_fails_costs_nothing_yet(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), measuring(tmp_path, 0):
        _ = 1 / 0
    assert stage_costs(tmp_path)["tasks"] == 0


def test_a_measurement_cut_off_by_a_kill_is_passed_over(tmp_path: Path) -> None:
    with measuring(tmp_path, 0):
        pass
    (tmp_path / "costs/00001.json").write_text('{"processor_sec')
    assert stage_costs(tmp_path)["tasks"] == 1
