"""The learning rate in closed form, at steps worked out by hand."""

from typing import Literal

import pytest

from configs.train import CosineSchedule, WsdSchedule
from train.errors import TrainError
from train.schedule import check_schedule, multiplier

WARM_UPS: tuple[Literal["one_step", "zero", "floor"], ...] = ("one_step", "zero", "floor")


def test_cosine_by_hand() -> None:
    schedule = CosineSchedule(warmup_steps=4, floor=0.1)
    values = {step: multiplier(schedule, step, num_steps=12) for step in range(12)}
    assert [values[step] for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert values[4] == 1.0
    assert values[8] == pytest.approx(0.55)  # half way: the mean of 1 and 0.1
    assert values[10] == pytest.approx(0.1 + 0.9 * 0.5 * (1 - 2**-0.5))  # cos 135 degrees
    assert values[11] > 0.1
    assert multiplier(schedule, 12, num_steps=12) == pytest.approx(0.1)


def test_wsd_by_hand() -> None:
    schedule = WsdSchedule(shape="wsd", warmup_steps=2, decay_steps=4, floor=0.2)
    values = [multiplier(schedule, step, num_steps=10) for step in range(10)]
    assert values[:7] == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert values[7] == pytest.approx(0.2 + 0.8 * (1 - 0.5))  # sqrt(1/4)
    assert values[9] == pytest.approx(0.2 + 0.8 * (1 - 0.75**0.5))


def test_warm_ups_by_hand() -> None:
    values = {
        kind: [
            multiplier(CosineSchedule(warmup_steps=4, warmup=kind, floor=0.2), step, num_steps=9)
            for step in range(5)
        ]
        for kind in WARM_UPS
    }
    assert values["one_step"] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert values["zero"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert values["floor"] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])


def test_wsd_without_decay_and_without_warmup_is_constant() -> None:
    schedule = WsdSchedule(shape="wsd", warmup_steps=0, decay_steps=0, floor=0.0)
    assert [multiplier(schedule, step, num_steps=3) for step in range(3)] == [1.0, 1.0, 1.0]


def test_a_schedule_longer_than_the_data_is_refused() -> None:
    schedule = WsdSchedule(shape="wsd", warmup_steps=6, decay_steps=5)
    check_schedule(schedule, num_steps=11)
    with pytest.raises(TrainError, match="6 warm-up and 5 decay steps do not fit into the 10"):
        check_schedule(schedule, num_steps=10)
