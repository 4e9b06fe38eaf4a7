"""What `tally build` reads: the text sources, how they are cleaned, and how they become tokens."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from configs.base import Section
from configs.choices import Sensitivity
from configs.executor import ExecutorConfig
from configs.presets import with_presets

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)]
"""A source's name: it becomes a directory of the dataset."""
RepoName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
"""A repository of the hub, as `owner/name`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Profile = Literal["web", "crawl", "c4", "edu", "encyclopedia", "books", "docs", "math", "none"]
"""A named set of filter rules; `docs/filters.md` says what each one drops, and why."""
Edit = Literal["c4_lines", "pii"]
"""A rule that edits text: take out lines as C4 did; replace mail and public IPv4 addresses."""

RemovedClass = Literal["question", "answer", "near", "partial", "source"]
"""A class of the audit's findings that a build can take out; docs/audit.md says what each is."""


class _Source(Section):
    licence: str
    """Licence of the text, as SPDX names where they exist."""
    profile: Profile = "none"
    edits: tuple[Edit, ...] | None = None
    """Rules that edit the text, in whatever order; None takes those of the profile, `[]` none."""
    min_characters: Annotated[int, Field(ge=1)] | None = None
    """Shorter documents are dropped as `short`, before all rules."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Longer documents are cut there, before all rules; counted as an edit."""


class WheelFile(Section):
    """One text file inside a wheel."""

    path: str
    format: Literal["lines", "doc_tags", "separated", "sections"]
    """How documents are told apart: one a line; `<doc id= url= title=>` blocks; a separator
    line; articles run together, cut at section headings."""
    separator: str | None = None
    """The separator's text, for `separated` only."""

    @model_validator(mode="after")
    def _separator_where_needed(self) -> "WheelFile":
        if (self.format == "separated") != bool(self.separator):
            raise ValueError("'separator' goes with format 'separated', and only with it")
        return self


class WheelSource(_Source):
    """Text files that a Python package carries; the wheel is read as a zip, never installed."""

    kind: Literal["wheel"]
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+$")]
    """Name and exact version, as in `exllamav3==1.6.5`."""
    sha256: Sha256
    """Digest of the wheel; no other file is accepted."""
    files: Annotated[tuple[WheelFile, ...], Field(min_length=1)]
    left_out: dict[str, str] = Field(default={})
    """Files of the wheel that could be read but are not, and why (for the record)."""


class DocstringsSource(_Source):
    """Docstrings of installed packages, found by parsing their files without importing them."""

    kind: Literal["docstrings"]
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    """Distribution names, as `pip install` takes them; read in this order."""
    skip_folders: tuple[str, ...] = ("tests", "test", "testing")
    """Folders by name, at any depth, that are not read: tests hold code, little prose."""


class _Stored(_Source):
    max_document_mb: Annotated[float, Field(gt=0)] = 16
    """Megabytes of the largest document; of JSON lines, of the whole line. What is larger is
    dropped as `too_large` and never held in memory."""

    @property
    def max_document_bytes(self) -> int:
        """The same in bytes."""
        return int(self.max_document_mb * 1_000_000)


class _Rows(_Stored):
    text: str | Annotated[tuple[str, ...], Field(min_length=1)] = "text"
    """Column or key of the text; of several, what is not empty is put together by `joiner`."""
    joiner: str = "\n\n"
    """Stands between the texts of several columns."""
    id: str | None = None
    """Column of the document id; without one, ids are `<file>#<row>`."""
    url: str | None = None
    """Column of the address the text came from."""
    id_prefix: str = ""
    """Put before every id, where ids of two sources would collide."""
    min_scores: dict[str, float] = Field(default={})
    """Columns of numbers and the least that is kept; a row below, or without a number, is
    dropped as `low_<column>`."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Only so many rows of every file are read, from its start."""


class _Files(_Stored):
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files or glob patterns, relative to the current directory, or addresses of remote storage
    as `s3://bucket/folder/*.parquet`; read in this order, the matches of one pattern sorted."""


class _Table(_Rows, _Files):
    pass


class JsonlSource(_Table):
    """JSON lines, plain or compressed (.gz, .zst, .bz2)."""

    kind: Literal["jsonl"]


class ParquetSource(_Table):
    """Parquet files."""

    kind: Literal["parquet"]


class TextSource(_Files):
    """Plain UTF-8 text, also compressed (.gz, .zst, .bz2): one document a file."""

    kind: Literal["text"]
    separator: Annotated[str, Field(min_length=1)] | None = None
    """A line that stands between documents, where a file holds several."""
    id_prefix: str = ""
    """Put before every id; ids are the file, and `#<line>` where a separator cuts it."""


class WarcSource(_Files):
    """Web archives (.warc, .warc.gz); the text of a page is extracted by trafilatura.

    Also WET files, whose text was extracted before.
    """

    kind: Literal["warc"]
    favour_precision: bool = True
    """Rather leave out text than take in menus and footers."""
    timeout_s: Annotated[float, Field(gt=0)] = 10
    """Seconds of work after which a page is dropped as `extraction_timeout`."""
    id_prefix: str = ""
    """Put before every id; ids are those of the records."""


class HubSource(_Rows):
    """Files of a dataset repository on the Hugging Face Hub, downloaded once and then local."""

    kind: Literal["hub"]
    repo: RepoName
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Branch, tag or commit; the build writes down which commit that is, and stays with it."""
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns of paths in the repository, where `*` also stands for slashes; read in this
    order, the matches of one pattern sorted."""
    format: Literal["parquet", "jsonl"]
    """What the files are; JSON lines may be compressed (.gz, .zst, .bz2)."""
    max_files: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many of the files."""


