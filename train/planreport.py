"""What a run will read and cost, before it costs anything. No torch: it answers at once."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from configs.terminal import human
from configs.train import TrainConfig
from shards.overlap import Overlap, overlaps
from shards.plan import Plan, total_unique
from train.flops import PEAK_FLOPS, count_parameters, flops_per_token, memory_gib
from train.planning import DECLARED, open_datasets, over_cap

_MANY_EPOCHS = 4  # beyond it repeated tokens are worth clearly less than fresh ones
_REPEATS_THAT_COUNT = 15.387756
_MUCH_TAIL = 0.01

PUBLISHED_MFU: Mapping[str, tuple[float, float, str]] = {
    "A100": (0.38, 0.63, "124M: GPT-2 reproductions and llm.c, 8x A100-80G"),
    "H100": (0.32, 0.40, "124M: GPT-2 reproductions, llm.c, modded-nanogpt, 8x H100"),
    "L20": (0.40, 0.40, "135M: l20-edu-135m, one run"),
}
"""Share of the dense bfloat16 peak that others reached with models of 100-300M parameters, counted
as 6N with the tied head, plus full attention."""


@dataclass(frozen=True)
class SourceReport:
    """One source over the whole run; tokens are training targets."""

    name: str
    stream_tokens: int
    declared: bool
    """Whether the size is a declaration: the dataset is not built yet."""
    windows: int
    tokens: int
    unique_tokens: int
    effective_tokens: float
    """Fresh tokens that would teach as much (see `effective_tokens`)."""
    epochs: float
    epochs_read: float
    tail_tokens: int


@dataclass(frozen=True)
class HardwareReport:
    """Hours on one device at the published efficiency, or at a measured rate."""

    device: str
    hours_low: float
    hours_high: float
    basis: str


@dataclass(frozen=True)
class PlanReport:
    """Everything that `tally plan` says."""

    plan_id: str
    steps: int
    tokens: int
    unique_tokens: int
    effective_tokens: float
    parameters: int
    parameters_non_embedding: int
    tokens_per_parameter: float
    unique_tokens_per_parameter: float
    flops: int
    flops_6n: int
    memory_gib: dict[str, float]
    sources: list[SourceReport]
    overlaps: list[Overlap]
    """Documents that sources from different datasets share."""
    hardware: list[HardwareReport]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON values; sources by name."""
        named = {"sources": {source.name: asdict(source) for source in self.sources}}
        return asdict(self) | named | {"overlaps": [pair._asdict() for pair in self.overlaps]}


def effective_tokens(unique: int, tokens: int) -> float:
    """Fresh tokens worth as much as reading `unique` ones until `tokens` are read.

    The value of repeats decays exponentially: U + U R* (1 - exp(-R / R*)) with R = tokens / U - 1
    repeats and R* = 15.387756, as fitted by Muennighoff et al., "Scaling Data-Constrained
    Language Models", NeurIPS 2023.
    """
    if not unique:
        return 0.0
    repeats = tokens / unique - 1
    return unique * (1 - _REPEATS_THAT_COUNT * math.expm1(-repeats / _REPEATS_THAT_COUNT))


def report(
    config: TrainConfig, plan: Plan, ranks: int, tokens_per_s: float | None = None
) -> PlanReport:
    """Work out a run.

    Args:
        config: the run.
        plan: its plan.
        ranks: processes, for the memory of one.
        tokens_per_s: a rate measured on this machine, all ranks together.
    """
    accounts, tokens = plan.account(plan.num_steps), plan.tokens_before(plan.num_steps)
    shared = _overlaps(config, plan)
    parameters = count_parameters(config.model)
    flops = flops_per_token(config.model, plan.seq_len) * tokens
    sources = [
        SourceReport(
            name=account.name,
            stream_tokens=source.tokens,
            declared=source.dataset_id.startswith(DECLARED),
            windows=source.windows,
            tokens=account.tokens,
            unique_tokens=account.unique_tokens,
            effective_tokens=effective_tokens(account.unique_tokens, account.tokens),
            epochs=float(account.epochs),
            epochs_read=float(account.epochs_read),
            tail_tokens=account.tail_tokens,
        )
        for source, account in zip(plan.sources, accounts, strict=True)
    ]
    return PlanReport(
        plan_id=plan.plan_id,
        steps=plan.num_steps,
        tokens=tokens,
        unique_tokens=total_unique(accounts),
        effective_tokens=sum(source.effective_tokens for source in sources),
        parameters=parameters.total,
        parameters_non_embedding=parameters.non_embedding,
        tokens_per_parameter=tokens / parameters.total,
        unique_tokens_per_parameter=total_unique(accounts) / parameters.total,
        flops=flops,
        flops_6n=flops_per_token(config.model, plan.seq_len, attention=False) * tokens,
        memory_gib=memory_gib(config.model, config.engine, config.micro_batch, plan.seq_len, ranks),
        sources=sources,
        overlaps=shared,
        hardware=_hardware(flops, tokens, tokens_per_s),
        warnings=[*_warnings(sources), *_over_cap(config, plan), *map(_shared_text, shared)],
    )


