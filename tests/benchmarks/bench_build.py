"""A whole build, one and two workers: read, filter, deduplicate, tokenize, pack, seal.

Run: `TALLY_TESTDATA=... python tests/benchmarks/bench_build.py [MEGABYTES] [RUNS] [PROFILE]`.

The text is real, in zstd Parquet files of about 8 MB; what is asked for beyond the corpora is made
of them again, a word in eight replaced so that no copy is a near-duplicate. The tokenizer is given
(training one takes minutes whatever the speed of the rest). Seconds are of the wall, from a fresh
process to the sealed dataset, and of processor time, all processes together; the runs of one and
two workers take turns. Peak memory is that of the largest process.
"""

import ctypes
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import NamedTuple

import polars as pl

from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size

FILE_MB = 8
PREPARE = "prepare"
ROOT = Path(__file__).parent.parent.parent


def texts_for(megabytes: float) -> list[str]:
    """Real documents, then copies of them with other words, that make up the size."""
    out = real = texts_of_size(megabytes)
    size = sum(len(text.encode("utf-8")) for text in real) / 1e6
    for copy in range(1, math.ceil(megabytes / size)):
        out = out + [with_other_words(text, copy) for text in real]
    return out


def with_other_words(text: str, copy: int) -> str:
    """The text with every eighth word replaced by another word of it."""
    words = text.split(" ")
    for place in range(copy % 8, len(words), 8):
        words[place] = words[(place * 31 + 7 * copy) % len(words)]
    return " ".join(words)


def prepare(folder: Path, megabytes: float, profile: str) -> float:
    """Write the source files and the configuration; returns megabytes of text."""
    texts = texts_for(megabytes)
    sizes = pl.Series([len(text.encode("utf-8")) for text in texts])
    frame = pl.DataFrame({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    parts = frame.with_columns(part=sizes.cum_sum() // (FILE_MB * 1_000_000))
    for part, rows in parts.group_by("part", maintain_order=True):
        rows.drop("part").write_parquet(folder / f"in-{part[0]:03d}.parquet", compression="zstd")
    write_config(folder, profile)
    return float(sizes.sum()) / 1e6


def write_config(folder: Path, profile: str) -> None:
    """Write `build.yaml` for the folder's files `in-*.parquet`."""
    source = {
        "kind": "parquet", "licence": "mixed", "profile": profile, "id": "id",
        "paths": [f"{folder}/in-*.parquet"],
    }  # fmt: skip
    values = {
        "name": "bench", "sources": {"text": source},
        "tokenizer": {"file": str(data_folder() / TOKENIZER)},
    }  # fmt: skip
    (folder / "build.yaml").write_text(json.dumps(values), encoding="utf-8")


class Run(NamedTuple):
    """What one build took."""

    seconds: float
    processor_seconds: float
    peak_gb: float
    """Of the largest process."""
    stages: dict[str, float]


def build(folder: Path, workers: int) -> Run:
    """Build from nothing."""
    for name in ("out", "out.work"):
        shutil.rmtree(folder / name, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline", "build", str(folder / "build.yaml")]
    command += ["-o", str(folder / "out"), "--workers", str(workers)]
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    seconds, used, peak = 0.0, 0.0, 0.0
    with suppress(ChildProcessError):
        while True:  # until no process of the build is left
            pid, status, usage = os.wait3(0)
            if pid == process.pid:
                seconds, process.returncode = time.perf_counter() - start, status
            used += usage.ru_utime + usage.ru_stime
            peak = max(peak, usage.ru_maxrss / 1e6)
    if process.returncode:
        sys.exit(f"the build failed: {shlex.join(command)}")
    log = json.loads((folder / "out.work/build_log.json").read_text(encoding="utf-8"))
    return Run(seconds, used, peak, log["seconds"])


def adopt_orphans() -> None:
    """Become the parent of workers whose own has ended, so that their time and memory count."""
    set_child_subreaper = 36  # PR_SET_CHILD_SUBREAPER, see prctl(2)
    ctypes.CDLL(None).prctl(set_child_subreaper, 1)


def main() -> None:
    megabytes = sys.argv[1] if len(sys.argv) > 1 else "100"
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    profile = sys.argv[3] if len(sys.argv) > 3 else "none"
    adopt_orphans()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        # In a process of its own: a child's peak memory is at least that of who started it.
        arguments = [sys.executable, __file__, PREPARE, made, megabytes, profile]
        size = float(subprocess.run(arguments, check=True, stdout=subprocess.PIPE).stdout)
        print(f"{size:.1f} MB, profile {profile}, {len(list(folder.glob('in-*')))} files")
        results: dict[int, list[Run]] = {1: [], 2: []}
        for _ in range(runs):
            for workers, done in results.items():
                done.append(build(folder, workers))
        one = median(run.seconds for run in results[1])
        for workers, done in results.items():
            report(workers, done, size, one)


def report(workers: int, runs: list[Run], size: float, one: float) -> None:
    """Print the medians of the runs with so many workers."""
    seconds = median(run.seconds for run in runs)
    used = median(run.processor_seconds for run in runs)
    stages = {name: round(median(run.stages[name] for run in runs), 2) for name in runs[0].stages}
    print(
        f"{workers} workers: {seconds:.1f} s, {size / seconds:.2f} MB/s, {one / seconds:.2f} x "
        f"one; processor time {used:.1f} s, {size / used:.2f} MB/s; "
        f"peak {max(run.peak_gb for run in runs):.2f} GB; {stages}"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == [PREPARE]:
        print(prepare(Path(sys.argv[2]), float(sys.argv[3]), sys.argv[4]))
    else:
        main()
