"""Copies of documents found by their hashes, kept with the plan, and seen in the ledger."""

from dataclasses import replace
from pathlib import Path

import pytest

from shards.accounts import Accounts, as_json
from shards.duplicates import find_duplicates
from shards.errors import DatasetError
from shards.ledger import LedgerEntry
from shards.plan import Plan
from shards.plan_file import load_plan, save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.views import ledger_table
from tests.helpers import make_dataset

A = ["first of all", "twice in one", "in both", "twice in one"]
B = ["only in b", "in both", "in both but not quite"]


def plan_of(directory: Path) -> Plan:
    streams = {
        0: make_dataset(directory / "a", {"a": A}, shard_tokens=20).stream("a"),
        1: make_dataset(directory / "b", {"b": B}).stream("b"),
    }
    found = find_duplicates(streams)
    sources = tuple(
        PlanSource(s.source, f"id{n}", s.source, "train", s.num_tokens) for n, s in streams.items()
    )
    phase = PlanPhase("p", 9, 5, ("1", "1"))
    return Plan(3, 0, "shuffled", sources, (phase,), duplicates=found)


def test_copies_within_and_across_datasets(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert plan.duplicates is not None
    rows = sorted(plan.duplicates.frame.select("source", "token_start", "token_count").rows())
    starts_a = [sum(len(text) + 1 for text in A[:n]) for n in range(4)]
    assert rows == [(0, starts_a[1], 13), (0, starts_a[2], 8), (0, starts_a[3], 13), (1, 10, 8)]
    groups = dict(plan.duplicates.frame.select("token_start", "group").rows())
    assert groups[starts_a[1]] == groups[starts_a[3]] != groups[starts_a[2]] == groups[10]
    assert plan.duplicates.overlaps(["a", "b"]) == [("a", "a", 1, 13), ("a", "b", 1, 8)]


def test_nothing_is_kept_where_there_are_none(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path / "a", {"a": ["one", "two"]})
    assert find_duplicates({0: dataset.stream("a")}) is None
    assert find_duplicates({}) is None


def test_they_are_kept_with_the_plan_and_leave_its_id_alone(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    assert replace(plan, duplicates=None).plan_id == plan.plan_id
    path = tmp_path / "run" / "plan.json"
    path.parent.mkdir()
    save_plan(plan, {"a": "x", "b": "y"}, path)
    again, _ = load_plan(path)
    assert again.account(9) == plan.account(9)
    # 13 + 8, but the last token of stream a is in no window
    assert sum(account.duplicate_tokens for account in again.account(9)) == 20
    (file,) = path.parent.glob("duplicates-*.parquet")
    before = (path.read_bytes(), file.read_bytes())
    save_plan(again, {"a": "x", "b": "y"}, path)
    assert (path.read_bytes(), file.read_bytes()) == before
    file.write_bytes(before[1] + b"x")
    with pytest.raises(DatasetError, match="missing or changed since the plan was made"):
        load_plan(path)


def test_the_ledger_says_what_is_not_unique(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    save_plan(plan, {}, tmp_path / "plan.json")
    entries = [LedgerEntry(step, {}, 0, "", "") for step in range(9)]
    books = Accounts(tmp_path, plan, {}, entries)
    assert books.sources == plan.account(9)
    shown = ledger_table(books)
    assert "20 tokens not unique" in str(shown.renderables[0])


def test_json_of_the_ledger(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    values = as_json(Accounts(tmp_path, plan, {}, []), None)
    assert (values["unique_tokens"], values["duplicate_tokens"]) == (0, 0)
