"""Going on from a checkpoint: is it of this run, and what was written after it goes."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.terminal import console
from shards.ledger import Ledger, read_ledger
from shards.plan import Plan
from shards.plan_file import earlier_plans
from train.errors import TrainError
from train.metrics import MetricsLog
from train.run_dir import note_restart, read_config
from train.segments import segment_at

if TYPE_CHECKING:
    from train.session import Session


def known_plans(run_dir: Path, plan: Plan) -> list[str]:
    """Ids of the plan and of those it grew from, the present one first."""
    earlier = earlier_plans(run_dir / "plan.json")
    return [plan.plan_id, *(old.plan_id for old in reversed(earlier))]


def check_state(folder: Path, state: dict[str, Any], plan_ids: Sequence[str]) -> None:
    """Refuse a checkpoint of another plan.

    Args:
        folder: the checkpoint.
        state: its state.json.
        plan_ids: of the run's plan and of those it grew from.

    Raises:
        TrainError: it is, or state.json is not one that a run writes; and the way out.
    """
    kinds = {"plan_id": str, "world_size": int, "skipped_steps": int}
    wrong = [key for key, kind in kinds.items() if not isinstance(state.get(key), kind)]
    if wrong or "parent" not in state:
        missing = ", ".join(wrong or ["parent"])
        raise TrainError(
            f"{folder}/state.json: {missing} missing or of the wrong type; put a checkpoint back "
            "that `tally train` wrote"
        )
    if state["plan_id"] not in plan_ids:
        raise TrainError(
            f"{folder}: written under plan {state['plan_id']}, the run has {plan_ids[0]}; "
            "put the old plan.json back or start a new run"
        )


def cut_back(session: "Session", step: int, trained_under: str | None) -> None:
    """Drop the ledger and metrics of steps that the checkpoint does not hold, and note it.

    Args:
        session: rank 0.
        step: steps that the checkpoint holds.
        trained_under: the plan it was written under; the present one may have further phases.
    """
    run_dir, plan_id = session.run_dir, session.plan.plan_id
    discarded = Ledger(run_dir).truncate(step)
    MetricsLog(run_dir).truncate(step)
    if step:
        entries = sum(1 for _ in read_ledger(run_dir))
        if entries != step:
            raise TrainError(
                f"{run_dir}: the checkpoint is of step {step} but the ledger has {entries} "
                "entries before it; restore ledger.jsonl or start a new run"
            )
    if step or discarded:
        line: dict[str, Any] = {"resumed_at": step, "discarded_steps": discarded}
        line |= {"world_size": session.world_size, "plan_id": plan_id}
        if trained_under not in (None, plan_id):
            line["appended_to"] = trained_under
            console.print(f"the plan has grown from {trained_under} to {plan_id}, at its end")
            console.print(_new_rate(session, step))
        note_restart(run_dir, line)
        source = f"resuming from the checkpoint after step {step}" if step else "starting over"
        console.print(source + (f", {discarded} steps are done again" if discarded else ""))


def _new_rate(session: "Session", step: int) -> str:
    """How the learning rate goes on: a schedule spans all of the steps, appended ones too."""
    config, plan = read_config(session.run_dir), session.plan
    old = earlier_plans(session.run_dir / "plan.json")[-1]
    before = plan.prefix(old.num_phases, old.num_sources)
    then, now = segment_at(config, before, step - 1).span, session.segment.span
    was, will = then.rate(step - 1), now.rate(min(step, plan.num_steps - 1))
    return (
        f"the schedule spans {now.num_steps} steps now, not {then.num_steps}: the learning rate "
        f"goes from {was:.3g} to {will:.3g} of its peak"
    )
