"""The stages of deduplication over files of documents, as a build runs them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from configs.build import DedupConfig
from pipeline.dedup_files import working_bytes
from pipeline.dedup_plan import DedupPlanner, DedupStages
from pipeline.stages import Stage, stage_key


def dedup_stages(
    work: Path, files: Sequence[tuple[str, Path]], config: DedupConfig, memory: int | None = None
) -> DedupStages:
    """All stages over (source, documents file); their directories are in `work`."""

    def make(name: str, modules: list[Any], inputs: dict[str, Any], **rest: Any) -> Stage:
        key = stage_key(name, modules, inputs)
        return Stage(name=name, key=key, directory=work / name, **rest)

    bytes_ = working_bytes(config) if memory is None else memory
    weights = [path.stat().st_size / 1e6 for _, path in files]
    return DedupPlanner(config, files, "made", lambda: weights, make, bytes_).plan()


def run_dedup(
    work: Path, files: Sequence[tuple[str, Path]], config: DedupConfig, memory: int | None = None
) -> Path:
    """Run all stages in this process; returns the directory of the last one."""
    stages = dedup_stages(work, files, config, memory)
    for stage in stages:
        for rank in range(stage.num_tasks):
            run_task(stage, rank)
    return stages.decide.directory


def run_task(stage: Stage, rank: int) -> None:
    """Run one task of a stage."""
    stage.directory.mkdir(parents=True, exist_ok=True)
    for step in stage.steps(stage.directory):
        list(step.run(rank=rank))
