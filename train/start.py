"""What `tally train` does: one run, or the runs of an experiment one after the other.

An experiment's directory holds a RUN for every arm and seed, `<arm>` or `<arm>-seed<n>`, and
experiment.json, which says which is which. Stopped and started again, it goes on: finished runs
are passed over, the one that was stopped is resumed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from configs.experiment import ExperimentConfig
from configs.loading import load
from configs.outputs import is_hidden, require_own, require_place
from configs.terminal import console, counted
from configs.train import TrainConfig
from shards.atomic import write_json_atomic
from shards.plan import Plan
from train.checkpoint import latest_checkpoint, resume_point
from train.errors import TrainError
from train.launch import EXIT_STOPPED, Place, announce_compile, choose_place, launch
from train.planreport import Assumptions, report
from train.plantables import print_report
from train.run_dir import check_ranks, exclusive, plan_run, prepare, require_run_dir
from train.slurm import SCRIPT_NAME, ranks_per_node, script, submit
from train.torchrun import is_rank, refuse_options, settle_device, train_as_rank, world_size
from train.trackers import check_trackers
from train.uploads import restore, uploading

EXPERIMENT_NAME = "experiment.json"


class Wanted(NamedTuple):
    """What the command line asks for, beside the configuration."""

    ranks: int | None = None
    gpus: int | None = None
    stop_after: int | None = None
    dry_run: bool = False
    hostfile: Path | None = None
    slurm: bool = False


class DeclaredRun(NamedTuple):
    """One run of an experiment."""

    name: str
    arm: str
    seed: int | None
    config: TrainConfig


def train_one(config: TrainConfig, run_dir: Path, wanted: Wanted) -> int:
    """Train a run to its end or to `stop_after`; returns the exit code.

    Raises:
        TrainError, DatasetError: what does not fit, and what to change.
    """
    if is_rank():
        return _train_as_rank(config, run_dir, wanted)
    require_run_dir(run_dir)
    plan = plan_run(config)
    place = _place(config, wanted)
    check_ranks(config, plan, place.ranks)
    check_trackers(config.trackers)
    if wanted.dry_run:
        print_report(report(config, plan, Assumptions(gpus=place.ranks)), console)
        if wanted.slurm:
            console.print(script(config.name, run_dir, config.launch), markup=False, soft_wrap=True)
        return 0
    last = min(wanted.stop_after or plan.num_steps, plan.num_steps)
    if _ready(config, plan, run_dir, last):
        return 0
    if wanted.slurm:
        number = submit(config.name, run_dir, config.launch)
        console.print(f"job {number} submitted: {run_dir / SCRIPT_NAME}")
        return 0
    announce_compile(config.engine)
    with uploading(run_dir, config, plan):
        code = launch(run_dir, place, wanted.stop_after)
    done = latest_checkpoint(run_dir)
    if code == EXIT_STOPPED or (done and done.step >= last):
        return code
    console.print(
        f"training failed (exit code {code}), see above; run the same command again to go on "
        f"from step {done.step if done else 0}",
        highlight=False,
    )
    return code or 1  # DeepSpeed's launcher leaves with 0 when it is killed itself


def _ready(config: TrainConfig, plan: Plan, run_dir: Path, last: int) -> bool:
    """Prepare RUN; returns whether all is done already."""
    run_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(run_dir):
        restored = restore(run_dir, config, plan)
        prepare(run_dir, config, plan)
        done = restored or resume_point(run_dir)
    if done is None or done.step < last:
        return False
    with uploading(run_dir, config, plan):  # where the storage failed at the end of the run
        pass
    console.print(f"{done.step} of {plan.num_steps} steps are done already: {run_dir}")
    return True


def _train_as_rank(config: TrainConfig, run_dir: Path, wanted: Wanted) -> int:
    """Train as the one rank that this process was started as."""
    chosen = {"--ranks": wanted.ranks, "--gpus": wanted.gpus, "--hostfile": wanted.hostfile}
    chosen |= {"--slurm": wanted.slurm, "--dry-run": wanted.dry_run}
    refuse_options([name for name, value in chosen.items() if value])
    settle_device(config.launch)

    def prepared() -> bool:
        console.print(f"{counted(world_size(), 'rank')}, started by who set RANK and WORLD_SIZE")
        require_run_dir(run_dir)
        plan = plan_run(config)
        check_ranks(config, plan, world_size())
        check_trackers(config.trackers)
        announce_compile(config.engine)
        last = min(wanted.stop_after or plan.num_steps, plan.num_steps)
        return not _ready(config, plan, run_dir, last)

    return train_as_rank(run_dir, wanted.stop_after, prepared)


def _place(config: TrainConfig, wanted: Wanted) -> Place:
    if not wanted.slurm:
        return choose_place(config.launch, wanted.ranks, wanted.gpus, wanted.hostfile)
    if wanted.ranks or wanted.gpus or wanted.hostfile or wanted.stop_after:
        raise TrainError(
            "--slurm takes its ranks from launch.ranks (a node) and launch.slurm.nodes, not from "
            "--ranks, --gpus, --hostfile or --stop-after"
        )
    ranks = config.launch.slurm.nodes * ranks_per_node(config.launch)
    return Place(ranks, on_gpus=config.launch.device != "cpu")


def train_experiment(
    path: Path, overrides: Sequence[str], output: Path | None, wanted: Wanted
) -> int:
    """Train all runs of an experiment in turn; returns the exit code of the first that did not end.

    Args:
        path: the experiment's YAML file.
        overrides: settings for all of its runs.
        output: directory for the runs; runs/<name> by default.
        wanted: where and how far.
    """
    if is_rank():
        refuse_options(["an experiment (train its runs one by one)"])
    experiment = load(path, ExperimentConfig)
    runs = declared_runs(path, experiment, overrides)
    directory = output or Path("runs") / experiment.experiment
    require_place(directory)
    require_own(directory, "no experiment", EXPERIMENT_NAME, TrainError, is_hidden)
    for run in runs:
        plan_run(run.config)  # all mistakes before the first hour is spent
    if not wanted.dry_run:
        _declare(directory, experiment, runs)
    for number, run in enumerate(runs, 1):
        console.print(f"\n{run.name} (run {number} of {len(runs)})", style="bold")
        code = train_one(run.config, directory / run.name, wanted)
        if code:
            return code
    if not (wanted.dry_run or wanted.slurm):
        console.print(f"\nall {len(runs)} runs are done; side by side: tally compare {directory}")
    return 0


def declared_runs(
    path: Path, experiment: ExperimentConfig, overrides: Sequence[str] = ()
) -> list[DeclaredRun]:
    """The runs of an experiment, seed by seed, so that every arm has a result early.

    Raises:
        ConfigError: a configuration is missing or wrong.
    """
    runs = []
    for seed in experiment.seeds or (None,):
        for arm, declared in experiment.arms.items():
            name = arm if seed is None else f"{arm}-seed{seed}"
            settings = [*declared.set, *overrides, f"name={name}"]
            if seed is not None:
                settings.append(f"data.seed={seed}")
            if seed is not None and experiment.seed_weights:
                settings.append(f"seed={seed}")
            file = path.parent / (declared.config or experiment.base or "")
            runs.append(DeclaredRun(name, arm, seed, load(file, TrainConfig, settings)))
    return runs


def _declare(directory: Path, experiment: ExperimentConfig, runs: list[DeclaredRun]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    arms = {name: {"factors": arm.factors} for name, arm in experiment.arms.items()}
    declared = {run.name: {"arm": run.arm, "seed": run.seed} for run in runs}
    values = {"experiment": experiment.experiment, "arms": arms, "runs": declared}
    write_json_atomic(directory / EXPERIMENT_NAME, values)
