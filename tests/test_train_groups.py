"""Means of groups: weighted by size as lm-eval does it, told only where they are whole and true."""

import copy
import json
import math
from pathlib import Path
from typing import Any

import pytest

from train.groups import GROUPS_NAME, group_mean, group_names, write_groups
from train.tasks import expand


def result(task: str, size: int, accuracy: float) -> dict[str, Any]:
    stderr = math.sqrt(accuracy * (1 - accuracy) / (size - 1))
    metric = {"value": accuracy, "stderr": stderr, "higher_is_better": True}
    return {
        "task": task,
        "key": f"key of {task}",
        "model": {"step": 10},
        "lm_eval": "0.4",
        "settings": {"limit": None, "num_fewshot": 0},
        "items": {"scored": size, "in_split": size},
        "metrics": {"acc": metric, "acc:strict": metric},
    }


@pytest.fixture(scope="module")
def mmlu() -> list[dict[str, Any]]:
    """57 tasks of 100, 101, ... items, of which 25, 26, ... are right."""
    tasks = expand(["mmlu"])
    return [result(task, 100 + n, (25 + n) / (100 + n)) for n, task in enumerate(tasks)]


def test_mmlu_is_the_share_of_all_its_items(mmlu: list[dict[str, Any]]) -> None:
    assert len(mmlu) == 57
    right, items = sum(range(25, 82)), sum(range(100, 157))
    found = group_mean("mmlu", mmlu)
    share = right / items
    assert found["items"] == items
    assert found["metrics"]["acc"]["value"] == pytest.approx(share)
    # Pooled over subjects: a little below that of all items taken as one sample.
    whole = math.sqrt(share * (1 - share) / items)
    assert whole * 0.9 < found["metrics"]["acc"]["stderr"] < whole
    assert found["metrics"]["acc"]["weighted_by_size"] is True
    assert len(found["tasks"]) == 57


def test_groups_inside_groups_are_told_and_tags_have_no_mean() -> None:
    names = list(group_names("mmlu"))
    assert names[0] == "mmlu"
    assert set(names[1:]) == {
        f"mmlu_{n}" for n in ("stem", "other", "social_sciences", "humanities")
    }
    assert not list(group_names("ai2_arc"))
    assert not list(group_names("copa"))


def test_a_mean_is_dropped_where_a_task_is_of_another_model(
    mmlu: list[dict[str, Any]], tmp_path: Path
) -> None:
    found = write_groups(["mmlu", "copa"], mmlu, tmp_path)
    assert set(found) == set(group_names("mmlu"))
    assert json.loads((tmp_path / GROUPS_NAME).read_bytes())["groups"] == found
    for one in mmlu:
        (tmp_path / f"{one['task']}.json").write_text(json.dumps(one))
    other = result("copa", 20, 0.5)
    assert write_groups(["copa"], [other], tmp_path) == found, "kept: the tasks are still there"
    later = copy.deepcopy(mmlu[0]) | {"model": {"step": 20}}
    assert write_groups([later["task"]], [later], tmp_path) == {}
    assert json.loads((tmp_path / GROUPS_NAME).read_bytes())["groups"] == {}
    assert write_groups(["mmlu"], mmlu[1:5], tmp_path / "new") == {}
