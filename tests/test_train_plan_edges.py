"""From mixtures to plans where something runs short: windows, epochs, amounts, the cap."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from configs.mixture import MixtureConfig
from shards.errors import DatasetError
from shards.plan import Plan
from tests.helpers import make_dataset
from train.planning import build_plan


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Streams of 41, 14 and 5 tokens: in windows of 4 targets 10, 3 and 1 of them."""
    directory = tmp_path_factory.mktemp("edges") / "data"
    make_dataset(directory, {"ten": ["x" * 40], "three": ["y" * 13], "one": ["z" * 4]})
    return directory


def plan_of(data: Path, phases: list[dict[str, Any]], *names: str, **more: Any) -> Plan:
    sources = {name: {"dataset": str(data)} for name in names}
    values = {"sources": sources, "phases": phases, "seq_len": 4} | more
    return build_plan(MixtureConfig.model_validate(values))


def phase(batch: int, length: str, **weights: float) -> dict[str, Any]:
    return {"global_batch_tokens": 4 * batch, "length": length, "weights": weights}


def test_a_source_of_one_window_is_read_again_and_again(data: Path) -> None:
    plan = plan_of(data, [phase(2, "3 steps", one=1)], "one")
    assert [plan.step(k).window.tolist() for k in range(3)] == [[0, 0]] * 3
    (account,) = plan.account(3)
    assert (account.tokens, account.unique_tokens) == (24, 4)
    assert account.epochs == 6
    assert plan.steps_reading(0, 0, 4).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_source_of_fewer_windows_than_a_batch(data: Path) -> None:
    plan = plan_of(data, [phase(8, "1 step", three=1)], "three")
    times = sorted(plan.step(0).window.tolist().count(window) for window in range(3))
    assert times == [2, 3, 3]
    assert plan.account(1)[0].unique_tokens == 12


def test_a_source_that_is_read_up_is_left_out_of_the_next_phase(data: Path) -> None:
    both = {"global_batch_tokens": 8, "read": {"ten": "0.5 epochs", "three": "1 epoch"}}
    rest = {"global_batch_tokens": 4, "read": {"ten": "0.5 epochs"}}
    plan = plan_of(data, [both, rest], "ten", "three")
    counts = {account.name: account.windows for account in plan.account(plan.num_steps)}
    assert counts == {"ten": 10, "three": 3}
    assert all(account.epochs == 1 for account in plan.account(plan.num_steps))


@pytest.mark.parametrize("order", ["shuffled", "sequential", "rows"])
def test_the_cap_counts_over_phases_lengths_and_restarts(data: Path, order: str) -> None:
    phases = [
        phase(2, "4 steps", ten=1),
        phase(2, "2 steps", ten=1) | {"seq_len": 8, "global_batch_tokens": 16},
        phase(2, "2 steps", ten=1) | {"restart": True},
    ]
    free = plan_of(data, phases, "ten", order=order)
    assert free.account(8)[0].tokens == 4 * 8 + 2 * 16 + 2 * 8
    with pytest.raises(DatasetError, match=r"data\.max_epochs allows 1\.5"):
        plan_of(data, phases, "ten", order=order, max_epochs=1.5)
    settings = {"order": order, "max_epochs": 1.5}
    assert plan_of(data, phases, "ten", over_max_epochs="warn", **settings) == free
    cut = plan_of(data, phases, "ten", over_max_epochs="clip", **settings)
    assert cut.account(cut.num_steps)[0].epochs_read <= 1.5
    assert free.account(cut.num_steps + 1)[0].epochs_read > 1.5
    assert cut.account(cut.num_steps) == free.account(cut.num_steps)


@pytest.mark.parametrize(
    ("phases", "more", "said"),
    [
        ([phase(1, "9 steps", one=1)], {"seq_len": 8}, "hold no window of 8 targets"),
        ([phase(8, "1 step", one=1)], {"max_epochs": 1.0, "over_max_epochs": "clip"}, "first step"),
        (
            [{"global_batch_tokens": 4, "read": {"one": "3 tokens"}}],
            {},
            "less than one window",
        ),
        ([{"global_batch_tokens": 8, "read": {"one": "1 epoch"}}], {}, "shorter than one step"),
    ],
)
def test_what_cannot_be_read_is_refused(
    data: Path, phases: list[dict[str, Any]], more: dict[str, Any], said: str
) -> None:
    if more.get("seq_len") == 8:
        phases = [phases[0] | {"global_batch_tokens": 8}]
    with pytest.raises(DatasetError, match=said):
        plan_of(data, phases, "one", **more)


def test_a_length_that_a_source_of_no_weight_lacks_does_no_harm(data: Path) -> None:
    longer = {"global_batch_tokens": 8, "seq_len": 8, "length": "2 steps", "weights": {"ten": 1}}
    plan = plan_of(data, [phase(2, "2 steps", ten=1, one=1), longer], "ten", "one")
    assert [account.windows for account in plan.account(4)] == [4, 2]
    assert list(plan.readings(1, 0, 5))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"restart": True}, "in the first phase"),
        ({"seq_len": 3}, "is not a multiple of seq_len 3"),
        ({"seq_len": 0}, "greater than 0"),
    ],
)
def test_phases_that_make_no_sense_are_refused(
    data: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        plan_of(data, [phase(2, "2 steps", ten=1) | changes], "ten")
