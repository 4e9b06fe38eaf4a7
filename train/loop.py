"""The training loop, to be read from top to bottom: what happens in a step, and in which order."""

import shutil
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from configs.terminal import console
from shards.atomic import sync, write_json_atomic
from shards.ledger import LEDGER_NAME, Ledger, LedgerEntry, hex_digest
from train.checkpoint import STATE_FILE, begin, finish, prune, temporary_path
from train.collective import StepShare, add_up
from train.data import prefetched
from train.environment import device_name
from train.errors import TrainError
from train.flops import mfu
from train.gradient import forward_backward
from train.metrics import METRICS_NAME, Display, MetricsLog, peak_memory_gib
from train.optimizer import set_lr
from train.owners import exchange
from train.run_dir import CONFIG_NAME
from train.sentinel import measure, warn
from train.session import Session
from train.skipped import documents_of
from train.state import save_state
from train.trackers import opened
from train.validation import bits_per_byte, heldout_losses
from train.zero import deepspeed_stage


def train(session: Session, last_step: int, stop_asked: Callable[[], bool]) -> int:
    """Train until `last_step` steps are done or a rank is asked to stop; called on all ranks.

    Args:
        session: this rank.
        last_step: steps done at the end, counted from the beginning of the run.
        stop_asked: whether this rank was asked to save and leave.

    Returns:
        Steps done; the last checkpoint is of this step.

    Raises:
        TrainError: too many steps had a gradient that was not finite.
    """
    config, plan, engine = session.config, session.plan, session.engine
    ledger, metrics = Ledger(session.run_dir), MetricsLog(session.run_dir)
    skipped, done, saved = session.skipped_steps, session.first_step, session.first_step
    device = device_name(engine.device)
    engine.train()
    with (
        prefetched(session.reader, done, last_step, config.loader) as batches,
        Display(done, last_step, plan.num_steps, enabled=session.rank == 0) as display,
        opened(session.run_dir, config, done, enabled=session.rank == 0) as trackers,
    ):
        while done < last_step:
            # What to read and the learning rate follow from the step alone.
            step, started = done, time.perf_counter()
            batch = next(batches)
            data_wait_s = time.perf_counter() - started
            rate = session.segment.span.rate(step)
            lr = config.optimizer.lr * rate
            set_lr(session.optimizer, rate)

            # Forward and backward over this rank's rows, digesting what the model was given.
            engine.set_train_batch_size(plan.batch_windows(step))
            share = forward_backward(session, batch, int(stop_asked()))
            grad_norm = _update(session)
            total = add_up(share, engine.device)
            skipped += grad_norm is None
            done = step + 1
            step_s = time.perf_counter() - started

            # The proof first, then the metrics: both are cut back to the checkpoint on resume.
            line = _metrics_line(session, step, total.loss / session.world_size, lr, grad_norm)
            seq_len = plan.seq_len_at(step)
            targets = plan.batch_windows(step) * seq_len
            speed = targets / step_s
            line |= {"tokens_per_s": speed, "step_s": step_s, "data_wait_s": data_wait_s}
            line |= {"memory_gib": peak_memory_gib(engine.device), "skipped_steps": skipped}
            line["mfu"] = mfu(speed / session.world_size, config.model, seq_len, device)
            if config.validation and _due(done, last_step, config.validation.every_steps):
                line["val_loss"] = _validate(session)
                line["val_bits_per_byte"] = bits_per_byte(line["val_loss"], session.heldout)
            if config.sentinel and _due(done, last_step, config.sentinel.every_steps):
                line["singular_values"] = measure(session)
            if session.rank == 0:
                ledger.append(_ledger_entry(session, step, total))
                metrics.append(line)
                trackers.log(line)
                display.show(line)
                if config.sentinel and "singular_values" in line:
                    warn(line["singular_values"], config.sentinel, step)
                if grad_norm is None:
                    console.print(
                        f"step {step}: gradient not finite, {documents_of(session, step)}"
                    )

            if skipped > config.optimizer.max_skipped_steps:
                raise TrainError(
                    f"step {step}: gradient not finite, {skipped} times so far; "
                    f"optimizer.max_skipped_steps is {config.optimizer.max_skipped_steps}; lower "
                    f"optimizer.lr, lengthen the warm-up, or look at the data: "
                    f"{documents_of(session, step)}"
                )
            milestone = done in session.milestones
            if total.stop or milestone or _due(done, last_step, config.checkpoint.every_steps):
                save(session, done, skipped)
                saved = done
            if total.stop:
                break
    assert saved == done
    return done


