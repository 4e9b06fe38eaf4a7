"""`tally init train`: a new training configuration, by flags or by questions."""

from pathlib import Path
from typing import Annotated

import typer

from configs.outputs import output_option

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.command("train")
def train_command(
    dataset: Annotated[
        str | None, typer.Option(help="Dataset of `tally build`: directory or s3://...")
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Of the model: 3m, 15m, 135m, 360m or 1.7b.")
    ] = None,
    tokens: Annotated[
        str | None, typer.Option(help="How much to read: '1 epoch', '2.5B tokens'.")
    ] = None,
    seq_len: Annotated[
        int | None, typer.Option(min=2, help="Targets of a window [default: the size's].")
    ] = None,
    output: Annotated[Path, output_option("The file to write.")] = Path("train.yaml"),
    name: Annotated[str | None, typer.Option(help="Of the run [default: the file's].")] = None,
) -> None:
    """Write a commented configuration for `tally train`. Asks for what no flag says."""
    from configs.new_file import ask, say_next, write_config
    from configs.sizes import find_size, sizes
    from configs.train import TrainConfig
    from shards.reader import Dataset
    from train.new_run import run_values
    from train.planning import build_plan

    opened = Dataset.open(ask(dataset, "--dataset", "Dataset (directory or s3://...)"))
    shape = find_size(ask(size, "--size", f"Size of the model ({', '.join(sizes())})"))
    amount = ask(tokens, "--tokens", "How much to read ('1 epoch', '2.5B tokens')", "1 epoch")
    values = run_values(name or output.stem, opened, shape, seq_len, amount)
    config = write_config(output, "train", TrainConfig, values, ["A run, for `tally train`."])
    plan = build_plan(config.data)
    run = f"runs/{config.name}"
    say_next(
        output,
        [
            f"tally plan {output}",
            f"tally train {output} -o {run}   # {plan.num_steps:,} steps",
            f"tally ledger {run} --verify",
        ],
    )
