"""Who reads which row: the same global batch for any number of ranks and any micro-batch."""

from pathlib import Path

import numpy as np
import pytest

from configs.train import LoaderConfig
from shards.errors import DatasetError
from shards.ledger import DIGEST_MODULUS, digest_tokens, digest_windows
from shards.plan import Plan, PlanPhase, PlanSource
from shards.reader import Dataset
from tests.helpers import make_dataset
from train.collective import _limbs, _number
from train.data import RankReader, prefetched

SEQ_LEN = 5


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    texts = {
        "a": [f"text {number} of the first source" for number in range(9)],
        "b": ["another source, shorter"] * 3,
    }
    return make_dataset(tmp_path_factory.mktemp("data") / "dataset", texts, shard_tokens=100)


def plan_of(dataset: Dataset) -> Plan:
    streams = [dataset.stream(name) for name in ("a", "b")]
    sources = tuple(
        PlanSource(
            s.source, dataset.manifest.dataset_id, s.source, s.split, s.num_tokens,
        )
        for s in streams
    )  # fmt: skip
    phase = PlanPhase("pretrain", num_steps=10, batch_windows=12, weights=("2/3", "1/3"))
    return Plan(seq_len=SEQ_LEN, seed=3, order="shuffled", sources=sources, phases=(phase,))


def reader(dataset: Dataset, rank: int, world_size: int, micro_batch: int) -> RankReader:
    streams = [dataset.stream(name) for name in ("a", "b")]
    plan = plan_of(dataset)
    return RankReader(plan, streams, rank=rank, world_size=world_size, micro_batch=micro_batch)


@pytest.mark.parametrize(("world_size", "micro_batch"), [(1, 12), (1, 4), (2, 3), (3, 1), (4, 3)])
def test_rows_are_dealt_from_the_global_batch(
    dataset: Dataset, world_size: int, micro_batch: int
) -> None:
    step = 7
    source, window = plan_of(dataset).step(step)
    seen = []
    for rank in range(world_size):
        batches = reader(dataset, rank, world_size, micro_batch).read(step)
        assert len(batches) == 12 // (world_size * micro_batch)
        for number, rows in enumerate(batches):
            for row in range(micro_batch):
                slot = (number * world_size + rank) * micro_batch + row
                assert (rows.source[row], rows.window[row]) == (source[slot], window[slot])
                stream = dataset.stream("ab"[rows.source[row]])
                start = int(rows.window[row]) * SEQ_LEN
                expected = stream.tokens(start, start + SEQ_LEN + 1)
                np.testing.assert_array_equal(rows.tokens[row], expected)
                seen.append(slot)
    assert sorted(seen) == list(range(12))


def test_ranks_digests_add_up_to_the_whole_batch(dataset: Dataset) -> None:
    whole = reader(dataset, 0, 1, 12).read(2)[0]
    parts = [reader(dataset, rank, 4, 3).read(2)[0] for rank in range(4)]
    ids = [_limbs(digest_windows(part.source, part.window)) for part in parts]
    tokens = [_limbs(digest_tokens(part.source, part.window, part.tokens)) for part in parts]
    assert _number([sum(limb) for limb in zip(*ids, strict=True)]) == digest_windows(
        whole.source, whole.window
    )
    assert _number([sum(limb) for limb in zip(*tokens, strict=True)]) == digest_tokens(
        whole.source, whole.window, whole.tokens
    )


@pytest.mark.parametrize("number", [0, 1, 2**32, 2**128 - 1, 0x0123456789ABCDEF_FEDCBA9876543210])
def test_limbs_hold_a_128_bit_number(number: int) -> None:
    assert _number(_limbs(number)) == number
    doubled = [2 * limb for limb in _limbs(number)]
    assert _number(doubled) == 2 * number % DIGEST_MODULUS


def test_prefetching_gives_the_same_batches(dataset: Dataset) -> None:
    ours = reader(dataset, 1, 2, 3)
    with prefetched(ours, 4, 10, LoaderConfig()) as batches:
        got = list(batches)
    assert len(got) == 6
    for step, batch in zip(range(4, 10), got, strict=True):
        for rows, expected in zip(batch, ours.read(step), strict=True):
            np.testing.assert_array_equal(rows.tokens, expected.tokens)


def test_errors_of_the_reading_thread_reach_the_loop(dataset: Dataset, tmp_path: Path) -> None:
    with (
        prefetched(reader(dataset, 0, 1, 12), 9, 12, LoaderConfig()) as batches,
        pytest.raises(DatasetError, match="step 10: the plan has steps 0 to 9"),
    ):
        list(batches)


def test_leaving_early_ends_the_reading_thread(dataset: Dataset) -> None:
    with prefetched(reader(dataset, 0, 1, 12), 0, 10, LoaderConfig()) as batches:
        next(batches)
