"""Who reads which row: the same global batch for any number of ranks and any micro-batch."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from configs.train import LoaderConfig
from shards.errors import DatasetError
from shards.ledger import DIGEST_MODULUS, digest_tokens, digest_windows, planned_entry
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from tests.helpers import make_dataset
from tests.test_shards_loss_mask import masked_dataset
from train.collective import _limbs, _number
from train.data import RankReader, Rows, prefetched
from train.run_data import verify_shards

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


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("steps_ahead", [1, 2, 9])
def test_any_number_of_threads_gives_the_same_batches(
    dataset: Dataset, threads: int, steps_ahead: int
) -> None:
    ours = SlowReader(dataset, 1, 2, 3)
    with prefetched(ours, 4, 10, LoaderConfig(threads=threads, steps_ahead=steps_ahead)) as batches:
        got = list(batches)
    assert len(got) == 6
    for step, batch in zip(range(4, 10), got, strict=True):
        for rows, expected in zip(batch, reader(dataset, 1, 2, 3).read(step), strict=True):
            np.testing.assert_array_equal(rows.tokens, expected.tokens)
            np.testing.assert_array_equal(rows.window, expected.window)


class SlowReader(RankReader):
    """Reads even steps late, so that threads are done out of order."""

    def __init__(self, dataset: Dataset, rank: int, world_size: int, micro_batch: int) -> None:
        streams = [dataset.stream(name) for name in ("a", "b")]
        ranks = {"rank": rank, "world_size": world_size, "micro_batch": micro_batch}
        super().__init__(plan_of(dataset), streams, **ranks)

    def read(self, step: int) -> list[Rows]:
        time.sleep(0.03 * (step % 2 == 0))
        return super().read(step)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_of_a_thread_is_raised_at_its_step(dataset: Dataset, threads: int) -> None:
    loader = LoaderConfig(threads=threads, steps_ahead=3)
    with prefetched(reader(dataset, 0, 1, 12), 8, 12, loader) as batches:
        assert len(next(batches)) == len(next(batches)) == 1
        with pytest.raises(DatasetError, match="step 10: the plan has steps 0 to 9"):
            next(batches)


@pytest.mark.parametrize("verify", ["off", "lazy"])
def test_a_changed_shard_is_named_when_it_is_first_read(
    dataset: Dataset, tmp_path: Path, verify: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    shard = copy / dataset.stream("a").facts.shards[1].path
    changed = bytearray(shard.read_bytes())
    changed[11] ^= 1
    shard.write_bytes(changed)
    ours = reader(Dataset.open(copy, check=verify == "lazy"), 0, 1, 12)
    with prefetched(ours, 0, 10, LoaderConfig()) as batches:
        if verify == "off":
            assert len(list(batches)) == 10
        else:
            with pytest.raises(DatasetError, match=r"a/train/00001\.bin: checksum differs"):
                list(batches)


def test_checksums_of_all_shards_are_verified_before_the_first_step(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(dataset.path, copy)
    datasets = dict.fromkeys("ab", Dataset.open(copy))
    shards = dataset.stream("a").facts.shards
    verify_shards(plan_of(dataset), datasets, None)
    (copy / shards[-1].path).write_bytes(bytes(shards[-1].bytes))
    datasets = dict.fromkeys("ab", Dataset.open(copy))
    monkeypatch.setenv("LOCAL_SIZE", "2")
    found = []
    for rank in ("0", "1"):  # the two ranks of a machine share the work: one of them finds it
        monkeypatch.setenv("LOCAL_RANK", rank)
        try:
            verify_shards(plan_of(dataset), datasets, None)
        except DatasetError as error:
            found.append(str(error))
    assert len(found) == 1
    assert f"{shards[-1].path}: checksum differs" in found[0]


def test_leaving_early_ends_the_reading_threads(dataset: Dataset) -> None:
    with prefetched(reader(dataset, 0, 1, 12), 0, 10, LoaderConfig(threads=3)) as batches:
        next(batches)
        assert any(thread.name.startswith("data") for thread in threading.enumerate())
    assert not any(thread.name.startswith("data") for thread in threading.enumerate())


def test_masked_documents_are_told(dataset: Dataset) -> None:
    plan = replace(plan_of(dataset), document_mask=True)
    streams = [dataset.stream(name) for name in ("a", "b")]
    masked = 0
    for rows in RankReader(plan, streams, rank=0, world_size=1, micro_batch=4).read(3):
        assert rows.documents is not None
        masked += int((rows.tokens[:, :-1] == 0).sum())  # EOS is id 0
        assert rows.documents.counted.shape == (4, SEQ_LEN)
    assert masked > 0
    entry = planned_entry(plan, 3, {"a": streams[0], "b": streams[1]})
    assert entry["masked_targets"] == masked


@pytest.mark.parametrize("order", ["shuffled", "rows"])
@pytest.mark.parametrize("apart", [False, True])
def test_tokens_that_the_dataset_masks_are_no_targets(
    order: Literal["shuffled", "rows"], apart: bool, tmp_path: Path
) -> None:
    stream = masked_dataset(tmp_path / "dataset").stream("a")
    source = PlanSource("a", "id", "a", "train", stream.num_tokens, masked=True)
    phase = PlanPhase("pretrain", num_steps=3, batch_windows=4, weights=("1",))
    plan = Plan(4, 3, order, (source,), (phase,), document_mask=apart)
    assert Plan.from_json(plan.to_json()) == plan
    gone = np.zeros(stream.num_tokens, np.bool_)
    for start, stop in ((2, 9), (11, 14), (20, 23)):
        gone[start:stop] = True
    for step in range(3):
        masked = 0
        for rows in RankReader(plan, [stream], rank=0, world_size=1, micro_batch=2).read(step):
            assert rows.documents is not None
            assert (rows.documents.cu_seqlens is not None) == apart
            starts = rows.window * (5 if order == "rows" else 4)
            where = (starts[:, None] + np.arange(1, 5)) % stream.num_tokens
            expected = ~gone[where] & ((rows.tokens[:, :-1] != 0) | (not apart))
            np.testing.assert_array_equal(rows.documents.counted, expected)
            masked += int((~expected).sum())
        assert planned_entry(plan, step, {"a": stream})["masked_targets"] == masked
        assert "masked_targets" not in planned_entry(plan, step)
