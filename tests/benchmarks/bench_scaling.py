"""How processor time, memory and disk grow with the corpus, stage by stage.

Run: `TALLY_TESTDATA=... python -m tests.benchmarks.bench_scaling run FOLDER [MEGABYTES...]`, then
`... fit FOLDER` and `... project FOLDER PROFILE`. The text is real; what is asked for beyond the
corpora are copies with every eighth word replaced. Processor time is measured, so other work on the
machine does little harm. A size whose result is in FOLDER/scaling.jsonl is not measured again.

`fit` prints what cost = fixed + per_gb * gigabytes ** power gives, fitted to the logarithms of the
costs at all sizes. A stage in proportion to the text has the power 1.
"""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import least_squares

from tests.benchmarks.bench_build import (
    ROOT,
    adopt_orphans,
    build,
    with_other_words,
    write_config,
)
from tests.benchmarks.corpus import texts_of_size

FILE_MB = 32
SIZES = (16, 64, 256, 1024, 5120)
WORKERS = 2
RESULTS = "scaling.jsonl"
CORPORA = {"10 B tokens": 10e9, "100 B": 100e9, "1.3 T": 1.3e12, "15 T": 15e12}
"""FineWeb-Edu's samples and whole, FineWeb."""
BYTES_A_TOKEN = 4.6
"""English web text, UTF-8, GPT-2's tokenizer: 1.41 M characters in 0.31 M tokens of FineWeb-Edu."""
ONE_TASK = ("order", "dedup", "layout")
"""Stages that do not divide."""
Sizes = npt.NDArray[np.float64]


def files_of_text(megabytes: float) -> Iterator[list[str]]:
    """Documents in parts of about FILE_MB, `megabytes` in all; one part in memory at a time."""
    real = texts_of_size(megabytes)
    part: list[str] = []
    size = total = 0
    for copy in count():
        for text in real:
            if total >= megabytes * 1e6:
                yield part
                return
            part.append(with_other_words(text, copy) if copy else text)
            length = len(part[-1].encode("utf-8"))
            size, total = size + length, total + length
            if size >= FILE_MB * 1e6:
                yield part
                part, size = [], 0


def prepare(folder: Path, megabytes: float, profile: str) -> None:
    """Write the source files and the configuration."""
    for number, texts in enumerate(files_of_text(megabytes)):
        ids = [f"{number}-{row}" for row in range(len(texts))]
        frame = pl.DataFrame({"id": ids, "text": texts})
        frame.write_parquet(folder / f"in-{number:04d}.parquet", compression="zstd")
    write_config(folder, profile)


def measure(folder: Path, megabytes: float, profile: str) -> dict[str, Any]:
    """Build and audit so much text; what it cost."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    line = [sys.executable, "-m", __spec__.name, "prepare", str(folder), str(megabytes), profile]
    subprocess.run(line, cwd=ROOT, check=True)
    whole = build(folder, WORKERS)
    work = folder / "out.work"
    log = json.loads((work / "build_log.json").read_text(encoding="utf-8"))
    manifest = json.loads((folder / "out/manifest.json").read_text(encoding="utf-8"))
    splits = manifest["sources"]["text"]["splits"]
    result = {
        "megabytes": megabytes,
        "profile": profile,
        "tokens": sum(split["tokens"] for split in splits.values()),
        "seconds": whole.seconds,
        "processor_seconds": whole.processor_seconds,
        "peak_gb": whole.peak_gb,
        "stages": log["costs"],
        "disk_mb": {path.name.rpartition("-")[0]: disk(path) for path in work.glob("*-*")},
        "input_mb": sum(path.stat().st_size for path in folder.glob("in-*")) / 1e6,
        "dataset_mb": disk(folder / "out"),
        "audit": audit(folder),
    }
    shutil.rmtree(folder)
    return result


def audit(folder: Path) -> dict[str, float]:
    """Processor seconds of an audit of the dataset, all its processes."""
    command = [sys.executable, "-m", "tally", "audit", str(folder / "out"), "-b", "olmo:all"]
    command += ["-o", str(folder / "audit"), "--workers", str(WORKERS)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"the audit failed: {shlex.join(command)}")
    return {
        "processor_seconds": usage.ru_utime + usage.ru_stime,
        "peak_gb": usage.ru_maxrss / 1e6,
    }


def disk(folder: Path) -> float:
    """10^6 bytes below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6


