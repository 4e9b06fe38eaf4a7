"""How processor time, memory and disk grow with the corpus, stage by stage.

Run: `TALLY_TESTDATA=... python -m tests.benchmarks.bench_scaling run FOLDER [MEGABYTES...]`, then
`... fit FOLDER`. The text is real; what is asked for beyond the corpora are copies with every
eighth word replaced. Processor time is measured, so other work on the machine does little harm.
A size whose result is in FOLDER/scaling.jsonl is not measured again.

`fit` prints a table of exponents: least squares of log(cost) over log(megabytes), for the sizes
from 50 MB on, where fixed costs no longer count. A stage in proportion to the text has 1.00.
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

from tests.benchmarks.bench_build import ROOT, adopt_orphans, build, with_other_words
from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size

FILE_MB = 32
SIZES = (16, 64, 256, 1024, 5120)
FIT_FROM_MB = 50
WORKERS = 2
RESULTS = "scaling.jsonl"


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
    source = {
        "kind": "parquet", "licence": "mixed", "profile": profile, "id": "id",
        "paths": [f"{folder}/in-*.parquet"],
    }  # fmt: skip
    tokenizer = {"file": str(data_folder() / TOKENIZER)}
    values = {"name": "scaling", "sources": {"text": source}, "tokenizer": tokenizer}
    (folder / "build.yaml").write_text(json.dumps(values), encoding="utf-8")


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
    """Print, for every stage and profile, seconds a gigabyte, memory, disk, and the exponent."""
    print("| profile, stage | " + "s at each size | exponent | peak MB at each size |")
    rows = read(folder)
    for profile in sorted({str(row["profile"]) for row in rows}):
        chosen = sorted((r for r in rows if r["profile"] == profile), key=itemgetter("megabytes"))
        sizes = np.array([row["megabytes"] for row in chosen], float)
        print(f"| {profile} | {', '.join(f'{size:g} MB' for size in sizes)} | | |")
        for name in chosen[0]["stages"]:
            costs = [row["stages"][name] for row in chosen]
            report(name, sizes, costs, "peak_mb")
        report("audit", sizes, [row["audit"] for row in chosen], "peak_gb")
        report("whole build", sizes, chosen, "peak_gb")
        for name in chosen[0]["disk_mb"]:
            disks = [round(row["disk_mb"][name], 1) for row in chosen]
            print(f"| disk {name} | {disks} | {exponent(sizes, disks)} | |")


def report(
    name: str, sizes: npt.NDArray[np.float64], costs: list[dict[str, float]], memory: str
) -> None:
    seconds = [round(cost["processor_seconds"], 2) for cost in costs]
    peaks = [round(cost[memory], 2) for cost in costs]
    print(f"| {name} | {seconds} | {exponent(sizes, seconds)} | {peaks} |")


def exponent(sizes: npt.NDArray[np.float64], costs: list[float]) -> str:
    """The power of the size that the cost grows with."""
    used = sizes >= FIT_FROM_MB
    values = np.array(costs)[used]
    if used.sum() < 2 or (values <= 0).any():
        return "-"
    return f"{np.polyfit(np.log(sizes[used]), np.log(values), 1)[0]:.2f}"


def main() -> None:
    action, folder, *rest = sys.argv[1:]
    if action == "prepare":
        prepare(Path(folder), float(rest[0]), rest[1])
    elif action == "run":
        profile = rest.pop(0) if rest and not rest[0][0].isdigit() else "none"
        adopt_orphans()
        run(Path(folder), [float(size) for size in rest] or list(SIZES), profile)
    else:
        fit(Path(folder))


if __name__ == "__main__":
    main()
