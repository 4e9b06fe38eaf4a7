"""Commands of this folder; torch is imported by the ranks and by what needs it, not here."""

import json
from pathlib import Path
from typing import Annotated

import typer

from configs.loading import load
from configs.terminal import console
from configs.train import TrainConfig
from train.errors import TrainError

app = typer.Typer(no_args_is_help=True, add_completion=False)

ConfigFile = Annotated[Path, typer.Argument(metavar="CONFIG", help="YAML file of the run.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="[a.b=VALUE]...", help="Settings to change.")
]


@app.command("train")
def train_command(
    config_file: ConfigFile,
    overrides: Overrides = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="RUN directory [default: runs/<name>].")
    ] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Processes, on the CPU.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Processes, one per GPU.")] = None,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop with a checkpoint after this step of the run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
) -> None:
    """Train a model; goes on from the newest checkpoint where there is one."""
    from train.checkpoint import latest_checkpoint
    from train.launch import EXIT_STOPPED, announce_compile, choose_place, launch
    from train.planreport import Assumptions, report
    from train.plantables import print_report
    from train.run_dir import check_ranks, exclusive, plan_run, prepare

    config = load(config_file, TrainConfig, overrides or ())
    plan = plan_run(config)
    place = choose_place(config.launch, ranks, gpus)
    check_ranks(config, plan, place.ranks)
    if dry_run:
        print_report(report(config, plan, Assumptions(gpus=place.ranks)), console)
        return
    run_dir = output or Path("runs") / config.name
    run_dir.mkdir(parents=True, exist_ok=True)
    with exclusive(run_dir):
        prepare(run_dir, config, plan)
        done = latest_checkpoint(run_dir)
    last = min(stop_after or plan.num_steps, plan.num_steps)
    if done and done.step >= last:
        console.print(f"{done.step} of {plan.num_steps} steps are done already: {run_dir}")
        return
    announce_compile(config.engine)
    code = launch(run_dir, place, stop_after)
    done = latest_checkpoint(run_dir)
    if code != EXIT_STOPPED and (done is None or done.step < last):
        console.print(
            f"training failed (exit code {code}), see above; run the same command again to go on "
            f"from step {done.step if done else 0}",
            highlight=False,
        )
        code = code or 1  # DeepSpeed's launcher leaves with 0 when it is killed itself
    raise typer.Exit(code)


@app.command("plan")
def plan_command(
    config_file: ConfigFile,
    overrides: Overrides = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ranks: Annotated[
        int | None, typer.Option("--ranks", "--gpus", min=1, help="GPUs that work together.")
    ] = None,
    tokens_per_second: Annotated[
        float | None, typer.Option(min=1, help="Your measured speed, all GPUs together.")
    ] = None,
    mfu: Annotated[
        float | None,
        typer.Option(min=0.001, max=1, help="Share of the peak you reach; else published figures."),
    ] = None,
    price: Annotated[
        list[str] | None,
        typer.Option(help="CARD=PRICE of one GPU's hour: H100=2.50; `this` is your machine."),
    ] = None,
) -> None:
    """Say what a run will read and cost, without training."""
    from train.hardware import parse_prices
    from train.planreport import Assumptions, report
    from train.plantables import print_report
    from train.run_dir import plan_run

    config = load(config_file, TrainConfig, overrides or ())
    plan = plan_run(config, may_be_declared=True)
    gpus = ranks or config.launch.ranks or 1
    known = Assumptions(gpus, tokens_per_second, mfu, parse_prices(price or []))
    result = report(config, plan, known)
    if as_json:
        typer.echo(json.dumps(result.to_json(), indent=1))
    else:
        print_report(result, console)


@app.command("worker", hidden=True)
def worker_command(
    run_dir: Path, stop_after: Annotated[int | None, typer.Argument()] = None
) -> None:
    """One rank; started by the launcher."""
    import os

    from train.worker import run_rank

    try:
        code = run_rank(run_dir, stop_after)
    except TrainError:
        if os.environ.get("RANK", "0") == "0":
            raise
        code = 2  # rank 0 says the same
    raise typer.Exit(code)
