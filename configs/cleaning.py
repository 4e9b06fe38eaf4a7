"""What a build takes out of its text: documents that are there twice, benchmark items."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from configs.base import Section
from configs.choices import Sensitivity
from configs.text_sources import SourceName

RemovedClass = Literal["question", "answer", "near", "partial", "source"]
"""A class of the audit's findings that a build can take out; docs/audit.md says what each is."""


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


DEDUP_PRESETS = {"fineweb": {"bands": 14, "rows_per_band": 8}}


class DedupConfig(Section):
    """Exact and near duplicates, looked for across all sources.

    `preset: fineweb` sets the bands that FineWeb was made with; other keys may stand beside it.
    """

    threshold: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Jaccard similarity of word n-grams from which a document is a near-duplicate; candidates
    come from MinHash, the decision from the n-grams themselves."""
    ngram_words: Annotated[int, Field(ge=1, le=20)] = 5
    """Words of the n-grams that documents are compared by."""
    bands: Annotated[int, Field(ge=1, le=100)] = 32
    """MinHash bands, each of `rows_per_band`; they only propose pairs, so they are many and short
    enough to propose 99.7 % of the pairs at the threshold (FineWeb's 14 bands of 8: 57 %)."""
    rows_per_band: Annotated[int, Field(ge=1, le=32)] = 5
    """Hashes that must all be equal for a band to propose a pair."""
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 1
    """Of the hash functions."""
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
        if name not in DEDUP_PRESETS:
            raise ValueError(f"no preset '{name}'; there are: {', '.join(DEDUP_PRESETS)}")
        return DEDUP_PRESETS[name] | {k: v for k, v in value.items() if k != "preset"}


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
    """Thresholds of the audit: fewer false findings, balanced, or fewer misses."""

    @model_validator(mode="after")
    def _margin_of_a_cut(self) -> "DecontaminationConfig":
        if self.margin_characters and self.action != "cut":
            raise ValueError("'margin_characters' goes with action 'cut' alone")
        return self
