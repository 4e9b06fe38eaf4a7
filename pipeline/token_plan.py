"""The stages from documents to shards of tokens, wired together for `pipeline.plan`."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from configs.build import BuildConfig
from pipeline import bpe, encoder_check, filters, layout, packing, tokenizing
from pipeline.dedup import DUPLICATES
from pipeline.encoder_check import ENCODER, ChooseEncoder, choose, samples
from pipeline.filtered import Filtered, keys_of
from pipeline.given_tokenizer import GivenTokenizer
from pipeline.sources import ResolvedSource
from pipeline.stages import MakeStage, Stage, no_facts
from pipeline.tokenizing import EncodeDocuments, EncodeInput

DATASET = "dataset"
"""Folder of the packing stage that becomes the dataset."""


class TokenPlanner:
    """Makes the stages.

    Args:
        config: the build's configuration.
        sources: what is read.
        given: the tokenizer; None trains one.
        filtered: the documents.
        deduped: the stage that decided which of them are duplicates.
        revised: the stages that revised the others, by their names in the funnel.
        stage: makes a stage.
    """

    def __init__(
        self,
        config: BuildConfig,
        sources: dict[str, ResolvedSource],
        given: GivenTokenizer | None,
        filtered: Filtered,
        deduped: Stage,
        revised: dict[str, Stage],
        stage: MakeStage,
    ) -> None:
        self.config, self.sources, self.given, self.stage = config, sources, given, stage
        self.filtered, self.deduped, self.revised = filtered, deduped, revised
        self.ranks = {name: filtered.ranks_of(name) for name in sources}

    def tokenizer(self) -> Stage:
        """Train the tokenizer, or take the given one."""
        deduped, revised = self.deduped, self.revised
        config, split = self.config.tokenizer, self.config.split
        inputs, duplicates = self.filtered.named_files(), deduped.directory / DUPLICATES
        given = self.given
        return self.stage(
            "tokenizer",
            [bpe],
            {
                "dedup": deduped.key if given is None else None,
                "revised": keys_of(revised) if given is None else None,
                "given": None if given is None else given.identity,
                "split": split.model_dump(),
                "config": config.model_dump(exclude={"file", "repo", "revision", "encoder"}),
            },
            num_tasks=1,
            steps=lambda d: [
                bpe.MakeTokenizer(
                    inputs,
                    duplicates,
                    [stage.directory for stage in revised.values()],
                    split,
                    config,
                    given and given.path,
                    d,
                )
            ],
            recount=partial(bpe.recount, config),
            weights=lambda: [sum(self.filtered.weights())],
        )

    def encoder(self, tokenizer: Stage) -> Stage:
        """Choose the encoder."""
        inputs, config = samples(self.filtered.named_files()), self.config.tokenizer
        path = tokenizer.directory / bpe.TOKENIZER
        return self.stage(
            "encoder",
            [encoder_check],
            {"tokenizer": tokenizer.key, "filter": self.filtered.keys, "encoder": config.encoder},
            num_tasks=len(inputs),
            steps=lambda d: [ChooseEncoder(inputs, path, config, d)],
            recount=choose,
            weights=lambda: [1.0] * len(inputs),
        )

    def encode(self, tokenizer: Stage, encoder: Stage) -> Stage:
        """Encode every document."""
        deduped, revised = self.deduped, self.revised
        kept, dropped, edited = (self.filtered.files(folder) for folder in filters.FOLDERS)
        folders = [(name, stage.directory) for name, stage in revised.items()]
        inputs = [
            EncodeInput(*item, folders)
            for item in zip(self.filtered.parts, kept, dropped, edited, strict=True)
        ]
        config, split = self.config.tokenizer, self.config.split
        return self.stage(
            "encode",
            [tokenizing],
            {
                "dedup": deduped.key,
                "revised": keys_of(revised),
                "encoder": encoder.key,
                "split": split.model_dump(),
            },
            num_tasks=len(inputs),
            steps=lambda d: [
                EncodeDocuments(
                    inputs,
                    deduped.directory / DUPLICATES,
                    tokenizer.directory / bpe.TOKENIZER,
                    encoder.directory / ENCODER,
                    split,
                    config,
                    d,
                )
            ],
            recount=partial(tokenizing.recount, len(inputs)),
            weights=self.filtered.weights,
        )

    def layout(self, encode: Stage, tokenizer: Stage) -> Stage:
        """Share documents out among shards."""
        ranks, config = self.ranks, self.config
        return self.stage(
            "layout",
            [layout],
            {"encode": encode.key, "shards": config.shards.model_dump()},
            num_tasks=len(ranks),
            steps=lambda d: [
                layout.LayOutSources(
                    ranks,
                    encode.directory,
                    tokenizer.directory / bpe.TOKENIZER,
                    config.tokenizer,
                    config.shards,
                    d,
                )
            ],
            recount=no_facts,
            weights=lambda: [_tokens_mb(encode.directory, ranks[name]) for name in ranks],
        )

    def pack(self, encode: Stage, laid_out: Stage, tokenizer: Stage, masks: Stage | None) -> Stage:
        """Write the shards.

        Args:
            encode: has the tokens.
            laid_out: which of them go where.
            tokenizer: what they are of.
            masks: the stage that knows which of them give no loss; None: all do.
        """
        config, deduped = self.config, self.deduped
        tasks = list(self._pack_tasks())
        return self.stage(
            "pack",
            [packing],
            {"layout": laid_out.key, "dedup": deduped.key, "masks": masks and masks.key},
            num_tasks=len(tasks),
            steps=lambda d: [
                packing.PackShards(
                    tasks,
                    self.ranks,
                    encode.directory,
                    laid_out.directory,
                    deduped.directory / DUPLICATES,
                    masks.directory if masks else None,
                    tokenizer.directory / bpe.TOKENIZER,
                    config.tokenizer,
                    config.shards,
                    d / DATASET,
                    d,
                )
            ],
            recount=no_facts,
            weights=lambda: [
                sum(plan.tokens for plan in task.plans(laid_out.directory)) / 1e6 for task in tasks
            ],
        )

    def _pack_tasks(self) -> Iterator[packing.PackTask]:
        """The tokens of all sources, which take longer, before their documents."""
        for part in packing.PARTS:
            for name, source in self.sources.items():
                size = sum(source.task_bytes)
                number = layout.num_tasks(size, self.config.shards.shard_tokens)
                for first in range(number):
                    yield packing.PackTask(name, first, number, part)


def _tokens_mb(encoded: Path, ranks: range) -> float:
    return sum(tokenizing.tokens_file(encoded, rank).stat().st_size for rank in ranks) / 1e6
