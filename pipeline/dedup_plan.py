"""The stages of deduplication, wired together for `pipeline.plan`."""

import shutil
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from configs.cleaning import DedupConfig
from pipeline import (
    dedup,
    dedup_candidates,
    dedup_held,
    dedup_order,
    dedup_similar,
    signatures,
)
from pipeline.dedup import DecideDuplicates, num_dropped
from pipeline.dedup_candidates import FindCandidates
from pipeline.dedup_files import DedupInput
from pipeline.dedup_held import DecodeHeld, HeldDataset, held_facts
from pipeline.dedup_order import OrderDocuments
from pipeline.dedup_passages_plan import PassagePlanner, PassageStages
from pipeline.dedup_similar import ComparePairs, WriteNGramSets
from pipeline.documents import task_file
from pipeline.signatures import SHAPE, WriteSignatures, signature_file
from pipeline.stages import MakeStage, Stage, Weights, no_facts


class DedupStages(NamedTuple):
    """In the order in which they run."""

    held: tuple[Stage, ...]
    """The datasets that must not be repeated."""
    signatures: Stage
    order: Stage
    candidates: Stage
    ngrams: Stage
    similar: Stage
    decide: Stage
    passages: PassageStages | None
    """None where the configuration asks for none."""

    def all(self) -> list[Stage]:
        """Every one of them."""
        rest = (self.signatures, self.order, self.candidates, self.ngrams, self.similar)
        return [*self.held, *rest, self.decide, *(self.passages or ())]

    def needed(self) -> list[Stage]:
        """Those of use: what only led to decisions that are there is not."""
        spent = self._spent()
        return [stage for stage in self.all() if stage not in spent]

    def clear(self) -> None:
        """Delete the files that only led to decisions that are there.

        Keys and order of the documents stay: a change of threshold, priority or passages needs
        them again, and they take the most time.
        """
        for stage in self._spent():
            shutil.rmtree(stage.directory, ignore_errors=True)

    def _spent(self) -> list[Stage]:
        spent: list[Stage] = []
        if self.decide.facts() is not None:
            spent += [self.candidates, self.ngrams, self.similar]
        if self.passages and self.passages.cut.facts() is not None:
            spent += self.passages[:-1]
        return spent


