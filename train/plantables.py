"""The plan report for people."""

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from configs.terminal import human
from train.planreport import PlanReport


def print_report(result: PlanReport, console: Console) -> None:
    """Print phases, sources, hardware and what is likely wrong."""
    console.print(f"plan {result.plan_id}", style="bold", highlight=False)
    if len(result.phases) > 1:
        console.print(_phase_table(result))
    console.print(_source_table(result))
    for line in _lines(result):
        console.print(line, highlight=False)
    console.print(_memory_table(result))
    console.print(_hardware_table(result))
    for basis, cards in _bases(result).items():
        console.print(f"{', '.join(cards)}: {basis}", style="dim", highlight=False)
    for warning in result.warnings:
        console.print(f"[yellow]warning:[/] {warning}", highlight=False)


def _lines(result: PlanReport) -> Iterator[str]:
    yield (
        f"steps {result.steps:,}; tokens {result.tokens:,}, of which unique "
        f"{result.unique_tokens:,}; worth {human(result.effective_tokens)} fresh ones"
    )
    yield (
        f"parameters {result.parameters:,}: {result.tokens_per_parameter:.1f} tokens each, "
        f"{result.unique_tokens_per_parameter:.1f} unique; without embedding "
        f"{result.parameters_non_embedding:,}: "
        f"{result.tokens_per_non_embedding_parameter:.1f} tokens each, "
        f"{result.unique_tokens_per_non_embedding_parameter:.1f} unique"
    )
    yield f"operations {result.flops:.3g} with attention, {result.flops_6n:.3g} as 6ND"


def _phase_table(result: PlanReport) -> Table:
    table = _table(["phase"], ["steps", "seq_len", "batch tokens", "tokens", "parameters"])
    for phase in result.phases:
        name = f"{phase.name} (from the beginning again)" if phase.restart else phase.name
        counts = (phase.steps, phase.seq_len, phase.batch_tokens, phase.tokens, phase.parameters)
        table.add_row(name, *(f"{count:,}" for count in counts))
    return table


def _source_table(result: PlanReport) -> Table:
    copies = any(source.duplicate_tokens for source in result.sources)
    headings = ["available", "used", "unique", *(["copies"] if copies else []), "epochs", "tail"]
    table = _table(["source"], headings)
    for source in result.sources:
        counts = [source.available_tokens, source.tokens, source.unique_tokens]
        counts += [source.duplicate_tokens] if copies else []
        cells = [f"{count:,}" for count in counts]
        table.add_row(source.name, *cells, f"{source.epochs:.3f}", f"{source.tail_tokens:,}")
    return table


def _memory_table(result: PlanReport) -> Table:
    parts = result.memory_gib
    table = _table([], [*parts, "in all"])
    table.title = f"memory of a rank, GiB, at ZeRO stage {result.zero_stage}"
    table.title_justify = "left"
    table.add_row(*(f"{size:.2f}" for size in (*parts.values(), sum(parts.values()))))
    return table


def _hardware_table(result: PlanReport) -> Table:
    priced = any(row.cost_low is not None for row in result.hardware)
    headings = ["time", "GPU hours", *(["cost"] if priced else []), "memory, GiB"]
    table = _table(["GPUs"], headings)
    for row in result.hardware:
        time = _range(duration(row.hours_low), duration(row.hours_high))
        gpu_hours = _range(_amount(row.gpu_hours_low), _amount(row.gpu_hours_high))
        cost = ""
        if row.cost_low is not None and row.cost_high is not None:
            cost = _range(_amount(row.cost_low), _amount(row.cost_high))
        cells = [time, gpu_hours, *([cost] if priced else [])]
        table.add_row(f"{row.gpus} x {row.device}", *cells, _fit(row.memory_gib, row.fits))
    return table


def _fit(memory: float | None, fits: bool | None) -> str:
    if memory is None:
        return ""
    return f"{memory:.0f}" if fits else f"[red]{memory:.0f}, too small[/]"


def _bases(result: PlanReport) -> dict[str, list[str]]:
    """Cards by what their figures rest on."""
    found: dict[str, list[str]] = {}
    for row in result.hardware:
        found.setdefault(row.basis, []).append(row.device)
    return found


def _table(texts: list[str], numbers: list[str]) -> Table:
    table = Table(*texts)
    for heading in numbers:
        table.add_column(heading, justify="right")
    return table


def _range(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _amount(value: float) -> str:
    if value < 0.01:
        return "under 0.01"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def duration(hours: float) -> str:
    """Hours in the unit in which they are read most easily: '0.2 s', '35 min', '9.4 h'."""
    if 0 < hours < 0.1 / 3600:
        return "under 0.1 s"
    for unit, per_hour in (("s", 3600), ("min", 60)):
        value = hours * per_hour
        if value < 120:
            return f"{value:.2g} {unit}" if value < 10 else f"{value:.0f} {unit}"
    return f"{hours:,.1f} h"
