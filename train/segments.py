"""A run in segments: consecutive phases with one model, engine and schedule.

A run without `changes` is one segment. Where a segment ends, the run has a checkpoint; the next
one begins with its weights, mapped into its own model (see `train.growth`). Steps are counted
through: a segment knows its first and last step in the run.
"""

from dataclasses import dataclass, replace

from configs.train import ChangeConfig, Schedule, TrainConfig
from shards.plan import Plan
from train.schedule import check_schedule, multiplier
from train.zero import refuse_unsound


@dataclass(frozen=True)
class Span:
    """A schedule and the steps of the run that it spans."""

    schedule: Schedule
    first_step: int
    last_step: int
    """The step after its last."""

    @property
    def num_steps(self) -> int:
        """How many."""
        return self.last_step - self.first_step

    def rate(self, step: int) -> float:
        """What the peak rate is multiplied by in a step of the run."""
        return multiplier(self.schedule, step - self.first_step, self.num_steps)


@dataclass(frozen=True)
class Segment:
    """Steps [first_step, last_step) of a run, and the config that holds in them."""

    number: int
    first_step: int
    last_step: int
    config: TrainConfig
    """The run's, with the model, engine and schedule of this segment."""
    span: Span
    change: ChangeConfig | None
    """What it began with; None in the first."""


def milestones(config: TrainConfig, plan: Plan) -> frozenset[int]:
    """Steps whose checkpoints stay: as configured, and those that another segment began from."""
    every = config.checkpoint.milestones
    begun = {segment.first_step for segment in segments(config, plan)[1:]}
    return frozenset(begun | set(range(0, plan.num_steps + 1, every) if every else ()))


def segments(config: TrainConfig, plan: Plan) -> tuple[Segment, ...]:
    """The segments of a run, in order.

    Changes of phases that the plan does not have (yet) are left out.
    """
    starts = [0]
    for phase in plan.phases:
        starts.append(starts[-1] + phase.num_steps)
    begun = [Segment(0, 0, plan.num_steps, config, Span(config.schedule, 0, plan.num_steps), None)]
    for phase, first in zip(plan.phases, starts, strict=False):
        if phase.name in config.changes:
            last = begun[-1]
            begun[-1] = replace(last, last_step=first)
            begun.append(_changed(last, config.changes[phase.name], first))
    return tuple(_ended(begun, number) for number in range(len(begun)))


def _changed(before: Segment, change: ChangeConfig, first_step: int) -> Segment:
    config, last = before.config, before.last_step
    if change.num_layers:
        model = config.model.model_copy(update={"num_layers": change.num_layers})
        config = config.model_copy(update={"model": model})
    if change.precision:
        engine = config.engine.model_copy(update={"precision": change.precision})
        config = config.model_copy(update={"engine": engine})
    span = before.span
    if change.schedule:
        config = config.model_copy(update={"schedule": change.schedule})
        span = Span(change.schedule, first_step, last)
    return Segment(before.number + 1, first_step, last, config, span, change)


def _ended(begun: list[Segment], number: int) -> Segment:
    """A segment whose schedule ends where the next schedule begins."""
    segment = begun[number]
    later = [other.span.first_step for other in begun[number + 1 :]]
    last = next((first for first in later if first > segment.span.first_step), None)
    return segment if last is None else replace(segment, span=replace(segment.span, last_step=last))


def segment_at(config: TrainConfig, plan: Plan, step: int) -> Segment:
    """The segment that a step is in; the last one for the step after the run."""
    return next(s for s in reversed(segments(config, plan)) if s.first_step <= step)


def check_segments(config: TrainConfig, plan: Plan) -> None:
    """Refuse schedules that do not fit into their steps, and engines that compute wrong.

    Raises:
        TrainError: what does not fit, and the way out.
    """
    for segment in segments(config, plan):
        refuse_unsound(segment.config)
        check_schedule(segment.span.schedule, segment.span.num_steps)
