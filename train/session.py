"""Everything a rank holds while it trains: config, plan, data, engine; and how that is set up."""

import gc
import logging
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import deepspeed
import torch
from blake3 import blake3
from deepspeed.constants import default_pg_timeout
from torch import Tensor, nn
from torch.distributed import distributed_c10d

from configs.terminal import console
from configs.train import TrainConfig
from shards.plan import Plan
from shards.reader import Dataset, TokenStream
from train.checkpoint import checkpoint_path, read_state, resume_point, sweep
from train.data import RankReader
from train.environment import write_environment
from train.inheritance import Inheritance, Parent, find_inheritance
from train.model import Decoder
from train.optimizer import build_optimizer
from train.origin import origin_weights
from train.owners import Shares, shares
from train.pieces import give_masters
from train.resume import check_state, cut_back, known_plans
from train.run_data import announce_remote, run_datasets, run_plan, verify_shards
from train.run_dir import read_config
from train.segments import Segment, milestones, segment_at
from train.state import load_moments, read_moments, read_weights, restore_random_state
from train.validation import open_streams
from train.zero import deepspeed_config, deepspeed_stage


@dataclass(frozen=True)
class Session:
    """One rank of a run, ready to train from `first_step` to the end of its segment."""

    run_dir: Path
    config: TrainConfig
    """As it holds in this segment."""
    segment: Segment
    plan: Plan
    engine: Any
    optimizer: torch.optim.Optimizer
    owned: Shares | None
    """Who updates which parameters, where the ranks share them out whole."""
    reader: RankReader
    heldout: dict[str, TokenStream]
    rank: int
    world_size: int
    milestones: frozenset[int]
    """Steps whose checkpoints stay: as configured, and those that another segment began from."""
    first_step: int = 0
    skipped_steps: int = 0
    parent: Parent | None = None
    """The checkpoint that this segment began from."""


def open_session(run_dir: Path, *, goes_on: bool = False) -> Session:
    """Join the process group, build model and engine, load the newest intact checkpoint.

    Args:
        run_dir: the RUN directory.
        goes_on: this process has trained the segment before: nothing was interrupted.
    """
    join_ranks()
    config, plan = read_config(run_dir), run_plan(run_dir)
    rank, world_size = torch.distributed.get_rank(), torch.distributed.get_world_size()
    step = _agree_on_step(run_dir, rank)
    segment = segment_at(config, plan, step)
    inherited = find_inheritance(run_dir, config, plan, step)
    batch_windows = plan.batch_windows(min(step, plan.num_steps - 1))
    weights = _weights(run_dir, config, step, inherited)
    engine, optimizer = _build_engine(segment.config, batch_windows, world_size, weights)
    del weights
    torch.manual_seed(_random_seed(config.seed, step, rank))
    datasets = _open_datasets(run_dir, config, plan, rank, goes_on)
    names = {source.name: source.source for source in plan.sources}
    heldout = config.validation and open_streams(datasets, names, config.validation.split)
    streams = [datasets[s.name].stream(s.source, s.split) for s in plan.sources]
    if rank == 0:
        write_environment(run_dir, plan, world_size, engine.device, step)
    session = Session(
        run_dir=run_dir,
        config=segment.config,
        segment=segment,
        plan=plan,
        engine=engine,
        optimizer=optimizer,
        owned=_shares(engine.module, segment.config, world_size),
        reader=RankReader(
            plan, streams, rank=rank, world_size=world_size, micro_batch=config.micro_batch
        ),
        heldout=heldout or {},
        rank=rank,
        world_size=world_size,
        milestones=milestones(config, plan),
        first_step=step,
    )
    gc.enable()  # ranks begin without
    return _resume(session, inherited, goes_on)


def _open_datasets(
    run_dir: Path, config: TrainConfig, plan: Plan, rank: int, goes_on: bool
) -> dict[str, Dataset]:
    """The datasets of all sources by name, verified as the config wants it."""
    datasets = run_datasets(run_dir, check=config.loader.verify == "lazy")
    if rank == 0 and not goes_on:
        announce_remote(datasets)
    if config.loader.verify == "start" and not goes_on:
        verify_shards(plan, datasets, config.validation.split if config.validation else None)
    return datasets


def join_ranks() -> None:
    """Join the process group that RANK, WORLD_SIZE and MASTER_ADDR name, unless it is joined."""
    logging.getLogger("DeepSpeed").setLevel(logging.WARNING)
    # DeepSpeed would compile its shared-memory all-reduce here (minutes, and a C++ compiler).
    # Only tensor-parallel inference calls it; training goes through gloo with or without.
    deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    # Before the first message: every rank would send from GPU 0.
    deepspeed.get_accelerator().set_device(int(os.environ.get("LOCAL_RANK", "0")))
    deepspeed.init_distributed(
        "nccl" if torch.cuda.is_available() else "gloo", dist_init_required=True, verbose=False
    )


