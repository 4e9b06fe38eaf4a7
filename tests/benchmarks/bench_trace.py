"""`tally trace` on a dataset of ten billion tokens: whole commands, start of Python included.

Run: `TALLY_TESTDATA=... python tests/benchmarks/bench_trace.py [SHARDS]`, 100 shards of 100 million
tokens by default; needs 6 GB of disk for them. A small dataset of real text is built and grown
(tests/grown.py), a run of 256 windows of 2,048 a step is planned on it, its ledger written, the
text index made for two shards and copied for the rest. Then the command is started for steps,
documents and passages chosen at random: first with all files dropped from the page cache, then
again. Seconds are of the wall, and of the processor for the second; memory is the largest resident
size.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import NamedTuple

from shards.ledger import LedgerEntry, planned_entry
from shards.plan import Plan
from shards.plan_file import save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.text_index import TextIndex
from tests.benchmarks.bench_build import ROOT, prepare
from tests.grown import grow

TEXT_MB, SHARD_TOKENS = 24, 100_000_000
SEQ_LEN, BATCH, PASSES = 2048, 256, 2
REPEATS = 5


def build_small(folder: Path) -> Dataset:
    """Real text as a dataset."""
    prepare(folder, TEXT_MB, "none")
    command = [sys.executable, "-m", "pipeline", "build", str(folder / "build.yaml")]
    subprocess.run(
        [*command, "-o", str(folder / "small")], cwd=ROOT, check=True, stdout=subprocess.DEVNULL
    )
    return Dataset.open(folder / "small")


def make_run(folder: Path, dataset: Dataset) -> tuple[Path, int]:
    """A run that read the dataset PASSES times; its directory and number of steps."""
    tokens = dataset.stream("text").num_tokens
    source = PlanSource("text", dataset.manifest.dataset_id, "text", "train", tokens)
    steps = PASSES * tokens // (SEQ_LEN * BATCH)
    plan = Plan(SEQ_LEN, 0, "shuffled", (source,), (PlanPhase("all", steps, BATCH, ("1",)),))
    run = folder / "run"
    run.mkdir()
    save_plan(plan, {"text": str(dataset.path)}, run / "plan.json")
    with (run / "ledger.jsonl").open("w", encoding="utf-8") as file:
        for step in range(steps):
            entry = LedgerEntry(step=step, tokens_digest="0" * 32, **planned_entry(plan, step))
            file.write(json.dumps(asdict(entry)) + "\n")
    return run, steps


def index_text(dataset: Dataset) -> None:
    """Make the tables of shards 0 and 1, and copies of the second for the others."""
    index, (first, *others) = TextIndex(dataset), dataset.stream("text").facts.shards[1:]
    made = index.directory / first.path
    start, spent = time.perf_counter(), time.process_time()
    for stream, number in index.missing()[:2]:
        index._make(stream, number)
    wall, spent = time.perf_counter() - start, time.process_time() - spent
    tokens = first.tokens * 2 / 1e6
    size = made.with_suffix(".grams").stat().st_size / first.tokens
    print(
        f"text index, a thread: {tokens / wall:.0f} M tokens/s, {tokens / spent:.0f} of processor "
        f"time; {size:.3f} bytes a token"
    )
    for other in others:
        target = (index.directory / other.path).with_suffix(".grams")
        shutil.copyfile(made.with_suffix(".grams"), target)


def forget(folders: list[Path]) -> None:
    """Drop all files from the page cache."""
    os.sync()
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file():
                descriptor = os.open(path, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


# A process of its own in between: a child begins with the peak memory of the one that made it.
_TIMED = """
import json, resource, subprocess, sys, time
start = time.perf_counter()
output = subprocess.run(sys.argv[1:], check=True, stdout=subprocess.PIPE, text=True).stdout
seconds = time.perf_counter() - start
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([seconds, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, output]))
"""


class Timing(NamedTuple):
    """One command."""

    seconds: float
    processor_seconds: float
    mebibytes: float
    output: str


def command(*arguments: str) -> Timing:
    """Run `tally`."""
    timed = [sys.executable, "-c", _TIMED, sys.executable, "-m", "tally", *arguments]
    done = subprocess.run(timed, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return Timing(*json.loads(done.stdout))


def passage(dataset: Dataset, low: int, high: int, rng: random.Random) -> str:
    """About sixty tokens of a document that begins in [low, high), cut at words."""
    stream = dataset.stream("text")
    while True:
        start = rng.randrange(low, high)
        tokens = stream.tokens(start, start + 80)
        if stream.eos_id not in tokens:
            text = dataset.tokenizer().decode(tokens.tolist())
            return text[text.find(" ") + 1 : text.rfind(" ")]


def questions(dataset: Dataset, small: Dataset, steps: int) -> dict[str, list[list[str]]]:
    """Arguments of the commands to time."""
    rng, stream = random.Random(0), dataset.stream("text")
    index = small.stream("text").documents()["doc_id"]
    last, half = len(stream.facts.shards), len(index) // 2
    middle = small.stream("text").documents()["token_start"][half]
    second = stream.starts[1]
    ids = [
        f"{index[rng.randrange(half, len(index))]}/{rng.randrange(1, last)}.3"
        for _ in range(REPEATS)
    ]
    once = [passage(dataset, 0, middle - 100, rng) for _ in range(REPEATS)]
    often = [passage(dataset, second, second + middle // 2, rng) for _ in range(REPEATS)]
    return {
        "--step": [["--step", str(rng.randrange(steps))] for _ in range(REPEATS)],
        "--doc": [["--doc", doc_id] for doc_id in ids],
        "--doc --until": [["--doc", doc_id, "--until", str(steps // 2)] for doc_id in ids],
        "--text, in one place": [["--text", text] for text in once],
        f"--text, in {last - 1} places": [["--text", text] for text in often],
    }


def main() -> None:
    num_shards = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as made:
        folder = Path(made)
        os.environ["TALLY_CACHE"] = str(folder / "cache")
        small = build_small(folder)
        start = time.perf_counter()
        dataset = grow(small, "text", folder / "grown", num_shards, SHARD_TOKENS)
        facts = dataset.stream("text").facts
        print(f"{facts.tokens:,} tokens, {facts.documents:,} documents in {num_shards} shards")
        sidecars = {"index": "index_bytes", "ids": "ids_bytes"}
        for name, field in sidecars.items():
            size = sum(getattr(shard, field) for shard in facts.shards)
            print(f"{name}: {size / 1e6:,.0f} MB, {size / facts.documents:.1f} bytes a document")
        run, steps = make_run(folder, dataset)
        index_text(dataset)
        print(f"{steps:,} steps; all made in {time.perf_counter() - start:.0f} s")
        print(f"{'tally trace RUN':24s} {'cold':>6s} {'warm':>6s} {'processor':>9s} {'MiB':>5s}")
        for name, calls in questions(dataset, small, steps).items():
            cold, warm = [], []
            for call in calls:
                forget([dataset.path, folder / "cache", run])
                cold.append(command("trace", str(run), *call))
                warm.append(command("trace", str(run), *call))
            seconds = [median(each.seconds for each in times) for times in (cold, warm)]
            processor = median(each.processor_seconds for each in warm)
            memory = max(each.mebibytes for each in cold + warm)
            print(f"{name:24s} {seconds[0]:6.2f} {seconds[1]:6.2f} {processor:9.2f} {memory:5.0f}")
            for timing in warm if "-v" in sys.argv else ():
                print(f"    {len(timing.output.splitlines())} lines; {timing.output[:150]!r}")


if __name__ == "__main__":
    main()