def run(folder: Path, sizes: list[float], profile: str) -> None:
    """Measure the sizes that are not measured yet."""
    results = folder / RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    known = [(row["megabytes"], row["profile"]) for row in read(folder)]
    for megabytes in sizes:
        if (megabytes, profile) not in known:
            row = json.dumps(measure(folder / f"{profile}-{megabytes:g}", megabytes, profile))
            with results.open("a", encoding="utf-8") as file:
                file.write(row + "\n")
            print(row, flush=True)


def read(folder: Path) -> list[dict[str, Any]]:
    path = folder / RESULTS
    return [json.loads(line) for line in path.open()] if path.exists() else []


def fit(folder: Path) -> None:
    """Print the table of fits: of every stage, the whole build, the audit, and the disk."""
    rows = read(folder)
    for profile in sorted({str(row["profile"]) for row in rows}):
        chosen = sorted((r for r in rows if r["profile"] == profile), key=itemgetter("megabytes"))
        sizes = np.array([row["megabytes"] for row in chosen], float)
        print(f"\n{profile}: {', '.join(f'{size:g}' for size in sizes)} MB of text\n")
        print(
            "| | processor seconds | fixed | a GB | power | peak, MB |\n|---|---|---|---|---|---|"
        )
        for name in chosen[0]["stages"]:
            report(name, sizes, [row["stages"][name] for row in chosen])
        report("whole build", sizes, chosen)
        report("audit", sizes, [row["audit"] for row in chosen])
        for name in (*chosen[0]["disk_mb"], "dataset"):
            sums = [row["disk_mb"].get(name, row["dataset_mb"]) for row in chosen]
            print(f"| {name}, MB on disk | {numbers(sums)} | {law(sizes, sums)} | |")


def report(name: str, sizes: Sizes, costs: list[dict[str, float]]) -> None:
    seconds = [cost["processor_seconds"] for cost in costs]
    peaks = [cost["peak_mb"] for cost in costs] if "peak_mb" in costs[0] else []
    print(f"| {name} | {numbers(seconds)} | {law(sizes, seconds)} | {numbers(peaks)} |")


def numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


def law(sizes: Sizes, costs: list[float]) -> str:
    """`fixed | a GB | power` of cost = fixed + a_gb * gigabytes ** power, fitted to logarithms."""
    values = np.maximum(np.array(costs), 1e-3)  # what is measured in milliseconds

    def error(guess: Sizes) -> Sizes:
        fixed, per_gb = np.exp(guess[:2])
        return np.asarray(np.log(fixed + per_gb * (sizes / 1000) ** guess[2]) - np.log(values))

    start = [np.log(values[0] / 2), np.log(values[-1] / sizes[-1] * 1000), 1.0]
    found = least_squares(error, start, bounds=([-9, -9, 0], [12, 12, 2])).x
    return f"{np.exp(found[0]):.2g} | {np.exp(found[1]):.3g} | {found[2]:.2f}"


def project(folder: Path, profile: str) -> None:
    """Print what larger corpora need, in proportion to the largest size measured."""
    rows = [row for row in read(folder) if row["profile"] == profile]
    row = max(rows, key=itemgetter("megabytes"))
    seconds = {name: stage["processor_seconds"] for name, stage in row["stages"].items()}
    alone = sum(seconds[name] for name in ONE_TASK) / row["megabytes"]
    work = sum(row["disk_mb"].values()) / row["megabytes"]
    print("| corpus | text | build, core-hours | of it in one task | audit | work | dataset |")
    print("|---|---|---|---|---|---|---|")
    for name, tokens in CORPORA.items():
        size = tokens * BYTES_A_TOKEN / 1e6
        share = size / row["megabytes"]
        hours = share * row["processor_seconds"] / 3600
        audit_hours = share * row["audit"]["processor_seconds"] / 3600
        print(
            f"| {name} | {size / 1e6:.3g} TB | {hours:.3g} | {size * alone / 3600:.2g} h | "
            f"{audit_hours:.3g} | {size * work / 1e6:.3g} TB | {tokens * 2.03 / 1e12:.2g} TB |"
        )


def main() -> None:
    action, folder, *rest = sys.argv[1:]
    if action == "prepare":
        prepare(Path(folder), float(rest[0]), rest[1])
    elif action == "run":
        profile = rest.pop(0) if rest and not rest[0][0].isdigit() else "none"
        adopt_orphans()
        run(Path(folder), [float(size) for size in rest] or list(SIZES), profile)
    elif action == "project":
        project(Path(folder), rest[0])
    else:
        fit(Path(folder))


if __name__ == "__main__":
    main()
