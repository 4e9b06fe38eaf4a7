"""The stages of decontamination, wired together for `pipeline.plan`."""

from functools import partial
from pathlib import Path
from typing import NamedTuple

from configs.cleaning import DecontaminationConfig
from contamination.index import index_key
from contamination.items import Benchmark
from contamination.words import RECIPE_HASH
from pipeline import decontamination, decontamination_removal
from pipeline.dedup import DUPLICATES
from pipeline.filtered import Filtered, keys_of
from pipeline.stages import MakeStage, Stage


class DecontaminationStages(NamedTuple):
    """In the order in which they run."""

    benchmarks: Stage
    scan: Stage
    remove: Stage


class DecontaminationPlanner:
    """Makes the stages.

    Args:
        benchmarks: whose items are looked for.
        filtered: the documents.
        deduped: the stage that decided which of them are duplicates.
        revised: the stages that revised the others before, by their names in the funnel.
        stage: makes a stage.
    """

    def __init__(
        self,
        benchmarks: list[Benchmark],
        filtered: Filtered,
        deduped: Stage,
        revised: dict[str, Stage],
        stage: MakeStage,
    ) -> None:
        self.benchmarks, self.filtered, self.stage = benchmarks, filtered, stage
        self.deduped, self.revised = deduped, revised

    def plan(self, config: DecontaminationConfig) -> DecontaminationStages:
        """All stages; nothing is read or written."""
        index = self._index()
        scanned = self._scan(index)
        return DecontaminationStages(index, scanned, self._remove(index, scanned, config))

    def _index(self) -> Stage:
        return self.stage(
            "benchmarks",
            [decontamination],
            self._code,
            num_tasks=1,
            steps=lambda d: [decontamination.BuildIndex(self.benchmarks, d)],
            recount=partial(decontamination.index_facts, self.benchmarks),
            weights=lambda: [1.0],
        )

    def _scan(self, index: Stage) -> Stage:
        inputs, duplicates = self.filtered.files(), self.deduped.directory / DUPLICATES
        folders, path = self._folders, self._index_folder(index)
        return self.stage(
            "scan",
            [decontamination],
            {
                "dedup": self.deduped.key,
                "revised": keys_of(self.revised),
                "index": index.key,
                **self._code,
            },
            num_tasks=len(inputs),
            steps=lambda d: [decontamination.ScanForItems(inputs, duplicates, folders, path, d)],
            recount=partial(decontamination.weigh_words, len(inputs), path),
            weights=self.filtered.weights,
        )

    def _remove(self, index: Stage, scanned: Stage, config: DecontaminationConfig) -> Stage:
        inputs, hits = self.filtered.files(), scanned.directory
        folders, path = self._folders, self._index_folder(index)
        return self.stage(
            "decontaminate",
            [decontamination_removal],
            {
                "scan": scanned.key,
                "config": config.model_dump(),
                "benchmarks": [decontamination.identity(each) for each in self.benchmarks],
            },
            num_tasks=len(inputs),
            steps=lambda d: [
                decontamination_removal.RemoveItems(inputs, folders, path, hits, config, d)
            ],
            recount=partial(
                decontamination_removal.removal_facts,
                self.benchmarks,
                config,
                path,
                hits,
                len(inputs),
            ),
            weights=self.filtered.weights,
        )

    @property
    def _code(self) -> dict[str, str]:
        return {"recipe": RECIPE_HASH, "index": index_key(self.benchmarks)}

    @property
    def _folders(self) -> list[Path]:
        return [stage.directory for stage in self.revised.values()]

    def _index_folder(self, index: Stage) -> Path:
        return index.directory / f"index-{index_key(self.benchmarks)}"
