"""The form of audit.json, and its JSON Schema, `audit.schema.json` beside this file.

python -m contamination.schema    writes the schema again, after a change here
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from configs.audit import AuditRules
from contamination.rules import Class
from shards.atomic import write_json_atomic

SCHEMA_FILE = Path(__file__).with_name("audit.schema.json")
Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)


class CorpusFacts(_Part):
    """What was audited."""

    kind: Literal["dataset", "text"]
    digest: str
    """Dataset id, or a hash of all files."""
    pieces: Count
    documents: Count
    text_bytes: Count
    words: Count


class MethodFacts(_Part):
    """How it was audited; equal methods and corpora give equal findings."""

    recipe_version: Count
    """Of the normalisation of words."""
    recipe: str
    run_words: Count
    """Words in a run that both sides must have."""
    index: str
    """Identity of the index of the benchmarks."""
    thresholds: AuditRules


class RunFacts(_Part):
    """The run whose exposure was counted."""

    plan_id: str
    steps: Count
    """Steps that are counted."""
    tokens: Count
    """Targets trained on in these steps."""


class Totals(_Part):
    """Findings of one benchmark, or of all."""

    items: Count
    dirty_items: Count
    """Items with a finding that counts: qa, question, answer or near."""
    dirty_documents: Count
    dirty_places: Count
    masked_items: Count
    """Items whose every place gives no loss: in the data, but never trained on as a target."""
    items_by_class: dict[Class, Count]
    """By the strongest finding of each other item."""
    dirty_items_trained_on: Count | None = None
    """With a run only, as all that follow; reads of parts count here."""
    dirty_items_never_trained_on: Count | None = None
    """In the data, but not read by the run up to its step."""
    exposures: Count | None = None
    partial_exposures: Count | None = None
    first_step: Count | None = None
    last_step: Count | None = None
    tokens_trained_on: Count | None = None
    """Tokens of the matched places, as often as they were read."""
    share_of_tokens: Share | None = None
    """Of all tokens the run trained on."""


class Planted(_Part):
    """Items that were planted into real documents for a test."""

    planted: Count
    found: Count


class BenchmarkFacts(Totals):
    """One benchmark."""

    name: str
    split: str
    origin: str
    digest: str
    """Hash over every field of every item."""
    unauditable_items: Count
    decoy_places: Count
    """Places where an item that nobody wrote was found, and no real one."""
    false_discovery_rate: Share | None
    """At least; decoy places over places that count."""
    self_test: dict[str, Planted]


class ItemExposure(_Part):
    """Reads by the run of the places of an item that count."""

    times: Count
    partial_times: Count
    first_step: Count | None
    last_step: Count | None


class FoundItem(_Part):
    """One item that was found; its places are rows of matches.parquet."""

    benchmark: str
    id: str
    hash: str
    """Of its texts."""
    class_: Annotated[Class, Field(alias="class")]
    dirty: bool
    masked: bool
    """Whether none of its places gives a loss; such an item is not dirty."""
    places: Count
    documents: Count
    longest_run: Count
    question_coverage: float
    exposure: ItemExposure | None


class MeanFacts(_Part):
    """A mean with its 95 % interval; of no items only `n`."""

    n: Count
    mean: float | None = None
    low: float | None = None
    high: float | None = None


class DifferenceFacts(_Part):
    """Dirty less clean, with a 95 % interval."""

    value: float
    low: float
    high: float
    z: float
    p: Share
    """Two-sided."""


class CurvePoint(_Part):
    """What another threshold would say."""

    measure: Literal["longest_run", "question_coverage"]
    threshold: float
    dirty_items: Count
    clean_items: Count
    estimated_performance_gain: float | None
    """Mean of all items less the mean of the clean ones."""
    difference: DifferenceFacts | None


class ScoreFacts(_Part):
    """One metric of one task, split."""

    task: str
    metric: str
    benchmark: str | None
    """Whose items the samples are; None if they are of none."""
    samples: Count
    unmatched: Count
    """Samples that are no item of the benchmark."""
    all: MeanFacts
    clean: MeanFacts
    dirty: MeanFacts
    not_audited: MeanFacts
    difference: DifferenceFacts | None
    """None where a side has too few items."""
    by_class: dict[Class, MeanFacts]
    by_exposure: dict[Literal["never", "in part", "1", "2-4", "5+"], MeanFacts]
    curve: list[CurvePoint]


class ClassicRow(_Part):
    """What a classic definition says of one benchmark."""

    items: Count
    dirty_items: Count
    share: Share
    mean_value: float | None
    """Of the items that it says anything of."""
    too_short_items: Count
    """Items that it says nothing of; they count as not dirty."""
    gram_words: Count | None = None
    """GPT-3's N."""


class ClassicFacts(_Part):
    """A definition of contamination from another paper."""

    title: str
    source: str
    rule: str
    """As published."""
    decided_here: str
    """What the paper leaves open, or works on other units."""
    threshold: float
    """Value from which on an item is dirty."""
    benchmarks: dict[str, ClassicRow]


class AuditReport(_Part):
    """audit.json."""

    schema_version: Literal[1]
    corpus: CorpusFacts
    method: MethodFacts
    run: RunFacts | None
    totals: Totals
    benchmarks: list[BenchmarkFacts]
    items: list[FoundItem]
    scores: list[ScoreFacts]
    classic: dict[str, ClassicFacts]
    """By the name that --also takes."""
    unauditable: dict[str, list[str]]
    """By benchmark, ids of the items that are too short to be audited."""
    limits: list[str]


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of audit.json."""
    schema = AuditReport.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


if __name__ == "__main__":
    write_json_atomic(SCHEMA_FILE, json_schema())
