"""Commands of this folder; torch is imported by the ranks and by what needs it, not here."""

import json
from pathlib import Path
from typing import Annotated

import typer

from configs.outputs import output_option
from configs.shipped import complete_config, located
from configs.terminal import console
from train.errors import OutOfMemoryError, TrainError

app = typer.Typer(no_args_is_help=True, add_completion=False)

ConfigFile = Annotated[
    Path,
    typer.Argument(
        metavar="CONFIG",
        help="YAML file of the run.",
        callback=located,
        autocompletion=complete_config,
    ),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="a.b=VALUE", help="Settings to change.")
]


@app.command("train")
def train_command(
    config_file: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file of the run, or of an experiment.",
            callback=located,
            autocompletion=complete_config,
        ),
    ],
    overrides: Overrides = None,
    output: Annotated[Path | None, output_option("RUN directory [default: runs/<name>].")] = None,
    ranks: Annotated[int | None, typer.Option(min=1, help="Processes, on the CPU.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="Processes, one per GPU.")] = None,
    hostfile: Annotated[
        Path | None, typer.Option(help="Machines: lines `HOST slots=GPUS`, as DeepSpeed has them.")
    ] = None,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Submit a Slurm job; with --dry-run, print its script.")
    ] = False,
    stop_after: Annotated[
        int | None, typer.Option(min=1, help="Stop with a checkpoint after this step of the run.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the plan, write nothing.")
    ] = False,
) -> None:
    """Train a model, or all runs of an experiment; goes on from the newest checkpoints."""
    from configs.experiment import is_experiment
    from configs.loading import load
    from configs.train import TrainConfig
    from train.start import Wanted, train_experiment, train_one

    wanted = Wanted(ranks, gpus, stop_after, dry_run, hostfile, slurm)
    if is_experiment(config_file):
        raise typer.Exit(train_experiment(config_file, overrides or (), output, wanted))
    config = load(config_file, TrainConfig, overrides or ())
    raise typer.Exit(train_one(config, output or Path("runs") / config.name, wanted))


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
    from configs.loading import load
    from configs.train import TrainConfig
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
    import gc
    import os

    gc.disable()  # until the session is open: imports make no garbage, a fifth of them went to it
    from train.worker import run_rank

    try:
        code = run_rank(run_dir, stop_after)
    except TrainError as error:
        if os.environ.get("RANK", "0") == "0" or isinstance(error, OutOfMemoryError):
            raise
        code = 2  # rank 0 says the same
    raise typer.Exit(code)
