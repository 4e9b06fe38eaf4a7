"""The stages of deduplication over files of documents, as a build runs them."""

from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from types import ModuleType
from typing import Any

from datatrove.pipeline.base import PipelineStep

from configs.cleaning import DedupConfig
from pipeline.dedup_files import working_bytes
from pipeline.dedup_held import open_held
from pipeline.dedup_plan import DedupPlanner, DedupStages
from pipeline.source_code import code_of
from pipeline.stages import Stage, stage_key
from shards.hashing import blake3_file


def dedup_stages(
    work: Path, files: Sequence[tuple[str, Path]], config: DedupConfig, memory: int | None = None
) -> DedupStages:
    """All stages over (source, documents file); their directories are in `work`."""
    held = open_held(config.against)
    key = [(name, blake3_file(path)) for name, path in files]

    def make(name: str, modules: list[ModuleType], inputs: dict[str, Any], **rest: Any) -> Stage:
        code = code_of(module.__name__ for module in modules)
        key = stage_key(name, code, inputs)
        modules_ = frozenset(code)
        return Stage(name=name, key=key, modules=modules_, directory=work / name, **rest)

    bytes_ = working_bytes(config) if memory is None else memory
    weights = [path.stat().st_size / 1e6 for _, path in files]
    return DedupPlanner(config, held, files, key, lambda: weights, make, bytes_).plan()


def run_dedup(
    work: Path, files: Sequence[tuple[str, Path]], config: DedupConfig, memory: int | None = None
) -> Path:
    """Run all stages in this process; returns the directory of the last one."""
    stages = dedup_stages(work, files, config, memory)
    for stage in stages.all():
        run_stage(stage)
    return stages.decide.directory


class InThisProcess:
    """Runs the tasks of a stage one after the other, without datatrove's markers and logs."""

    def run(self, steps: list[PipelineStep], tasks: int, logs: Path) -> None:
        """Run all tasks."""
        for rank in range(tasks):
            for step in deepcopy(steps):
                list(step.run(rank=rank))


def run_stage(stage: Stage) -> None:
    """Run a stage in this process."""
    stage.run(InThisProcess())
