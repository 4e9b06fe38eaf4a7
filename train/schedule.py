"""The learning rate as a function of the step, and of nothing else."""

import math

from configs.train import CosineSchedule, Schedule, WsdSchedule
from train.errors import TrainError


def multiplier(schedule: Schedule, step: int, num_steps: int) -> float:
    """What the peak rate is multiplied by in `step` (0-based) of a run of `num_steps`."""
    if step < schedule.warmup_steps:
        return _warming_up(schedule, step)
    if isinstance(schedule, CosineSchedule):
        progress = (step - schedule.warmup_steps) / (num_steps - schedule.warmup_steps)
        remaining = 0.5 * (1 + math.cos(math.pi * progress))
    else:
        into_decay = step - (num_steps - schedule.decay_steps)
        remaining = 1.0 if into_decay <= 0 else 1 - math.sqrt(into_decay / schedule.decay_steps)
    return schedule.floor + (1 - schedule.floor) * remaining


def _warming_up(schedule: Schedule, step: int) -> float:
    done = step / schedule.warmup_steps
    match schedule.warmup:
        case "one_step":
            return (step + 1) / schedule.warmup_steps
        case "zero":
            return done
        case "floor":
            return schedule.floor + (1 - schedule.floor) * done


def check_schedule(schedule: Schedule, num_steps: int) -> None:
    """Refuse a schedule that does not fit into the steps that the data gives.

    Raises:
        TrainError: warm-up and decay are longer than the run.
    """
    decay_steps = schedule.decay_steps if isinstance(schedule, WsdSchedule) else 0
    if schedule.warmup_steps + decay_steps > num_steps:
        raise TrainError(
            f"schedule: {schedule.warmup_steps} warm-up and {decay_steps} decay steps do not fit "
            f"into the {num_steps} steps of the data's phases; shorten them or lengthen a phase"
        )
