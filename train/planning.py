"""From the mixture of a configuration and the datasets it names to the plan of a run."""

import bisect
from collections.abc import Mapping
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from configs.mixture import Amount, MixtureConfig, Phase, SourceRef
from shards.accountant import SourceAccount
from shards.duplicates import find_duplicates
from shards.errors import DatasetError
from shards.layout import Layout
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.remote import is_remote

DECLARED = "declared"
"""Stands for the dataset id of a dataset that is not built yet."""


def build_plan(mixture: MixtureConfig, *, may_be_declared: bool = False) -> Plan:
    """Make the plan of a mixture.

    Args:
        mixture: sources, phases and weights.
        may_be_declared: reckon with `declared_tokens` where a dataset is not built yet. Such a
            plan cannot be trained on: its dataset id is no dataset's.

    Raises:
        DatasetError: a dataset or source is missing or too small, is named twice, or a source
            would be read more than `max_epochs` times.
    """
    datasets = open_datasets(mixture, may_be_declared=may_be_declared)
    sources = {name: _source(name, mixture, datasets.get(name)) for name in mixture.sources}
    _refuse_same_stream_twice(sources)
    streams = {
        number: datasets[source.name].stream(source.source, source.split)
        for number, source in enumerate(sources.values())
        if source.name in datasets
    }
    whole = Plan(
        seq_len=mixture.seq_len,
        seed=mixture.seed,
        order=mixture.order,
        document_mask=mixture.document_mask,
        sources=tuple(sources.values()),
        phases=tuple(_phase(phase, mixture, sources) for phase in mixture.phases),
        duplicates=find_duplicates(streams),
    )
    return _capped(whole, mixture)


def open_datasets(mixture: MixtureConfig, *, may_be_declared: bool = False) -> dict[str, Dataset]:
    """Open the dataset of every source, each directory once: source name -> Dataset.

    Args:
        mixture: names the datasets.
        may_be_declared: leave out sources with `declared_tokens` whose dataset is not there.

    Raises:
        DatasetError: a dataset is not there.
    """
    wanted = {
        name: ref.dataset
        for name, ref in mixture.sources.items()
        if not (may_be_declared and ref.declared_tokens and _is_missing(ref.dataset))
    }
    opened = {address: Dataset.open(address) for address in dict.fromkeys(wanted.values())}
    return {name: opened[address] for name, address in wanted.items()}


def _is_missing(address: str) -> bool:
    return not is_remote(address) and not Path(address).exists()


def name_in_dataset(name: str, ref: SourceRef) -> str:
    """The name that a source of the mixture has in its dataset."""
    return ref.source or name


def _source(name: str, mixture: MixtureConfig, dataset: Dataset | None) -> PlanSource:
    ref = mixture.sources[name]
    if dataset is None:
        dataset_id, tokens = f"{DECLARED}:{ref.dataset}", ref.declared_tokens or 0
        masked = False
    else:
        dataset_id = dataset.manifest.dataset_id
        stream = dataset.stream(name_in_dataset(name, ref), ref.split)
        tokens, masked = stream.num_tokens, stream.has_masked
    return PlanSource(
        name=name,
        dataset_id=dataset_id,
        source=name_in_dataset(name, ref),
        split=ref.split,
        tokens=tokens,
        masked=masked,
    )


def _phase(phase: Phase, mixture: MixtureConfig, sources: Mapping[str, PlanSource]) -> PlanPhase:
    seq_len = phase.seq_len or mixture.seq_len
    batch = phase.global_batch_tokens // seq_len
    layouts = {n: Layout(s.tokens, seq_len, mixture.order == "rows") for n, s in sources.items()}
    weights = _weights(phase, layouts)
    for name, weight in weights.items():
        if weight and not layouts[name].windows:
            raise DatasetError(
                f"phase '{phase.name}': the {sources[name].tokens} tokens of source '{name}' hold "
                f"no window of {seq_len} targets; lower seq_len or leave the source out"
            )
    if phase.length is None:
        steps = int(sum(weights.values())) // batch
    else:
        steps = _steps(phase.length, phase.global_batch_tokens)
    if not steps:
        raise DatasetError(f"phase '{phase.name}': shorter than one step of {batch} windows")
    exact = tuple(str(weights.get(name, Fraction(0))) for name in sources)
    return PlanPhase(phase.name, steps, batch, exact, phase.seq_len, phase.restart)


def _steps(length: Amount, batch_tokens: int) -> int:
    return int(length.value) if length.unit == "steps" else int(length.value / batch_tokens)


def _weights(phase: Phase, layouts: Mapping[str, Layout]) -> dict[str, Fraction]:
    if phase.weights is not None:  # via str: 0.1 is meant as 1/10, not as the nearest float
        return {name: Fraction(str(weight)) for name, weight in phase.weights.items()}
    amounts = phase.read or {}
    counts = {name: _windows(amount, layouts[name]) for name, amount in amounts.items()}
    for name, count in counts.items():
        if not count and amounts[name].value:
            raise DatasetError(
                f"phase '{phase.name}': {amounts[name]} of source '{name}' are less than one "
                f"window of {layouts[name].seq_len} targets; read more of it or leave it out"
            )
    return {name: Fraction(count) for name, count in counts.items()}


def _windows(amount: Amount, layout: Layout) -> int:
    """Whole windows in an amount of tokens or epochs."""
    per_unit = {"epochs": layout.windows_per_epoch, "tokens": Fraction(1, layout.seq_len)}
    return int(amount.value * per_unit[amount.unit])


def _refuse_same_stream_twice(sources: Mapping[str, PlanSource]) -> None:
    """Two names for one stream would count its tokens as unique twice."""
    seen: dict[tuple[str, str, str], str] = {}
    for name, source in sources.items():
        key = (source.dataset_id, source.source, source.split)
        if key in seen:
            raise DatasetError(
                f"sources '{seen[key]}' and '{name}' are the same stream ({'/'.join(key)}); "
                "give it once, with the sum of the weights"
            )
        seen[key] = name


def over_cap(plan: Plan, step: int, max_epochs: float) -> list[SourceAccount]:
    """Sources that the steps before `step` read more than `max_epochs` times."""
    cap = Fraction(str(max_epochs))
    return [account for account in plan.account(step) if account.epochs_read > cap]


def _capped(plan: Plan, mixture: MixtureConfig) -> Plan:
    """The plan, refused or cut where it reads a source more often than allowed."""
    if mixture.max_epochs is None or mixture.over_max_epochs == "warn":
        return plan
    over = over_cap(plan, plan.num_steps, mixture.max_epochs)
    if over and mixture.over_max_epochs == "clip":
        return _clipped(plan, mixture.max_epochs)
    for account in over:
        raise DatasetError(
            f"source '{account.name}' would be read {float(account.epochs_read):.4f} times, "
            f"data.max_epochs allows {mixture.max_epochs}; shorten the run, lower its weight, "
            "raise the limit, or set data.over_max_epochs to warn or clip"
        )
    return plan


def _clipped(plan: Plan, max_epochs: float) -> Plan:
    """The plan up to the last step before a source is read too often."""
    steps = range(plan.num_steps + 1)
    last = bisect.bisect_left(steps, True, key=lambda k: bool(over_cap(plan, k, max_epochs))) - 1
    phases, left = [], last
    for phase in plan.phases:
        phases.append(replace(phase, num_steps=min(phase.num_steps, left)))
        left -= phases[-1].num_steps
    kept = tuple(phase for phase in phases if phase.num_steps)
    if not kept:
        raise DatasetError(f"data.max_epochs {max_epochs} is passed in the first step already")
    return replace(plan, phases=kept)
