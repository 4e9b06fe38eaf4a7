"""All stages of deduplication on one worker and on two: seconds on the wall, by stage.

Run: `TALLY_TESTDATA=... python tests/benchmarks/bench_dedup_scaling.py [MEGABYTES]`, on a machine
with nothing else to do. Real documents with planted copies, in eight files. The workers are there
and have their code loaded before the clock starts, as after the stages that come before in a build.
"""

import sys
import tempfile
import time
from pathlib import Path

from configs.cleaning import DedupConfig
from pipeline.executor import LocalRunner, worker_pool
from tests.benchmarks.bench_dedup import planted
from tests.benchmarks.corpus import write_documents
from tests.helpers_dedup import dedup_stages

_FILES = 8


def write(folder: Path, texts: list[str], name: str) -> list[tuple[str, Path]]:
    """Eight files of documents."""
    files = [("a", folder / f"{name}{number}.parquet") for number in range(_FILES)]
    for number, (_, path) in enumerate(files):
        write_documents(path, texts[number::_FILES], prefix=f"{number}-")
    return files


def measure(work: Path, files: list[tuple[str, Path]], runner: LocalRunner) -> dict[str, float]:
    """Seconds of every stage."""
    seconds = {}
    for stage in dedup_stages(work, files, DedupConfig()).all():
        start = time.monotonic()
        stage.run(runner)
        seconds[stage.name] = time.monotonic() - start
    return seconds


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 60.0
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        texts = planted(megabytes).texts
        files, few = write(folder, texts, "all"), write(folder, texts[:400], "few")
        size = sum(len(text.encode()) for text in texts) / 1e6
        for workers in (1, 2, 1, 2):
            with worker_pool(workers) as pool, tempfile.TemporaryDirectory(dir=folder) as work:
                runner = LocalRunner(pool)
                measure(Path(work) / "few", few, runner)
                found = measure(Path(work) / "all", files, runner)
            total = sum(found.values())
            shown = ", ".join(f"{name} {seconds:.2f}" for name, seconds in found.items())
            print(
                f"{workers} workers: {total:.2f} s, {size / total:.1f} MB/s ({shown})", flush=True
            )


if __name__ == "__main__":
    main()
