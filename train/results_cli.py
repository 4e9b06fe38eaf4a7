"""Commands on a run: eval, export, import, generate, card, compare, plot; late imports."""

from pathlib import Path
from typing import Annotated

import typer

from configs.outputs import output_option
from configs.terminal import console
from train.errors import TrainError
from train.process import prepare_process

app = typer.Typer(no_args_is_help=True, add_completion=False)

RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="Directory of a training run.")]
Step = Annotated[
    int | None, typer.Option(min=1, help="Checkpoint after this step [default: the newest].")
]
_DEFAULT_TASKS = "arc_easy,hellaswag,piqa,winogrande"
_STARTING = "starting: torch takes seconds to load"
_ENDS = {
    "eos": "the model ended the document",
    "length": "cut at --max-new-tokens",
    "context": "cut where the model's context is full",
}


@app.command("eval")
def eval_command(
    target: Annotated[
        Path, typer.Argument(metavar="RUN", help="A training run, or a Hugging Face folder.")
    ],
    tasks: Annotated[
        str | None,
        typer.Option(help=f"lm-eval tasks, groups, tags, comma-separated [{_DEFAULT_TASKS}]."),
    ] = None,
    suite: Annotated[
        str | None, typer.Option(help="Tasks of a published card: l20, tinylm or mtlm1.")
    ] = None,
    baselines: Annotated[
        str,
        typer.Option(help="Models to compare with: gpt2, smollm-135m, ..., OWNER/NAME, folders."),
    ] = "",
    audit: Annotated[
        Path | None, typer.Option(help="An audit: also score clean and contaminated items apart.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many items of each task.")
    ] = None,
    step: Step = None,
    num_fewshot: Annotated[
        int | None, typer.Option(min=0, help="Solved examples before each item [as the task says].")
    ] = None,
    bos: Annotated[
        bool | None, typer.Option("--bos/--no-bos", help="Put BOS (or EOS) before every context.")
    ] = None,
    apart: Annotated[
        bool | None,
        typer.Option("--apart/--together", help="How context and answer are tokenized."),
    ] = None,
    bfloat16: Annotated[bool, typer.Option("--bf16", help="Compute in bfloat16.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of all random generators.")] = 1234,
    data: Annotated[
        Path | None, typer.Option(help="Folder with TASK.jsonl or TASK/SPLIT.jsonl; comes first.")
    ] = None,
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens a forward pass [what fits the device].")
    ] = None,
    heldout: Annotated[bool, typer.Option(help="Also score the held-out split.")] = True,
) -> None:
    """Score a model on benchmarks and its held-out split, beside baselines; resumes."""
    from configs.evaluation import EvalSettings, find_suite
    from train.eval_command import EvalRequest, asks_hub, run_eval

    chosen = find_suite(suite) if suite else None
    wanted = _names(tasks or ("" if suite else _DEFAULT_TASKS))
    settings = EvalSettings(
        limit=limit,
        num_fewshot=0 if num_fewshot is None and chosen else num_fewshot,
        bos=bos if bos is not None else bool(chosen and chosen.bos),
        apart=apart if apart is not None else bool(chosen and chosen.apart),
        dtype="bfloat16" if bfloat16 else "float32",
        seed=seed,
    )
    request = EvalRequest(
        target, wanted, suite, _names(baselines), settings, data, step, batch_tokens, audit, heldout
    )
    with console.status(_STARTING):
        online = asks_hub(request)
    prepare_process(online=online)
    run_eval(request)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


