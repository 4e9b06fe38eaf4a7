"""What a run will read and cost, before it costs anything. No torch: it answers at once."""

from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, get_args

from configs.train import Card, TrainConfig
from shards.accountant import SourceAccount, total_unique
from shards.duplicates import Overlap
from shards.plan import Plan
from train.flops import count_parameters, flops_per_token, memory_gib
from train.hardware import OWN, Estimate, Share, at_rate, on_card, published_share
from train.planning import DECLARED
from train.planwarnings import plan_warnings
from train.segments import segment_at
from train.worth import effective_tokens


@dataclass(frozen=True)
class Assumptions:
    """What the user knows better than the published figures."""

    gpus: int = 1
    """Ranks."""
    tokens_per_s: float | None = None
    """Measured, all ranks together."""
    mfu: float | None = None
    """Share of the peak, instead of the published ones."""
    prices: dict[str, float] = field(default_factory=dict)
    """Of an hour of one GPU, by card; `this` is the user's own machine."""


@dataclass(frozen=True)
class SourceReport:
    """One source over the whole run; tokens are training targets."""

    name: str
    stream_tokens: int
    declared: bool
    """Whether the size is a declaration: the dataset is not built yet."""
    available_tokens: int
    """Targets that windows can reach."""
    windows: int
    """Windows read."""
    tokens: int
    unique_tokens: int
    duplicate_tokens: int
    """Distinct targets that were read before in a document with the same text."""
    effective_tokens: float
    """Fresh tokens that would teach as much (see `train.worth`)."""
    epochs: float
    epochs_read: float
    tail_tokens: int


@dataclass(frozen=True)
class PhaseReport:
    """One phase."""

    name: str
    steps: int
    seq_len: int
    batch_tokens: int
    tokens: int
    restart: bool
    parameters: int
    """Of the model in this phase."""
    precision: str


@dataclass(frozen=True)
class PlanReport:
    """Everything that `tally plan` says."""

    plan_id: str
    steps: int
    phases: list[PhaseReport]
    tokens: int
    unique_tokens: int
    effective_tokens: float
    parameters: int
    """Of the model at the end of the run."""
    parameters_non_embedding: int
    tokens_per_parameter: float
    unique_tokens_per_parameter: float
    tokens_per_non_embedding_parameter: float
    unique_tokens_per_non_embedding_parameter: float
    flops: int
    flops_6n: int
    zero_stage: int
    memory_gib: dict[str, float]
    """Of one rank, by component."""
    sources: list[SourceReport]
    overlaps: list[Overlap]
    """Documents that sources share, or that are more than once in one."""
    hardware: list[Estimate]
    warnings: list[str]

    def to_json(self) -> dict[str, Any]:
        """JSON values; sources by name."""
        named = {"sources": {source.name: asdict(source) for source in self.sources}}
        rows = {
            "overlaps": [pair._asdict() for pair in self.overlaps],
            "hardware": [row._asdict() for row in self.hardware],
        }
        return asdict(self) | named | rows


def report(config: TrainConfig, plan: Plan, known: Assumptions) -> PlanReport:
    """Work out a run."""
    accounts, tokens = plan.account(plan.num_steps), plan.tokens_before(plan.num_steps)
    overlaps = plan.duplicates.overlaps([s.name for s in plan.sources]) if plan.duplicates else []
    configs = _phase_configs(config, plan)
    phases, parameters = _phases(plan, configs), count_parameters(configs[-1].model)
    sources = [_source(plan, number, account) for number, account in enumerate(accounts)]
    flops, flops_6n = (_flops(configs, phases, attention=how) for how in (True, False))
    unique, total, blocks = total_unique(accounts), parameters.total, parameters.non_embedding
    needed = [
        memory_gib(of_phase, phase.seq_len, known.gpus)
        for of_phase, phase in zip(configs, phases, strict=True)
    ]
    memory = max(needed, key=lambda parts: sum(parts.values()))
    return PlanReport(
        plan_id=plan.plan_id,
        steps=plan.num_steps,
        phases=phases,
        tokens=tokens,
        unique_tokens=unique,
        effective_tokens=sum(source.effective_tokens for source in sources),
        parameters=total,
        parameters_non_embedding=blocks,
        tokens_per_parameter=tokens / total,
        unique_tokens_per_parameter=unique / total,
        tokens_per_non_embedding_parameter=tokens / blocks,
        unique_tokens_per_non_embedding_parameter=unique / blocks,
        flops=flops,
        flops_6n=flops_6n,
        zero_stage=config.engine.zero_stage,
        memory_gib=memory,
        sources=sources,
        overlaps=overlaps,
        hardware=_hardware(configs[-1], known, flops, tokens, sum(memory.values())),
        warnings=plan_warnings(config, plan, overlaps),
    )


def _phase_configs(config: TrainConfig, plan: Plan) -> list[TrainConfig]:
    """The config that holds in each phase."""
    firsts = accumulate((phase.num_steps for phase in plan.phases[:-1]), initial=0)
    return [segment_at(config, plan, first).config for first in firsts]


def _phases(plan: Plan, configs: list[TrainConfig]) -> list[PhaseReport]:
    return [
        PhaseReport(
            name=phase.name,
            steps=phase.num_steps,
            seq_len=phase.seq_len or plan.seq_len,
            batch_tokens=phase.batch_windows * (phase.seq_len or plan.seq_len),
            tokens=phase.num_steps * phase.batch_windows * (phase.seq_len or plan.seq_len),
            restart=phase.restart,
            parameters=count_parameters(config.model).total,
            precision=config.engine.precision,
        )
        for phase, config in zip(plan.phases, configs, strict=True)
    ]


def _source(plan: Plan, number: int, account: SourceAccount) -> SourceReport:
    source = plan.sources[number]
    return SourceReport(
        name=account.name,
        stream_tokens=source.tokens,
        declared=source.dataset_id.startswith(DECLARED),
        available_tokens=account.available_tokens,
        windows=account.windows,
        tokens=account.tokens,
        unique_tokens=account.unique_tokens,
        duplicate_tokens=account.duplicate_tokens,
        effective_tokens=effective_tokens(account.unique_tokens, account.tokens),
        epochs=float(account.epochs),
        epochs_read=float(account.epochs_read),
        tail_tokens=account.tail_tokens,
    )


def _flops(configs: list[TrainConfig], phases: list[PhaseReport], *, attention: bool) -> int:
    return sum(
        flops_per_token(config.model, phase.seq_len, attention=attention) * phase.tokens
        for config, phase in zip(configs, phases, strict=True)
    )


def _hardware(
    config: TrainConfig, known: Assumptions, flops: int, tokens: int, needed_gib: float
) -> list[Estimate]:
    rows: list[Estimate] = []
    prices = {str(card): price for card, price in config.launch.gpu_hour_price.items()}
    prices |= known.prices
    if known.tokens_per_s is not None:
        rows.append(at_rate(tokens, known.tokens_per_s, known.gpus, prices.get(OWN)))
    for card in get_args(Card):
        share = published_share(card, count_parameters(config.model).total)
        if known.mfu is not None:
            share = Share(known.mfu, known.mfu, "MFU as given")
        rows.append(on_card(card, flops, known.gpus, share, needed_gib, prices.get(card)))
    return rows
