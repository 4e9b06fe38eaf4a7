"""The stages of decontamination, wired together for `pipeline.plan`."""

from functools import partial
from typing import NamedTuple

import contamination.clusters
import contamination.halves
import contamination.index
import contamination.index_files
import contamination.lookup
import contamination.removal
import contamination.rules
import contamination.scan
import contamination.sequences
import contamination.surprisal
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
        inputs, key = self.filtered.files(), index_key(self.benchmarks)
        deduped, revised = self.deduped, self.revised
        folders = [stage.directory for stage in revised.values()]
        code = {"recipe": RECIPE_HASH, "index": key}
        identity = [decontamination_removal.benchmark_identity(each) for each in self.benchmarks]
        index = self.stage(
            "benchmarks",
            [
                contamination.index,
                contamination.index_files,
                contamination.lookup,
                contamination.sequences,
            ],
            code,
            num_tasks=1,
            steps=lambda d: [decontamination.BuildIndex(self.benchmarks, d)],
            recount=lambda d: {"benchmarks": identity},
            weights=lambda: [1.0],
        )
        path = index.directory / f"index-{key}"
        scanned = self.stage(
            "scan",
            [contamination.lookup, contamination.scan, contamination.surprisal, decontamination],
            {"dedup": deduped.key, "revised": keys_of(revised), "index": index.key, **code},
            num_tasks=len(inputs),
            steps=lambda d: [
                decontamination.ScanForItems(
                    inputs, deduped.directory / DUPLICATES, folders, path, d
                )
            ],
            recount=partial(decontamination.weigh_words, len(inputs), path),
            weights=self.filtered.weights,
        )
        removed = self.stage(
            "decontaminate",
            [
                contamination.clusters,
                contamination.halves,
                contamination.removal,
                contamination.rules,
                decontamination,
                decontamination_removal,
            ],
            {"scan": scanned.key, "config": config.model_dump(), "benchmarks": identity},
            num_tasks=len(inputs),
            steps=lambda d: [
                decontamination_removal.RemoveItems(
                    inputs, folders, path, scanned.directory, config, d
                )
            ],
            recount=partial(
                decontamination_removal.removal_facts,
                self.benchmarks,
                config,
                path,
                scanned.directory,
                len(inputs),
            ),
            weights=self.filtered.weights,
        )
        return DecontaminationStages(index, scanned, removed)
