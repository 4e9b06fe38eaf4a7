"""What `tally build` reads: the text sources, how they are cleaned, and how they become tokens."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from configs.base import Section
from configs.cleaning import DecontaminationConfig, DedupConfig
from configs.executor import ExecutorConfig
from configs.presets import with_presets
from configs.text_sources import RepoName, Source, SourceName


class SplitConfig(Section):
    """Validation documents, chosen by a hash of their text before anything is trained."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of documents, after deduplication."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    """Another one chooses other documents."""


class TokenizerConfig(Section):
    """A byte-level BPE trained on the train split, or a given `tokenizer.json`."""

    file: Path | None = None
    """A `tokenizer.json` to use as it is; without `file` and `repo`, one is trained."""
    repo: RepoName | None = None
    """A model repository of the Hugging Face Hub whose `tokenizer.json` is used."""
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Its branch, tag or commit; the build writes down which commit that is, and stays with it."""
    vocab_size: Annotated[int, Field(ge=257, le=1 << 20)] = 8192
    """Entries of a trained tokenizer, its 256 bytes and EOS included; a little text may not
    fill them."""
    min_frequency: Annotated[int, Field(ge=1)] = 2
    """Times a pair must occur to be merged while a tokenizer is trained."""
    train_characters: Annotated[int, Field(ge=1)] = 1_000_000_000
    """About how many characters a tokenizer is trained on at most: where the training text has
    more, a share of the documents of every source, chosen by their content."""
    eos_token: Annotated[str, Field(min_length=1)] = "<|endoftext|>"
    """Ends every document; must be in a given tokenizer."""
    bos_token: Annotated[str, Field(min_length=1)] | None = None
    """Begins every document where it is given; must be in a given tokenizer."""
    encoder: Literal["auto", "tokenizers"] = "auto"
    """`auto` encodes with fastokens where its ids equal those of `tokenizers` in a check."""

    @model_validator(mode="after")
    def _one_origin(self) -> "TokenizerConfig":
        if self.file is not None and self.repo is not None:
            raise ValueError("'file' and 'repo' both name a tokenizer; leave one out")
        return self

    @model_validator(mode="after")
    def _ends_differ(self) -> "TokenizerConfig":
        if self.bos_token == self.eos_token:
            raise ValueError(
                "'bos_token' is 'eos_token': EOS must stand at the ends of documents only; "
                "leave 'bos_token' out"
            )
        return self


class ShardsConfig(Section):
    """Files of packed tokens."""

    shard_tokens: Annotated[int, Field(ge=1000, le=1 << 30)] = 100_000_000
    """Most tokens in a shard; documents are never cut at its end. Of documents it has 2^20 at most,
    however short they are."""
    max_tokens: dict[SourceName, Annotated[int, Field(ge=2)]] = Field(default={})
    """Source to exactly so many training tokens, the ends of documents included. The document
    that reaches it is cut to fit; what comes after it, validation too, is left out."""
    shuffle_seeds: dict[SourceName, Annotated[int, Field(ge=0, lt=2**63)]] = Field(default={})
    """Source to the seed that its documents are shuffled by; the others stay in stored order."""


class BuildConfig(Section):
    """A dataset: sources in, token shards out."""

    name: Annotated[str, Field(min_length=1)]
    """Of the dataset; the default output is datasets/<name>."""
    sources: Annotated[dict[SourceName, Source], Field(min_length=1)]
    """By name; `{preset: NAME}` is one of configs/sources, with other keys given beside it."""
    dedup: DedupConfig = DedupConfig()
    decontamination: DecontaminationConfig | None = None
    split: SplitConfig = SplitConfig()
    tokenizer: TokenizerConfig = TokenizerConfig()
    shards: ShardsConfig = ShardsConfig()
    executor: Annotated[ExecutorConfig, Field(exclude=True)] = ExecutorConfig()
    """Where it runs; no part of what the dataset is, so not in its manifest."""

    @field_validator("sources", mode="before")
    @classmethod
    def _presets(cls, value: Any) -> Any:
        return with_presets(value) if isinstance(value, dict) else value

    @field_validator("dedup")
    @classmethod
    def _priority_once(cls, value: DedupConfig) -> DedupConfig:
        if len(set(value.priority)) != len(value.priority):
            raise ValueError("'priority' names a source twice")
        return value

    @model_validator(mode="after")
    def _sources_known(self) -> "BuildConfig":
        named = {
            "dedup.priority": self.dedup.priority,
            "shards.max_tokens": self.shards.max_tokens,
            "shards.shuffle_seeds": self.shards.shuffle_seeds,
        }
        for key, names in named.items():
            if unknown := [name for name in names if name not in self.sources]:
                raise ValueError(f"{key} names {unknown}; the sources are {list(self.sources)}")
        return self