def _due(done: int, last_step: int, every_steps: int) -> bool:
    return done % every_steps == 0 or done == last_step


def _update(session: Session) -> float | None:
    """Clip and take the optimizer step.

    Returns:
        The global L2 norm of the gradient before clipping; None where the step was skipped
        because it was not finite.
    """
    engine = session.engine
    if deepspeed_stage(session.config) == 0:
        return _clip_and_step(session)
    engine.step()
    if engine.optimizer.overflow:
        return None
    norm = float(engine.get_global_grad_norm())
    if not np.isfinite(norm):
        raise TrainError("gradient not finite and DeepSpeed applied it; resume from a checkpoint")
    return norm


def _clip_and_step(session: Session) -> float | None:
    engine, max_norm = session.engine, session.config.optimizer.max_grad_norm
    parameters = list(engine.module.parameters())
    norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    finite = bool(torch.isfinite(norm))
    if not finite:
        for parameter in parameters:
            parameter.grad = None  # the optimizer passes over parameters without a gradient
    elif max_norm is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
    engine.step()
    if finite and session.owned:
        exchange(session.owned)
    return norm.item() if finite else None


def _metrics_line(
    session: Session, step: int, loss: float, lr: float, grad_norm: float | None
) -> dict[str, Any]:
    accounts = session.plan.account(step + 1)
    return {
        "step": step,
        "phase": session.plan.phases[session.plan.phase_index(step)].name,
        "loss": loss,
        "lr": lr,
        "grad_norm": grad_norm,
        "tokens": sum(account.tokens for account in accounts),
        "unique_tokens": sum(account.unique_tokens for account in accounts),
        "epochs": {account.name: float(account.epochs) for account in accounts},
    }


def _ledger_entry(session: Session, step: int, total: StepShare) -> LedgerEntry:
    names = [source.name for source in session.plan.sources]
    return LedgerEntry(
        step=step,
        windows=dict(zip(names, total.windows.tolist(), strict=True)),
        masked_targets=total.masked_targets,
        windows_digest=hex_digest(total.windows_digest),
        tokens_digest=hex_digest(total.tokens_digest),
    )


def _validate(session: Session) -> dict[str, float]:
    assert session.config.validation is not None
    return heldout_losses(
        session.engine,
        session.heldout,
        session.config.validation,
        seq_len=session.plan.seq_len,
        document_mask=session.plan.document_mask,
        micro_batch=session.config.micro_batch,
        rank=session.rank,
        world_size=session.world_size,
    )


def save(session: Session, step: int, skipped_steps: int) -> None:
    """Write the checkpoint after `step` steps; called on all ranks."""
    run_dir, config = session.run_dir, session.config
    folder = temporary_path(run_dir, step)
    if session.rank == 0:
        begin(run_dir, step)
    torch.distributed.barrier()
    save_state(
        session.engine,
        folder,
        rank=session.rank,
        world_size=session.world_size,
        zero_stage=deepspeed_stage(config),
    )
    torch.distributed.barrier()
    if session.rank == 0:
        shutil.copyfile(run_dir / CONFIG_NAME, folder / CONFIG_NAME)
        write_json_atomic(folder / STATE_FILE, _state(session, step, skipped_steps))
        for name in (LEDGER_NAME, METRICS_NAME):  # not younger than the checkpoint
            sync(run_dir / name)
        finish(run_dir, step)
        prune(run_dir, config.checkpoint.keep, session.milestones)
    torch.distributed.barrier()


def _state(session: Session, step: int, skipped_steps: int) -> dict[str, Any]:
    plan = session.plan
    return {
        "step": step,
        "tokens": plan.tokens_before(step),
        "skipped_steps": skipped_steps,
        "plan_id": plan.plan_id,
        "datasets": {source.name: source.dataset_id for source in plan.sources},
        "model": session.config.model.model_dump(mode="json"),
        "world_size": session.world_size,
        "zero_stage": session.config.engine.zero_stage,
        "precision": session.config.engine.precision,
        "parent": session.parent,
    }
