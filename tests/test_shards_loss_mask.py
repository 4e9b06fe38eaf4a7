"""Tokens that give no loss: spans in order, in the right shard, and the targets they mean."""

from pathlib import Path

import numpy as np
import pytest

from shards.errors import DatasetError
from shards.index import index_frame
from shards.layout import Layout
from shards.loss_mask import as_bytes, counted_targets, merged, problem, read_spans
from shards.manifest import Manifest, SplitFacts, seal
from shards.reader import Dataset
from shards.verify import verify_dataset
from shards.writer import SplitWriter
from tests.helpers import document, make_dataset


def spans(*pairs: tuple[int, int]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    return np.array(pairs, np.int64).reshape(-1, 2)


def masked_dataset(directory: Path) -> Dataset:
    """Documents of 9, 9 and 12 tokens, two shards; the third to fifth token of each is masked.

    As if it were one place, the mask of the first document goes on to its EOS.
    """
    plain = make_dataset(directory, {"a": ["x"]})
    tokens = [np.array([*range(1, size), 0], np.uint16) for size in (9, 9, 12)]
    rows = [document(f"d{k}", f"text {k}") for k in range(3)]
    writer = SplitWriter(directory, "a", "train", np.dtype("<u2"), 0, shard_tokens=20)
    (directory / "a/train/00000.bin").unlink()
    masked = spans((2, 9), (11, 14), (20, 23))
    writer.add_many(index_frame(rows, [9, 9, 12]), np.concatenate(tokens), masked)
    return with_splits(plain, {"train": writer.close()})


def with_splits(dataset: Dataset, splits: dict[str, SplitFacts]) -> Dataset:
    values = dataset.manifest.model_dump()
    values["sources"]["a"]["splits"] = {name: facts.model_dump() for name, facts in splits.items()}
    seal(dataset.path, Manifest.model_validate(values))
    return Dataset.open(dataset.path)


def test_spans_are_put_in_order_and_joined() -> None:
    found = merged(spans((8, 9), (1, 3), (3, 5), (2, 4), (6, 6)))
    assert found.tolist() == [[1, 5], [8, 9]]
    assert merged(spans()).tolist() == []


@pytest.mark.parametrize(
    ("pairs", "wrong"),
    [
        ([(0, 3), (5, 10)], None),
        ([], "no spans"),
        ([(-1, 3)], "outside"),
        ([(5, 11)], "outside"),
        ([(3, 3)], "empty"),
        ([(0, 3), (3, 4)], "touch"),
        ([(4, 6), (0, 2)], "order"),
    ],
)
def test_spans_of_a_shard_are_checked(pairs: list[tuple[int, int]], wrong: str | None) -> None:
    found = problem(spans(*pairs), 10)
    assert found is None if wrong is None else wrong in str(found)


def test_the_targets_of_windows_and_of_rows_that_wrap() -> None:
    windows = counted_targets(spans((2, 4), (6, 7)), np.array([0, 1]), Layout(9, 4))
    # targets are tokens 1 2 3 4, and 5 6 7 8
    assert windows.tolist() == [[True, False, False, True], [True, False, True, True]]
    rows = counted_targets(spans((0, 1), (8, 9)), np.array([1]), Layout(9, 5, rows=True))
    # row 1 reads tokens 6 7 8 0 1 2 of 9
    assert rows.tolist() == [[True, False, False, True, True]]


def test_a_writer_shares_spans_out_to_shards(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path / "dataset")
    first, second = dataset.manifest.sources["a"].splits["train"].shards
    assert first.masked is not None
    assert second.masked is not None
    assert read_spans(dataset.path / first.masked.path).tolist() == [[2, 9], [11, 14]]
    assert read_spans(dataset.path / second.masked.path).tolist() == [[2, 5]]
    assert (first.masked.tokens, second.masked.tokens) == (10, 3)
    stream = dataset.stream("a")
    assert stream.masked.tolist() == [[2, 9], [11, 14], [20, 23]]
    assert stream.masked_within(9, 12).tolist() == [[11, 14]]
    assert {first.masked.path, second.masked.path} <= dataset.manifest.files()
    assert not verify_dataset(dataset.path).problems


def test_spans_that_do_not_fit_are_found(tmp_path: Path) -> None:
    dataset = masked_dataset(tmp_path / "dataset")
    (facts,) = dataset.manifest.sources["a"].splits.values()
    shard = facts.shards[0]
    assert shard.masked is not None
    path = dataset.path / shard.masked.path
    path.write_bytes(as_bytes(spans((2, 9), (11, 15))))
    (found,) = verify_dataset(dataset.path).problems
    assert found == f"{shard.masked.path}: checksum differs from the manifest"
    with pytest.raises(DatasetError, match="checksum differs"):
        _ = Dataset.open(dataset.path).stream("a").masked
    path.write_bytes(b"123")
    with pytest.raises(DatasetError, match="3 bytes are no pairs of int64"):
        read_spans(path)


def test_a_dataset_without_a_mask_says_nothing_of_it(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "dataset", {"a": ["some text"]})
    assert "masked" not in dataset.manifest.model_dump_json()
    assert not dataset.stream("a").has_masked
