"""A stage: a datatrove pipeline whose outputs live under the hash of all that determines them.

`<work>/<name>-<key>/` holds the outputs, `datatrove/` (completion markers, statistics, logs) and,
last of all, `done.json`: the key, what was counted in the outputs, and their sizes. The key covers
configuration, inputs, package versions and the source code of the stage (`pipeline.source_code`),
so neither a stale file nor another configuration's completion marker can be picked up.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from datatrove.pipeline.base import PipelineStep

from configs.terminal import progress
from pipeline.executor import Runner
from pipeline.reuse import has_receipts
from pipeline.source_code import HARMLESS
from pipeline.task_report import shown
from shards.atomic import remove_leftovers, write_json_atomic
from shards.hashing import blake3_json

_DONE = "done.json"
LOGS = "datatrove"
"""Folder of a stage that datatrove keeps its markers, statistics and logs in."""


@dataclass(frozen=True)
class Stage:
    """One stage of a build, before it runs."""

    name: str
    key: str
    """Hash of all that determines the outputs."""
    modules: frozenset[str]
    """Those whose code is in the key."""
    directory: Path
    num_tasks: int
    steps: Callable[[Path], list[PipelineStep]]
    """The datatrove pipeline that writes into the directory."""
    recount: Callable[[Path], dict[str, Any]]
    """Counts the finished outputs; JSON."""
    weights: Callable[[], list[float]]
    """Megabytes of text in every task, for the progress bar; asked for just before the run."""

    def facts(self) -> dict[str, Any] | None:
        """What `recount` found, if the stage is complete with all its files; else None."""
        try:
            done = json.loads((self.directory / _DONE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        if done["key"] != self.key or done["files"] != _sizes(self.directory):
            return None
        facts: dict[str, Any] = done["facts"]
        return facts

    def state(self) -> str:
        """What a run has to do about it: `reused` for nothing, `to finish` or `to do`."""
        if self.facts() is not None:
            return "reused"
        finished = len(list((self.directory / LOGS / "completions").glob("*")))
        if finished and not (self.directory / _DONE).exists():
            return f"to finish ({finished} of {self.num_tasks} tasks done)"
        return "to do where files changed" if has_receipts(self.directory) else "to do"

    def run(self, runner: Runner) -> dict[str, Any]:
        """Do what is not done yet; returns the facts."""
        facts = self.facts()
        if facts is not None:
            return facts
        assert self._all_code() <= self.modules | HARMLESS, f"{self.name}: code beside the key"
        if (self.directory / _DONE).exists():  # complete once, but files are gone or changed
            shutil.rmtree(self.directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._run_tasks(runner)
        remove_leftovers(self.directory, below=True)  # of tasks that were killed
        facts = self.recount(self.directory)
        done = {"key": self.key, "facts": facts, "files": _sizes(self.directory)}
        write_json_atomic(self.directory / _DONE, done)
        return facts

    def _all_code(self) -> set[str]:
        """The modules whose code makes and counts the outputs, without what they import."""
        counting = getattr(self.recount, "func", self.recount)  # of a partial
        return {type(step).__module__ for step in self.steps(self.directory)} | {
            counting.__module__
        }

    def _run_tasks(self, runner: Runner) -> None:
        logs, weights = self.directory / LOGS, self.weights()
        with progress(self.name, sum(weights), "MB") as bar, shown(logs, weights, bar):
            runner.run(self.steps(self.directory), self.num_tasks, logs)


Weights = Callable[[], list[float]]
"""Megabytes of text in every task of a stage."""


class MakeStage(Protocol):
    """What `Planner` makes its stages with."""

    def __call__(
        self, name: str, modules: list[ModuleType], inputs: dict[str, Any], **rest: Any
    ) -> Stage:
        """A stage, with its key and directory.

        Args:
            name: the stage's name.
            modules: of its steps and of `recount`; what they import is found.
            inputs: see `stage_key`.
            rest: see `Stage`.
        """


def no_facts(directory: Path) -> dict[str, Any]:
    """`Stage.recount` of a stage of whose outputs nothing is counted."""
    return {}


def stage_key(name: str, code: dict[str, str], inputs: dict[str, Any]) -> str:
    """The key of a stage.

    Args:
        name: the stage's name.
        code: the hashes of the modules that determine the outputs, by name.
        inputs: JSON: configuration, pins, keys of earlier stages, package versions.
    """
    return blake3_json({"stage": name, "code": code, "inputs": inputs})


def _sizes(directory: Path) -> dict[str, int]:
    """Bytes of every output file."""
    files = (path for path in sorted(directory.rglob("*")) if path.is_file())
    named = {path.relative_to(directory).as_posix(): path.stat().st_size for path in files}
    return {name: size for name, size in named.items() if _is_output(name)}


def _is_output(name: str) -> bool:
    return name != _DONE and not name.startswith(f"{LOGS}/") and not name.endswith(".tmp")
