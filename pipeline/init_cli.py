"""`tally init build`: a new build configuration, by flags or by questions."""

from pathlib import Path
from typing import Annotated

import typer

from configs.outputs import output_option

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("build")
def build_command(
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="[NAME=]FILES (path, 'data/*.jsonl', folder), a preset (fineweb_edu_10bt), or "
            "hub:OWNER/NAME[/PATTERN]. Repeatable."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="Entries of one to train (32768), tokenizer.json, or OWNER/NAME."),
    ] = None,
    output: Annotated[Path, output_option("The file to write.")] = Path("build.yaml"),
    name: Annotated[str | None, typer.Option(help="Of the dataset [default: the file's].")] = None,
    profile: Annotated[
        str | None, typer.Option(help="Filter rules of files: web, books, ..., none.")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Of the text in files.")] = None,
    text: Annotated[
        str | None, typer.Option(help="Column of the text [default: looked up in a file].")
    ] = None,
) -> None:
    """Write a commented configuration for `tally build`. Asks for what no flag says."""
    from configs.build import BuildConfig
    from configs.new_file import ask, say_next, write_config
    from configs.presets import PRESETS
    from pipeline import new_build

    given = source or ask(None, "--source", "Files, a preset or hub:OWNER/NAME").split()
    own = any(not (PRESETS / f"{s.partition('=')[2] or s}.yaml").is_file() for s in given)
    asked_profile = ask(profile, "--profile", "Filter profile", "none") if own else "none"
    asked_licence = ask(licence, "--licence", "Licence of the text", "unknown") if own else ""
    vocabulary = ask(tokenizer, "--tokenizer", "Tokenizer: entries, file, OWNER/NAME", "32768")
    values = {
        "name": name or output.stem,
        "sources": new_build.sources(given, asked_licence, asked_profile, text),
        "tokenizer": new_build.tokenizer(vocabulary),
    }
    config = write_config(
        output,
        "build",
        BuildConfig,
        values,
        ["A dataset, for `tally build`: sources, cleaning, tokenizer."],
    )
    folder = f"datasets/{config.name}"
    say_next(
        output,
        [
            f"tally build {output} --dry-run",
            f"tally build {output} -o {folder}",
            f"tally audit {folder} --benchmarks olmo:all",
            f"tally init train --dataset {folder} -o {output.stem}-run.yaml",
        ],
    )
