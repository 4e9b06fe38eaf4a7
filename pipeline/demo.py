"""`tally demo`: the whole road on real text, offline, each step the command a user would type.

Every step is a process of its own that reads and writes files, so the demo can be stopped at any
moment; run again, every command goes on from, or reuses, what is already there.
"""

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import configs
from configs.terminal import console
from pipeline.demo_summary import summary_table
from pipeline.errors import BuildError
from pipeline.plant import plant
from shards.atomic import write_json_atomic
from shards.reader import Dataset

_CONFIGS = Path(os.path.relpath(Path(configs.__file__).parent / "demo"))
_PLANT_SOURCE, _PLANT_BENCHMARK = "web", "olmo:arc_easy"
_STOP_AFTER = 150
_TASKS, _ITEMS = "arc_easy,piqa,sciq", 100


class Step(NamedTuple):
    """One command of the demo."""

    title: str
    arguments: list[str]


def run_demo(out: Path) -> None:
    """Run all steps and print what happened.

    Raises:
        BuildError: a command failed; says which, and that the demo can be run again.
    """
    start = time.monotonic()
    dataset, copy, run = out / "dataset", out / "planted" / "documents.jsonl", out / "run"
    _run_all(_data_steps(out, dataset))
    _plant(dataset, copy)
    found = "Audit that copy: the report must find the planted item"
    _run_all([_audit(found, copy, out / "audit_planted")])
    _run_all(_training_steps(dataset, run))
    _run_all(_result_steps(dataset, run, out / "audit_trained"))
    console.rule("What happened")
    console.print(summary_table(out, time.monotonic() - start))


def _data_steps(out: Path, dataset: Path) -> list[Step]:
    build = ["build", str(_CONFIGS / "build.yaml"), "-o", str(dataset)]
    return [
        Step("Build a dataset from three real sources, tokenizer included", build),
        Step("Verify it: every file, token and document", ["verify", str(dataset)]),
        _audit("Audit it against real benchmark sets", dataset, out / "audit"),
    ]


def _audit(title: str, data: Path, out: Path, *more: str) -> Step:
    benchmarks = ["--benchmarks", "olmo:all"]
    return Step(title, ["audit", str(data), *benchmarks, "-o", str(out), *more])


def _training_steps(dataset: Path, run: Path) -> list[Step]:
    config = [str(_CONFIGS / "train.yaml")]
    config += [f"data.sources.{name}.dataset={dataset}" for name in ("web", "docs", "math")]
    train = ["train", *config, "-o", str(run), "--ranks", "2"]
    stop = ["--stop-after", str(_STOP_AFTER)]
    return [
        Step("Plan the run before anything is trained", ["plan", *config]),
        Step(f"Train with DeepSpeed on two ranks, stop at step {_STOP_AFTER}", train + stop),
        Step("Resume: the same command goes on where it stopped", train),
        Step("Read the accounts and prove them", ["ledger", str(run), "--verify", "--tokens"]),
    ]


def _result_steps(dataset: Path, run: Path, audit: Path) -> list[Step]:
    limit = ["--tasks", _TASKS, "--limit", str(_ITEMS)]
    exposure = "Audit again: how often did this run train on what was found?"
    return [
        _audit(exposure, dataset, audit, "--run", str(run)),
        Step(f"Evaluate: {_ITEMS} items a task, and the held-out text", ["eval", str(run), *limit]),
        Step("Export to a Hugging Face folder, logits compared", ["export", str(run)]),
        Step("Let it write", ["generate", str(run)]),
        Step("Write the model card", ["card", str(run), "--audit", str(audit)]),
        Step("Check every number of the card", ["card", str(run), "--verify"]),
    ]


def _run_all(steps: Sequence[Step]) -> None:
    for step in steps:
        console.rule(step.title)
        console.print(f"$ tally {shlex.join(step.arguments)}", style="bold", highlight=False)
        code = subprocess.run(
            [sys.executable, "-m", "tally", *step.arguments], check=False
        ).returncode
        if code:
            raise BuildError(
                f"`tally {step.arguments[0]}` failed (exit code {code}), see above; "
                "run `tally demo` again to go on from there"
            )


def _plant(dataset: Path, copy: Path) -> None:
    """Say openly that something is planted, and where."""
    console.rule("Plant one benchmark item in a copy of the data")
    planted = plant(Dataset.open(dataset), _PLANT_SOURCE, _PLANT_BENCHMARK, copy)
    write_json_atomic(copy.with_name("planted.json"), planted._asdict())
    console.print(
        f"This demo put item {planted.item} of {planted.benchmark} into a copy of document "
        f"{planted.doc_id}:\n  {planted.text}\n{copy}",
        highlight=False,
        markup=False,
    )