def _overlaps(config: TrainConfig, plan: Plan) -> list[Overlap]:
    """What sources of different datasets share; nothing is looked for within one dataset."""
    if len({source.dataset_id for source in plan.sources}) == 1:
        return []
    datasets = open_datasets(config.data, may_be_declared=True)
    built = [source for source in plan.sources if source.name in datasets]
    return overlaps({s.name: datasets[s.name].stream(s.source, s.split) for s in built})


def _over_cap(config: TrainConfig, plan: Plan) -> list[str]:
    cap = config.data.max_epochs
    over = [] if cap is None else over_cap(plan, plan.num_steps, cap)
    return [
        f"{account.name}: read {float(account.epochs_read):.2f} times, data.max_epochs is {cap}"
        for account in over
    ]


def _shared_text(pair: Overlap) -> str:
    return (
        f"{pair.documents:,} documents of {pair.second} ({human(pair.tokens)} tokens) are in "
        f"{pair.first} too; reading both repeats them, though each counts as unique"
    )


def _hardware(flops: int, tokens: int, tokens_per_s: float | None) -> list[HardwareReport]:
    rows = []
    if tokens_per_s is not None:
        hours = tokens / tokens_per_s / 3600
        basis = f"{human(tokens_per_s)} tokens/s, as given"
        rows.append(HardwareReport("this machine", hours, hours, basis))
    for device, (low, high, basis) in PUBLISHED_MFU.items():
        hours = flops / PEAK_FLOPS[device] / 3600
        share = f"{low:.0%}" if low == high else f"{low:.0%}-{high:.0%}"
        rows.append(HardwareReport(device, hours / high, hours / low, f"{share} MFU, {basis}"))
    return rows


def _warnings(sources: list[SourceReport]) -> list[str]:
    found = []
    for source in sources:
        if not source.tokens:
            found.append(f"{source.name}: never read; all its weights are zero or too small")
        if source.epochs > _MANY_EPOCHS:
            worth = source.effective_tokens / source.tokens
            found.append(
                f"{source.name}: read {source.epochs:.1f} times; its {human(source.tokens)} tokens "
                f"teach as much as {human(source.effective_tokens)} fresh ones ({worth:.0%})"
            )
        if source.declared:
            found.append(f"{source.name}: its size is declared; the dataset is not built yet")
        if source.tail_tokens > _MUCH_TAIL * source.stream_tokens:
            found.append(
                f"{source.name}: the last {source.tail_tokens:,} of {source.stream_tokens:,} "
                "tokens are in no window; a shorter data.seq_len loses fewer"
            )
    return found


def print_report(result: PlanReport, console: Console) -> None:
    """Tables for people."""
    console.print(_source_table(result))
    lines = [
        f"steps {result.steps:,}; tokens {result.tokens:,}, of which unique "
        f"{result.unique_tokens:,}; worth {human(result.effective_tokens)} fresh ones",
        f"parameters {result.parameters:,} ({result.parameters_non_embedding:,} without "
        f"embedding); {result.tokens_per_parameter:.1f} tokens per parameter, "
        f"{result.unique_tokens_per_parameter:.1f} unique",
        f"operations {result.flops:.3g} with attention, {result.flops_6n:.3g} as 6ND",
        "memory per rank, GiB: "
        + ", ".join(f"{name} {size:.2f}" for name, size in result.memory_gib.items()),
    ]
    for line in lines:
        console.print(line, highlight=False)
    console.print(_hardware_table(result))
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)


def _source_table(result: PlanReport) -> Table:
    table = Table("source", title=f"plan {result.plan_id}")
    for heading in ("tokens", "windows", "used", "unique", "epochs", "tail"):
        table.add_column(heading, justify="right")
    for source in result.sources:
        counts = (source.stream_tokens, source.windows, source.tokens, source.unique_tokens)
        cells = [f"{count:,}" for count in counts]
        table.add_row(source.name, *cells, f"{source.epochs:.3f}", f"{source.tail_tokens:,}")
    return table


def _hardware_table(result: PlanReport) -> Table:
    table = Table("one device", "time", "basis")
    for row in result.hardware:
        time = duration(row.hours_low)
        if row.hours_high != row.hours_low:
            time += f" to {duration(row.hours_high)}"
        table.add_row(row.device, time, row.basis)
    return table


def duration(hours: float) -> str:
    """Hours in the unit in which they are read most easily: '0.2 s', '35 min', '9.4 h'."""
    for unit, per_hour in (("s", 3600), ("min", 60)):
        value = hours * per_hour
        if value < 120:
            return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{hours:,.1f} h"
