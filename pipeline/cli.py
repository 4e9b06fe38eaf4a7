"""The folder's command: `tally build`."""

import os
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False, no_args_is_help=True)


@app.callback()
def _commands() -> None:
    """Text sources in, a dataset of packed tokens out."""


@app.command()
def build(
    config: Annotated[Path, typer.Argument(help="YAML file, as configs/demo/build.yaml")],
    overrides: Annotated[
        list[str] | None, typer.Argument(help="settings that differ, as `split.val_fraction=0.05`")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", help="the dataset's directory [default: datasets/<name>]"),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="processes [default: one a core]")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would be done")] = False,
    upload: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="also copy the dataset there, as `s3://bucket/name`"),
    ] = None,
) -> None:
    """Build a dataset from text: read, filter, deduplicate, tokenize, pack. Resumes by itself."""
    from configs.build import BuildConfig
    from configs.loading import load
    from pipeline.build import build as run
    from pipeline.build import report
    from pipeline.upload import upload as send

    settings = load(config, BuildConfig, overrides or [])
    target = output or Path("datasets") / settings.name
    built = run(settings, target, workers or len(os.sched_getaffinity(0)), dry_run)
    if built is not None:
        report(built)
        if upload is not None:
            send(built.path, upload)
