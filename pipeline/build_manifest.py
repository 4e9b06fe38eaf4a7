"""The manifest of a build, from what its stages found; the funnel must balance."""

import json
from typing import Any

from configs.build import BuildConfig
from pipeline import bpe, funnel
from pipeline.filters import edits_of
from pipeline.funnel_sums import read_sums
from pipeline.packing import read_packed
from pipeline.plan import Plan, Planner
from pipeline.roundtrip import RoundTrip
from pipeline.sources import unreadable_files
from pipeline.tokenizing import sums_file
from shards.manifest import Manifest, RoundTripFacts, SourceFacts, TokenizerFacts
from shards.writer import token_dtype


def manifest_of(plan: Plan, planner: Planner) -> Manifest:
    """What the stages found, put together; not sealed."""
    config = planner.config
    return Manifest(
        name=config.name,
        config=config_json(config),
        tokenizer=_tokenizer_facts(plan, planner),
        sources={name: _source_facts(name, plan, planner) for name in planner.sources},
        dedup=_dedup_facts(plan),
        decontamination=plan.decontaminate and plan.decontaminate.remove.facts(),
        versions=planner.versions,
    )


def config_json(config: BuildConfig) -> dict[str, Any]:
    """The configuration as the manifest has it."""
    values: dict[str, Any] = config.model_dump(mode="json")
    return values


def _tokenizer_facts(plan: Plan, planner: Planner) -> TokenizerFacts:
    config = planner.config
    facts = plan.tokenizer.facts() or {}
    encoder, encoded = plan.encoder.facts() or {}, plan.encode.facts() or {}
    round_trip = RoundTrip(plan.tokenizer.directory / bpe.TOKENIZER)
    return TokenizerFacts(
        **facts,
        pin=planner.given and planner.given.identity,
        eos_token=config.tokenizer.eos_token,
        dtype="uint16" if token_dtype(facts["vocab_size"]).itemsize == 2 else "uint32",
        encoder=encoder["encoder"],
        encoder_check=encoder["check"],
        round_trip=RoundTripFacts(why_not=round_trip.why_not, **encoded["round_trip"]),
    )


def _source_facts(name: str, plan: Plan, planner: Planner) -> SourceFacts:
    source = planner.sources[name]
    extracted = plan.extract[name].facts() or {}
    splits, over_budget = read_packed(plan.layout.directory, plan.pack.directory, name)
    ranks = plan.filtered.ranks_of(name)
    sums = read_sums(sums_file(plan.encode.directory, rank) for rank in ranks)
    stages = funnel.funnel(sums, over_budget, list(plan.revising()))
    funnel.check_balance(name, stages, (extracted["documents"], extracted["characters"]))
    funnel.check_splits(name, stages, splits)
    unreadable = unreadable_files(plan.extract[name].directory)
    pin = source.pin | ({"unreadable": unreadable} if unreadable else {})
    return SourceFacts(
        licence=source.spec.licence,
        pin=pin,
        profile=source.spec.profile,
        edits=edits_of(source.spec),
        funnel=stages,
        splits=splits,
    )


def _dedup_facts(plan: Plan) -> dict[str, Any]:
    facts = json.loads((plan.dedup.directory / "facts.json").read_text(encoding="utf-8"))
    passages = plan.find_duplicates.passages
    return {**facts, "passages": passages and passages.cut.facts()}
