"""What goes wrong in other loaders, as tests of the plan.

Sources that are never fully seen; epochs that blur into each other; samples that are repeated or
dropped to fit the number of ranks; sampling with replacement.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from tests.helpers import make_dataset
from train.data import RankReader

SEQ_LEN = 8


def plan_of(
    windows: dict[str, int], weights: tuple[str, ...], steps: int, batch: int, seed: int = 1
) -> Plan:
    sources = tuple(
        PlanSource(name, "id", name, "train", count * SEQ_LEN + 1)
        for name, count in windows.items()
    )
    return Plan(SEQ_LEN, seed, "shuffled", sources, (PlanPhase("p", steps, batch, weights),))


def reads(plan: Plan, source: int, first: int = 0, last: int | None = None) -> Counter[int]:
    """How often the steps [first, last) read each window of a source."""
    found: Counter[int] = Counter()
    for step in range(first, plan.num_steps if last is None else last):
        batch = plan.step(step)
        found.update(batch.window[batch.source == source].tolist())
    return found


def test_every_source_is_seen_whole_whatever_its_share() -> None:
    """One index tiled over epochs shows 55 % of the large source here, ten times over."""
    plan = plan_of({"small": 100, "large": 1000}, ("1/2", "1/2"), steps=200, batch=100)
    assert reads(plan, 0) == dict.fromkeys(range(100), 100)
    assert reads(plan, 1) == dict.fromkeys(range(1000), 10)
    plan = plan_of({"a": 500, "b": 500}, ("1/5", "4/5"), steps=25, batch=100)
    assert reads(plan, 0) == dict.fromkeys(range(500), 1)
    assert reads(plan, 1) == dict.fromkeys(range(500), 4)


@pytest.mark.parametrize("epochs", [1.9, 3.9])
def test_epochs_do_not_blur(epochs: float) -> None:
    """Shuffling all epochs together leaves 25 to 32 % of the first one unseen."""
    windows, batch = 1000, 10
    plan = plan_of({"a": windows}, ("1",), steps=int(epochs * windows) // batch, batch=batch)
    per_epoch = windows // batch
    for epoch in range(int(epochs)):
        seen = reads(plan, 0, epoch * per_epoch, (epoch + 1) * per_epoch)
        assert seen == dict.fromkeys(range(windows), 1)
    last = reads(plan, 0, int(epochs) * per_epoch)
    assert set(last.values()) == {1}
    orders = [[plan.step(e * per_epoch).window.tolist()] for e in range(int(epochs))]
    assert len({str(order) for order in orders}) == int(epochs)  # nor is one order used again


def test_an_epoch_is_no_sampling_with_replacement() -> None:
    """Drawing at random leaves 36.8 % of the data unseen after an epoch's worth."""
    plan = plan_of({"a": 4096}, ("1",), steps=64, batch=64)
    assert reads(plan, 0) == dict.fromkeys(range(4096), 1)


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 24), (2, 4), (3, 8), (8, 1), (24, 1)])
def test_nothing_is_repeated_or_dropped_to_fit_the_ranks(
    tmp_path: Path, world_size: int, micro_batch: int
) -> None:
    """Padding to a number of nodes repeats samples, and drops incomplete batches."""
    dataset: Dataset = make_dataset(tmp_path / "d", {"a": ["twenty bytes of text"] * 97})
    stream = dataset.stream("a")
    windows = stream.num_windows(SEQ_LEN)
    steps = 2 * windows // 24  # the batch does not divide the epoch: it ends within a step
    assert windows % 24
    plan = plan_of({"a": windows}, ("1",), steps, batch=24)
    seen: list[int] = []
    for step in range(steps):
        for rank in range(world_size):
            reader = RankReader(
                plan, [stream], rank=rank, world_size=world_size, micro_batch=micro_batch
            )
            seen += np.concatenate([rows.window for rows in reader.read(step)]).tolist()
    assert Counter(seen) == reads(plan, 0)
    assert max(Counter(seen).values()) == 2
    first_epoch = [w for step in range(windows // 24) for w in plan.step(step).window.tolist()]
    straddling = plan.step(windows // 24).window
    assert len(set(first_epoch)) == len(first_epoch)
    assert set(range(windows)) - set(first_epoch) <= set(straddling.tolist())
