"""What is likely wrong with a plan, in words: said by `tally plan` before anything is spent."""

from collections.abc import Iterator
from fractions import Fraction

from configs.mixture import Phase
from configs.terminal import human
from configs.train import TrainConfig, WsdSchedule
from shards.accountant import SourceAccount
from shards.duplicates import Overlap
from shards.plan import Plan
from shards.plan_spec import PlanPhase
from train.planaudit import audit_warnings
from train.planning import DECLARED, over_cap
from train.worth import effective_tokens

_MANY_EPOCHS = 4  # beyond it repeated tokens are worth clearly less than fresh ones
_MUCH = Fraction(1, 100)


def plan_warnings(config: TrainConfig, plan: Plan, overlaps: list[Overlap]) -> list[str]:
    """Everything that a user should see before training."""
    accounts = plan.account(plan.num_steps)
    built = [source for source in plan.sources if not source.dataset_id.startswith(DECLARED)]
    places = {source.name: config.data.sources[source.name].dataset for source in built}
    return [
        *(line for n, account in enumerate(accounts) for line in _of_source(plan, n, account)),
        *_over_cap(config, plan),
        *map(_shared_text, overlaps),
        *_of_schedule(config, plan),
        *_of_phases(config, plan),
        *audit_warnings(places, {source.name: source.dataset_id for source in built}),
    ]


def _of_source(plan: Plan, number: int, account: SourceAccount) -> Iterator[str]:
    name, source = account.name, plan.sources[number]
    if not account.tokens:
        yield f"{name}: never read; all its weights are zero or too small"
    if account.epochs > _MANY_EPOCHS:
        fresh = effective_tokens(account.unique_tokens, account.tokens)
        yield (
            f"{name}: read {float(account.epochs):.1f} times; its {human(account.tokens)} tokens "
            f"teach as much as {human(fresh)} fresh ones ({fresh / account.tokens:.0%})"
        )
    if source.dataset_id.startswith(DECLARED):
        yield f"{name}: its size is declared; the dataset is not built yet"
    if account.tail_tokens > _MUCH * source.tokens:
        yield (
            f"{name}: the last {account.tail_tokens:,} of {source.tokens:,} tokens are in no "
            "window; a shorter data.seq_len loses fewer"
        )


def _over_cap(config: TrainConfig, plan: Plan) -> list[str]:
    cap = config.data.max_epochs
    over = [] if cap is None else over_cap(plan, plan.num_steps, cap)
    return [
        f"{account.name}: read {float(account.epochs_read):.2f} times, data.max_epochs is {cap}"
        for account in over
    ]


def _shared_text(pair: Overlap) -> str:
    if pair.first == pair.second:
        return (
            f"{pair.documents:,} documents of {pair.first} ({human(pair.tokens)} tokens) repeat "
            "others of it; they count as unique once"
        )
    return (
        f"{pair.documents:,} documents of {pair.second} ({human(pair.tokens)} tokens) are in "
        f"{pair.first} too; reading both repeats them, and they count as unique once"
    )


def _of_schedule(config: TrainConfig, plan: Plan) -> Iterator[str]:
    warmup, first, last = config.schedule.warmup_steps, plan.phases[0], plan.phases[-1]
    if len(plan.phases) == 1 or any(change.schedule for change in config.changes.values()):
        return
    if warmup > first.num_steps:
        yield (
            f"schedule: {warmup:,} warm-up steps go on beyond phase '{first.name}' of "
            f"{first.num_steps:,} steps"
        )
    decay = config.schedule.decay_steps if isinstance(config.schedule, WsdSchedule) else 0
    if decay > last.num_steps:
        yield (
            f"schedule: the rate falls for {decay:,} steps, but the last phase '{last.name}' has "
            f"{last.num_steps:,}: it begins to fall in an earlier phase"
        )


def _of_phases(config: TrainConfig, plan: Plan) -> Iterator[str]:
    """Amounts that a phase was to read and, in whole steps, cannot."""
    if sum(phase.num_steps for phase in plan.phases) < 1 or config.data.over_max_epochs == "clip":
        return
    for wanted, phase in zip(config.data.phases, plan.phases, strict=True):
        left = _left_over(wanted, phase, config.data.seq_len)
        if left:
            yield (
                f"phase '{phase.name}': {left:,} of the targets it was to read are left over, less "
                f"than a step of {wanted.global_batch_tokens:,}; a smaller batch leaves fewer"
            )


def _left_over(wanted: Phase, phase: PlanPhase, seq_len: int) -> int:
    """Targets lost to whole steps, if they are many."""
    if wanted.read is None:
        return 0
    windows = sum(map(Fraction, phase.weights))
    left = windows - phase.num_steps * phase.batch_windows
    return int(left) * (phase.seq_len or seq_len) if left > _MUCH * windows else 0