Source = Annotated[
    WheelSource
    | DocstringsSource
    | JsonlSource
    | ParquetSource
    | TextSource
    | WarcSource
    | HubSource,
    Field(discriminator="kind"),
]


class PassagesConfig(Section):
    """Passages that stand in several documents, cut out of all but the first of them.

    C4's spans of three sentences are `{unit: sentence, span: 3, min_words: 1}`.
    """

    unit: Literal["line", "paragraph", "sentence"] = "line"
    """What texts are cut into: lines (a paragraph in text from the web), what blank lines separate,
    or English sentences."""
    span: Annotated[int, Field(ge=1, le=20)] = 1
    """Units that must stand one after the other."""
    min_words: Annotated[int, Field(ge=1)] = 10
    """Words of the shortest passage that is looked at."""
    min_words_left: Annotated[int, Field(ge=0)] = 50
    """A document that has fewer words left after a cut is dropped."""


_DEDUP_PRESETS = {"fineweb": {"bands": 14, "rows_per_band": 8}}


class DedupConfig(Section):
    """Exact and near duplicates, looked for across all sources.

    `preset: fineweb` sets the bands that FineWeb was made with; other keys may stand beside it.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Jaccard similarity of word n-grams from which a document is a near-duplicate; candidates
    come from MinHash, the decision from the n-grams themselves."""
    ngram_words: Annotated[int, Field(ge=1, le=20)] = 5
    bands: Annotated[int, Field(ge=1, le=100)] = 32
    """MinHash bands, each of `rows_per_band`; they only propose pairs, so they are many and short
    enough to propose 99.7 % of the pairs at the threshold (FineWeb's 14 bands of 8: 57 %)."""
    rows_per_band: Annotated[int, Field(ge=1, le=32)] = 5
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    priority: tuple[SourceName, ...] = ()
    """Sources in the order in which they keep the copy; the ones not named follow in the order
    of `sources`."""
    against: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Datasets, as directories or addresses, whose documents are not to be repeated: what equals
    one of them, or is a near-duplicate of one, is dropped as `held_exact` or `held_near`."""
    passages: PassagesConfig | None = None
    """Lines, paragraphs or sentences that other documents have are cut out as well, `{}` for the
    defaults."""
    memory_mb: Annotated[int, Field(ge=512, exclude=True)] = 1024
    """Memory of a process in megabytes; more means fewer passes over the files, never another
    result. What is mapped from files is not counted: the system takes it back at will."""

    @model_validator(mode="before")
    @classmethod
    def _preset(cls, value: Any) -> Any:
        if not isinstance(value, dict) or "preset" not in value:
            return value
        name = value["preset"]
        if name not in _DEDUP_PRESETS:
            raise ValueError(f"no preset '{name}'; there are: {', '.join(_DEDUP_PRESETS)}")
        return _DEDUP_PRESETS[name] | {k: v for k, v in value.items() if k != "preset"}


class DecontaminationConfig(Section):
    """Benchmark items taken out of the text, after deduplication."""

    benchmarks: Annotated[tuple[str, ...], Field(min_length=1)]
    """Sets as `tally audit --benchmarks` takes them: `olmo:all`, `NAME=FILE?question=COLUMN`."""
    classes: Annotated[tuple[RemovedClass, ...], Field(min_length=1)] = (
        "question",
        "answer",
        "near",
    )
    """What is taken out; `question` is a question with its answer or without."""
    action: Literal["drop", "cut", "mask"] = "drop"
    """Drop the document, cut the place out of it and keep the rest, or keep all of it and let the
    place's tokens give no loss."""
    margin_characters: Annotated[int, Field(ge=0)] = 0
    """Cut on either side of a place as well (GPT-3: 200)."""
    sensitivity: Sensitivity = "default"

    @model_validator(mode="after")
    def _margin_of_a_cut(self) -> "DecontaminationConfig":
        if self.margin_characters and self.action != "cut":
            raise ValueError("'margin_characters' goes with action 'cut' alone")
        return self


class SplitConfig(Section):
    """Validation documents, chosen by a hash of their text before anything is trained."""

    val_fraction: Annotated[float, Field(ge=0, lt=1)] = 0.01
    """Share of documents, after deduplication."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0


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
    """Most tokens in a shard; documents are never cut at its end."""
    max_tokens: dict[SourceName, Annotated[int, Field(ge=2)]] = Field(default={})
    """Source to exactly so many training tokens, the ends of documents included. The document
    that reaches it is cut to fit; what comes after it, validation too, is left out."""
    shuffle_seeds: dict[SourceName, Annotated[int, Field(ge=0, lt=2**63)]] = Field(default={})
    """Source to the seed that its documents are shuffled by; the others stay in stored order."""


class BuildConfig(Section):
    """A dataset: sources in, token shards out."""

    name: Annotated[str, Field(min_length=1)]
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
