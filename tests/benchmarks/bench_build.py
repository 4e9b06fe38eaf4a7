"""A whole build, one and two workers: read, filter, deduplicate, tokenize, pack, seal.

Run: `TALLY_TESTDATA=... python tests/benchmarks/bench_build.py [MEGABYTES] [RUNS] [PROFILE]`.

The text is real, in zstd Parquet files of about 8 MB; the tokenizer is given (training one takes
minutes whatever the speed of the rest). Seconds are of the wall, from a fresh process to the sealed
dataset, and for one worker also of processor time; peak memory is that of the largest process.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import polars as pl

from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size

FILE_MB = 8
ROOT = Path(__file__).parent.parent.parent


def prepare(folder: Path, megabytes: float, profile: str) -> float:
    """Write the source files and the configuration; returns megabytes of text."""
    texts = texts_of_size(megabytes)
    sizes = pl.Series([len(text.encode("utf-8")) for text in texts])
    frame = pl.DataFrame({"id": [f"d{i}" for i in range(len(texts))], "text": texts})
    parts = frame.with_columns(part=sizes.cum_sum() // (FILE_MB * 1_000_000))
    for part, rows in parts.group_by("part", maintain_order=True):
        rows.drop("part").write_parquet(folder / f"in-{part[0]:03d}.parquet", compression="zstd")
    source = {
        "kind": "parquet", "licence": "mixed", "profile": profile, "id": "id",
        "paths": [f"{folder}/in-*.parquet"],
    }  # fmt: skip
    values = {
        "name": "bench", "sources": {"text": source},
        "tokenizer": {"file": str(data_folder() / TOKENIZER)},
    }  # fmt: skip
    (folder / "build.yaml").write_text(json.dumps(values), encoding="utf-8")
    return float(sizes.sum()) / 1e6


def build(folder: Path, workers: int) -> tuple[float, dict[str, float]]:
    """Build from nothing; seconds, and those of every stage."""
    for name in ("out", "out.work"):
        shutil.rmtree(folder / name, ignore_errors=True)
    command = [sys.executable, "-m", "pipeline", "build", str(folder / "build.yaml")]
    start = time.perf_counter()
    subprocess.run(
        [*command, "-o", str(folder / "out"), "--workers", str(workers)],
        cwd=ROOT, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    seconds = time.perf_counter() - start
    log = json.loads((folder / "out.work/build_log.json").read_text(encoding="utf-8"))
    return seconds, log["seconds"]


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    profile = sys.argv[3] if len(sys.argv) > 3 else "none"
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size = prepare(folder, megabytes, profile)
        print(f"{size:.1f} MB, profile {profile}, {len(list(folder.glob('in-*')))} files")
        one = 0.0
        for workers in (1, 2):
            results = [build(folder, workers) for _ in range(runs)]
            seconds = median(total for total, _ in results)
            one = one or seconds
            stages = {name: median(log[name] for _, log in results) for name in results[0][1]}
            if workers == 1:
                used = resource.getrusage(resource.RUSAGE_CHILDREN)
                cpu = (used.ru_utime + used.ru_stime) / runs
                print(f"processor time, one worker: {cpu:.1f} s, {size / cpu:.2f} MB/s")
            print(
                f"{workers} workers: {seconds:.1f} s, {size / seconds:.2f} MB/s, "
                f"{one / seconds:.2f} x one; {stages}"
            )
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1e6
    print(f"peak memory of a process: {peak:.2f} GB; {os.cpu_count()} processors")


if __name__ == "__main__":
    main()