def _weights(
    run_dir: Path, config: TrainConfig, step: int, inherited: Inheritance | None
) -> dict[str, Tensor] | None:
    """What the session begins with; None where random weights are to be drawn."""
    if inherited:
        return inherited.weights()
    if step:
        return read_weights(checkpoint_path(run_dir, step))
    return origin_weights(Path(config.init_from)) if config.init_from else None


def _build_engine(
    config: TrainConfig, batch_windows: int, world_size: int, weights: dict[str, Tensor] | None
) -> tuple[Any, torch.optim.Optimizer]:
    """Engine and optimizer, beginning with these float32 weights or with new ones."""
    model = Decoder(config.model)
    if weights:
        model.load_state_dict(weights)
    else:
        model.initialise(config.seed)
    if config.engine.precision == "pure_bf16":
        model.bfloat16()
    named = list(model.named_parameters())
    if config.shared_whole:
        mine = shares(model, config.optimizer, world_size)[torch.distributed.get_rank()]
        named = [(name, parameter) for name, parameter in named if name in mine]
    optimizer = build_optimizer(named, config.optimizer)
    engine, *_ = deepspeed.initialize(
        model=model,
        optimizer=optimizer,
        config=deepspeed_config(config, batch_windows, world_size),
    )
    _limit_waiting()
    if weights and deepspeed_stage(config):
        give_masters(engine, weights)
    if config.engine.compile:
        engine.compile()
    return engine, optimizer


def _limit_waiting() -> None:
    """Have all process groups give up a rank that vanished after DEEPSPEED_TIMEOUT minutes.

    DeepSpeed 0.19.8 says so to the first group alone; those that it adds, for the gradients among
    others, would wait for torch's half an hour.
    """
    for group in list(distributed_c10d._world.pg_map):
        if isinstance(group, torch.distributed.ProcessGroup):  # or a mark: not a member
            distributed_c10d._set_pg_timeout(default_pg_timeout, group)


def _shares(model: nn.Module, config: TrainConfig, world_size: int) -> Shares | None:
    return shares(model, config.optimizer, world_size) if config.shared_whole else None


def _random_seed(seed: int, step: int, rank: int) -> int:
    """Of dropout, another on every rank and, with other ranks than before, from every step on."""
    return int.from_bytes(blake3(f"{seed}/{step}/{rank}".encode()).digest(8), "little")


def _resume(session: Session, inherited: Inheritance | None, goes_on: bool) -> Session:
    """Load the checkpoint the session begins with, if any; cut ledger and metrics back to it."""
    step, state = session.first_step, dict[str, Any](skipped_steps=0, parent=None)
    if step:
        folder = checkpoint_path(session.run_dir, step)
        state = read_state(folder)
        check_state(folder, state, known_plans(session.run_dir, session.plan))
        same_ranks = state["world_size"] == session.world_size
        if inherited:
            inherited.give_rest(session.engine, session.rank, same_ranks)
        else:
            stage = deepspeed_stage(session.config)
            load_moments(session.engine, read_moments(folder), stage)
            if same_ranks:
                restore_random_state(folder, session.rank)
    if session.rank == 0 and not goes_on:
        cut_back(session, step, state.get("plan_id"))
    if session.rank == 0 and inherited:
        console.print(inherited.told(), highlight=False)
    torch.distributed.barrier()
    parent = inherited.parent() if inherited else state["parent"]
    return replace(session, skipped_steps=state["skipped_steps"], parent=parent)


def _agree_on_step(run_dir: Path, rank: int) -> int:
    """Rank 0 looks for the checkpoint, so that all ranks take the same one."""
    step = 0
    if rank == 0:
        checkpoint = resume_point(run_dir)
        step = checkpoint.step if checkpoint else 0
        sweep(run_dir, step)
    return told_by_first(step)


def told_by_first(number: int) -> int:
    """The number that rank 0 has; called on all ranks."""
    device = deepspeed.get_accelerator().current_device_name()
    told = torch.tensor([number], dtype=torch.int64, device=device)
    torch.distributed.broadcast(told, src=0)
    return int(told.item())


def close_session(session: Session) -> None:
    """Let go of engine and optimizer, so that another session fits into the memory."""
    session.engine.destroy()
    session.optimizer.state.clear()
    session.optimizer.param_groups.clear()
    session.engine.module.to_empty(device="meta")
    gc.collect()
    deepspeed.get_accelerator().empty_cache()


def leave_ranks() -> None:
    """End the process group; all ranks must be alive."""
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()
