"""The folder's command: `tally build`."""

import gc
import os
from pathlib import Path
from typing import Annotated

import typer

from configs.choices import ExecutorKind
from configs.shipped import complete_config, located

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Text sources in, a dataset of packed tokens out."""


@app.command()
def build(
    config: Annotated[
        Path,
        typer.Argument(
            metavar="CONFIG",
            help="YAML file, as configs/demo/build.yaml",
            callback=located,
            autocompletion=complete_config,
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="a.b=VALUE", help="settings that differ, as `split.val_fraction=0.05`"
        ),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "-o",
            "--output",
            help="the dataset's directory, or `s3://bucket/name`, to which datasets/<name> is "
            "copied  [default: datasets/<name>]",
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="most tasks at a time [default: one a core; on a cluster, its own]"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
    executor: Annotated[
        ExecutorKind | None,
        typer.Option(help="where tasks run [default: `executor.kind` of CONFIG]"),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="delete intermediate files of other configurations")
    ] = False,
) -> None:
    """Build a dataset from text: read, filter, deduplicate, tokenize, pack. Resumes by itself."""
    from pipeline import cores

    if not dry_run:
        cores.prepare(workers or len(os.sched_getaffinity(0)))  # before the imports that follow
    gc.disable()  # imports make no garbage
    from configs.build import BuildConfig
    from configs.loading import load
    from configs.outputs import output_path
    from pipeline.build import build as run
    from pipeline.build import report
    from shards.remote import is_remote

    cores.settle()
    chosen = [] if executor is None else [f"executor.kind={executor}"]
    settings = load(config, BuildConfig, [*(overrides or []), *chosen])
    address = output if output is not None and is_remote(output) else None
    local = Path("datasets") / settings.name if address or output is None else output_path(output)
    built = run(settings, local, workers, dry_run, address, prune)
    if built is not None:
        report(built)
    cores.settle()  # so that the end of the process is quick