@app.command("export")
def export_command(
    run_dir: RunDir,
    output: Annotated[Path | None, output_option("Folder [default: RUN/export].")] = None,
    step: Step = None,
    bfloat16: Annotated[bool, typer.Option("--bf16", help="Store weights in bfloat16.")] = False,
) -> None:
    """Write a Hugging Face folder, load it back and compare its logits with ours."""
    prepare_process()
    import json

    with console.status("writing the folder, loading it back, comparing logits"):
        from train.export import export_run

        folder = export_run(run_dir, output, step, "bfloat16" if bfloat16 else "float32")
    facts = json.loads((folder / "export.json").read_bytes())
    console.print(
        f"{facts['architecture']}, {facts['parameters']:,} parameters: logits on "
        f"{facts['tokens_compared']} real tokens differ by at most "
        f"{facts['max_logit_difference']:.2g} (allowed {facts['tolerance']})"
    )
    if facts["custom_code"]:
        console.print("no Llama: load it with trust_remote_code=True (modeling_tally.py)")
    console.print(f"wrote {folder}")


@app.command("import")
def import_command(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Folder, or owner/name on the hub.")
    ],
    output: Annotated[Path, output_option("Folder for the weights.")],
    revision: Annotated[
        str | None, typer.Option(help="Commit of the repository [default: the newest].")
    ] = None,
) -> None:
    """Take a Hugging Face Llama's weights as the beginning of a run (init_from)."""
    from train.hf_import import START_NAME, import_model

    origin = import_model(model, output, revision)
    at = f" at revision {origin['revision']}" if origin["revision"] else ""
    console.print(
        f"{origin['model']}{at}, {origin['parameters']:,} parameters: logits on "
        f"{origin['tokens_compared']} random tokens differ by at most "
        f"{origin['max_logit_difference']:.2g}"
    )
    console.print(f"wrote {output}; begin a training config with `extends: {output / START_NAME}`")


@app.command("generate")
def generate_command(
    run_dir: RunDir,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Text to continue [default: held-out beginnings].")
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add.")] = 80,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest.")] = 0.8,
    top_k: Annotated[int, typer.Option(min=1, help="Draw from so many likeliest tokens.")] = 50,
    top_p: Annotated[
        float, typer.Option(min=0.01, max=1, help="Of these so much of the probability.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same text.")] = 1234,
    step: Step = None,
) -> None:
    """Let the model go on with a text."""
    prepare_process()
    from rich.markup import escape

    with console.status(_STARTING):
        from train.generate import SamplingSettings, generate_run

    settings = SamplingSettings(
        max_new_tokens=max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed
    )
    for sample in generate_run(run_dir, prompt or [], settings, step)["samples"]:
        console.print(f"[bold]{escape(sample['prompt'])}[/]{escape(sample['text'])}")
        console.print(f"[dim]— {_ENDS[sample['ended_by']]}[/]\n")
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
    licence: Annotated[
        str | None, typer.Option("--license", help="Of the model, as the hub names it.")
    ] = None,
    gpu_hour_price: Annotated[
        float | None, typer.Option(min=0, help="Paid for an hour of one GPU.")
    ] = None,
    energy_kwh: Annotated[
        float | None, typer.Option(min=0, help="That the training took, by your meter.")
    ] = None,
) -> None:
    """Write the model card, or check that an existing one is still true.

    What you state of licence, price and energy is kept in RUN/card/stated.json.
    """
    if not verify:
        from train.card import write_card
        from train.card_cost import Stated, state

        state(
            run_dir,
            Stated(license=licence, gpu_hour_price=gpu_hour_price, energy_kwh=energy_kwh),
        )
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
    output: Annotated[Path, output_option("Folder for the comparison.")] = Path("comparison"),
) -> None:
    """Show runs side by side: scores, curves, and which settings differ."""
    from train.compare import compare_runs

    console.print(f"wrote {compare_runs(run_dirs, output) / 'comparison.html'}")


@app.command("plot")
def plot_command(
    run_dirs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="One run or more.")],
    output: Annotated[Path | None, output_option("Folder [default: RUN/plots, or plots].")] = None,
) -> None:
    """Draw loss, held-out loss, learning rate, gradient and speed as PNG, all runs together."""
    from train.plot import plot_runs

    folder = output or (run_dirs[0] / "plots" if len(run_dirs) == 1 else Path("plots"))
    for path in plot_runs(run_dirs, folder):
        console.print(f"wrote {path}")
