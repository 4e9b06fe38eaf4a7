"""The stages that cut repeated passages, wired together for `pipeline.dedup_plan`."""

from functools import partial
from typing import NamedTuple

from configs.cleaning import DedupConfig, PassagesConfig
from pipeline import dedup_passages, dedup_repeats, dedup_units
from pipeline.dedup import DUPLICATES
from pipeline.dedup_files import DedupInput
from pipeline.dedup_passages import CutPassages
from pipeline.dedup_repeats import DecidePassages, FindRepeats, decided
from pipeline.dedup_units import WriteUnits
from pipeline.stages import MakeStage, Stage, Weights, no_facts


class PassageStages(NamedTuple):
    """In the order in which they run."""

    units: Stage
    repeats: Stage
    keepers: Stage
    cut: Stage


class PassagePlanner:
    """Makes the stages.

    Args:
        config: the section `dedup`.
        inputs: files of documents, the held ones last.
        order: the stage that ordered them.
        decide: the stage that dropped whole documents.
        tasks: of the stages that are not split by files.
        weights: megabytes of text in every file.
        stage: makes a stage.
        memory: working bytes of a task; they never change a result.
    """

    def __init__(
        self,
        config: DedupConfig,
        inputs: list[DedupInput],
        order: Stage,
        decide: Stage,
        tasks: int,
        weights: Weights,
        stage: MakeStage,
        memory: int,
    ) -> None:
        self.config, self.inputs, self.order, self.decide = config, inputs, order, decide
        self.tasks, self.weights, self.stage, self.memory = tasks, weights, stage, memory
        self.own = sum(not item.held for item in inputs)

    def plan(self, passages: PassagesConfig) -> PassageStages:
        """All stages; nothing is read or written."""
        units = self._units(passages)
        repeats = self._repeats(units)
        keepers = self._keepers(repeats, passages)
        return PassageStages(units, repeats, keepers, self._cut(keepers))

    def _units(self, passages: PassagesConfig) -> Stage:
        return self.stage(
            "units",
            [dedup_units],
            {
                "dedup": self.decide.key,
                "passages": passages.model_dump(exclude={"min_words_left"}),
            },
            num_tasks=len(self.inputs),
            steps=lambda d: [
                WriteUnits(
                    self.inputs,
                    self.config,
                    self.order.directory,
                    self.decide.directory / DUPLICATES,
                    d,
                    self.memory,
                )
            ],
            recount=no_facts,
            weights=self.weights,
        )

    def _repeats(self, units: Stage) -> Stage:
        return self.stage(
            "repeats",
            [dedup_repeats],
            {"units": units.key},
            num_tasks=self.tasks,
            steps=lambda d: [
                FindRepeats(units.directory, len(self.inputs), d, self.tasks, self.memory)
            ],
            recount=no_facts,
            weights=lambda: [sum(self.weights()) / self.tasks] * self.tasks,
        )

    def _keepers(self, repeats: Stage, passages: PassagesConfig) -> Stage:
        return self.stage(
            "keepers",
            [dedup_repeats],
            {"repeats": repeats.key, "passages": passages.model_dump()},
            num_tasks=1,
            steps=lambda d: [
                DecidePassages(
                    self.inputs,
                    self.config,
                    self.order.directory,
                    repeats.directory,
                    self.tasks,
                    d,
                    self.memory,
                )
            ],
            recount=decided,
            weights=lambda: [sum(self.weights())],
        )

    def _cut(self, keepers: Stage) -> Stage:
        return self.stage(
            "passages",
            [dedup_passages],
            {"keepers": keepers.key},
            num_tasks=self.own,
            steps=lambda d: [CutPassages(self.inputs, self.config, keepers.directory, d)],
            recount=partial(dedup_passages.recount, keepers.directory, self.own),
            weights=lambda: self.weights()[: self.own],
        )