class DedupPlanner:
    """Makes the stages.

    Args:
        config: the section `dedup`.
        held: the datasets of `config.against`.
        files: (source, documents file) in reading order.
        key: of the files.
        weights: megabytes of text in every file.
        stage: makes a stage.
        memory: working bytes of a task; they never change a result.
    """

    def __init__(
        self,
        config: DedupConfig,
        held: Sequence[HeldDataset],
        files: Sequence[tuple[str, Path]],
        key: Any,
        weights: Weights,
        stage: MakeStage,
        memory: int,
    ) -> None:
        self.config, self.held, self.key = config, held, key
        self.own, self.own_weights = files, weights
        self.stage, self.memory = stage, memory
        self.tasks = min(config.bands, max(4, len(files)))
        """Of the stages that are not split by files: decided by the input alone."""

    def plan(self) -> DedupStages:
        """All stages; nothing is read or written."""
        decoded = tuple(self._decoded(item) for item in self.held)
        self.files = [*self.own, *self._held_files(decoded)]
        signed = self._signatures(decoded)
        self.inputs = [
            DedupInput(name, path, signature_file(signed.directory, rank), rank >= len(self.own))
            for rank, (name, path) in enumerate(self.files)
        ]
        self.priority = priority_of(self.config, [name for name, _ in self.own])
        order = self._order(signed)
        candidates = self._candidates(signed, order)
        sets = self._ngrams(candidates)
        similar = self._similar(order, candidates, sets)
        decide = self._decide(decoded, order, similar)
        cut = self._passages(order, decide)
        return DedupStages(decoded, signed, order, candidates, sets, similar, decide, cut)

    def weights(self) -> list[float]:
        """Megabytes of text in every file, the held ones too."""
        return [*self.own_weights(), *(w for held in self.held for w in _held_weights(held))]

    def _decoded(self, held: HeldDataset) -> Stage:
        return self.stage(
            f"held-{held.dataset_id[:12]}",
            [dedup_held],
            {"dataset_id": held.dataset_id},
            num_tasks=len(held.pieces()),
            steps=lambda d: [DecodeHeld(held, d)],
            recount=partial(held_facts, held),
            weights=lambda: _held_weights(held),
        )

    def _held_files(self, decoded: Sequence[Stage]) -> list[tuple[str, Path]]:
        return [
            (held.label(piece), task_file(stage.directory, rank))
            for held, stage in zip(self.held, decoded, strict=True)
            for rank, piece in enumerate(held.pieces())
        ]

    def _signatures(self, decoded: Sequence[Stage]) -> Stage:
        shape = self.config.model_dump(include=set(SHAPE))
        return self.stage(
            "signatures",
            [signatures],
            shape | {"files": self.key, "held": [stage.key for stage in decoded]},
            num_tasks=len(self.files),
            steps=lambda d: [
                WriteSignatures([path for _, path in self.files], self.config, d, self.memory)
            ],
            recount=no_facts,
            weights=self.weights,
        )

    def _order(self, signed: Stage) -> Stage:
        return self.stage(
            "order",
            [dedup_order],
            {"signatures": signed.key, "priority": self.priority},
            num_tasks=1,
            steps=lambda d: [
                OrderDocuments(self.inputs, self.priority, self.config, d, self.memory)
            ],
            recount=no_facts,
            weights=self._whole,
        )

    def _candidates(self, signed: Stage, order: Stage) -> Stage:
        return self.stage(
            "candidates",
            [dedup_candidates],
            {"order": order.key},
            num_tasks=self.tasks,
            steps=lambda d: [
                FindCandidates(
                    self.inputs, self.config, order.directory, d, self.tasks, self.memory
                )
            ],
            recount=no_facts,
            weights=self._shared,
        )

    def _ngrams(self, candidates: Stage) -> Stage:
        return self.stage(
            "ngrams",
            [dedup_similar],
            {"candidates": candidates.key},
            num_tasks=len(self.files),
            steps=lambda d: [
                WriteNGramSets(self.inputs, self.config, candidates.directory, self.tasks, d)
            ],
            recount=no_facts,
            weights=self.weights,
        )

    def _similar(self, order: Stage, candidates: Stage, sets: Stage) -> Stage:
        return self.stage(
            "similar",
            [dedup_similar],
            {"ngrams": sets.key, "threshold": self.config.threshold},
            num_tasks=self.tasks,
            steps=lambda d: [
                ComparePairs(
                    self.inputs,
                    self.config,
                    order.directory,
                    candidates.directory,
                    self.tasks,
                    sets.directory,
                    d,
                    self.tasks,
                    self.memory,
                )
            ],
            recount=no_facts,
            weights=self._shared,
        )

    def _decide(self, decoded: Sequence[Stage], order: Stage, similar: Stage) -> Stage:
        return self.stage(
            "dedup",
            [dedup],
            {
                "similar": similar.key,
                "config": self.config.model_dump(mode="json", exclude={"passages"}),
            },
            num_tasks=1,
            steps=lambda d: [
                DecideDuplicates(
                    self.inputs,
                    self.priority,
                    self.config,
                    [stage.facts() or {} for stage in decoded],
                    order.directory,
                    similar.directory,
                    self.tasks,
                    d,
                    self.memory,
                )
            ],
            recount=num_dropped,
            weights=self._whole,
        )

    def _passages(self, order: Stage, decide: Stage) -> PassageStages | None:
        wanted = self.config.passages
        planner = PassagePlanner(
            self.config,
            self.inputs,
            order,
            decide,
            self.tasks,
            self.weights,
            self.stage,
            self.memory,
        )
        return planner.plan(wanted) if wanted else None

    def _whole(self) -> list[float]:
        return [sum(self.weights())]

    def _shared(self) -> list[float]:
        return [sum(self.weights()) / self.tasks] * self.tasks


def priority_of(config: DedupConfig, sources: Iterable[str]) -> list[str]:
    """Which source keeps the copy: those of the configuration, then the others as they stand."""
    return list(dict.fromkeys([*config.priority, *sources]))


def _held_weights(held: HeldDataset) -> list[float]:
    return [4 * piece.facts.tokens / 1e6 for piece in held.pieces()]
