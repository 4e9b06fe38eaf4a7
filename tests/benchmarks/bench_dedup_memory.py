"""Peak memory and time of every stage of deduplication by number of documents: the growth law.

Run: `TALLY_TESTDATA=... python tests/benchmarks/bench_dedup_memory.py [--memory MB] [DOCUMENTS
...]`. Documents are 60 words from real text, every fifth a copy of an earlier one with two words
replaced; ids are as long as those of FineWeb. Every stage of every size runs in
a process of its own; its anonymous memory is sampled a hundred times a second. (Mapped files are
not counted: the system takes those pages back at will.)
"""

import multiprocessing
import sys
import tempfile
import threading
import time
from multiprocessing.pool import Pool
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from configs.cleaning import DedupConfig
from pipeline.documents import SCHEMA
from shards.hashing import content_hash
from tests.benchmarks.corpus import texts_of_size
from tests.helpers_dedup import dedup_stages, run_stage

WORDS, COPY_EVERY, FILE_DOCUMENTS, ROW_GROUP = 60, 5, 100_000, 20_000


def write(folder: Path, num_documents: int) -> list[tuple[str, Path]]:
    """Documents files of 100,000 each."""
    words, files = " ".join(texts_of_size(20)).split(), []
    for number, first in enumerate(range(0, num_documents, FILE_DOCUMENTS)):
        size = min(FILE_DOCUMENTS, num_documents - first)
        files.append(("made", folder / f"{number:05d}.parquet"))
        texts = list(_texts(words, size, number))
        ids = [f"<urn:uuid:{first + i:036d}>" for i in range(size)]
        columns = {
            "doc_id": ids, "text": texts, "characters": [len(text) for text in texts],
            "bytes": [len(text.encode()) for text in texts],
            "content_hash": [content_hash(text) for text in texts], "origin_file": ["made"] * size,
            "origin_row": list(range(size)), "url": [None] * size, "reason": [None] * size,
        }  # fmt: skip
        pq.write_table(pa.table(columns, SCHEMA), files[-1][1], row_group_size=ROW_GROUP)
    return files


def _texts(words: list[str], size: int, seed: int) -> list[str]:
    """Texts of one file; words are renamed by file, so that only the planted copies repeat."""
    rng, texts = np.random.default_rng(seed), list[str]()
    for i in range(size):
        if i % COPY_EVERY or not i:
            start = int(rng.integers(0, len(words) - WORDS))
            tail = f" {seed}x{i}"
            texts.append(tail.join(words[start : start + WORDS]))
        else:
            copy = texts[int(rng.integers(0, i))].split()
            copy[20], copy[50] = "edited", str(i)
            texts.append(" ".join(copy))
    return texts


def anonymous_mb() -> float:
    """This process's anonymous memory now."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("RssAnon:")[1].split()[0]) / 1e3


class Peak:
    """The highest anonymous memory since it was made."""

    def __init__(self) -> None:
        self.value, self._running = 0.0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float:
        self._running = False
        self._thread.join()
        return self.value

    def _watch(self) -> None:
        while self._running:
            self.value = max(self.value, anonymous_mb())
            time.sleep(0.01)


def measured(work: Path, files: list[tuple[str, Path]], memory_mb: int, stage: int) -> list[float]:
    """Run a stage: highest memory, seconds of processor time."""
    peak, start = Peak(), time.process_time()
    run_stage(dedup_stages(work, files, DedupConfig(memory_mb=memory_mb)).all()[stage])
    return [peak.stop(), time.process_time() - start]


def measure(num_documents: int, memory_mb: int) -> None:
    """Run all stages on so many documents and print one line."""
    context = multiprocessing.get_context("spawn")
    with (
        tempfile.TemporaryDirectory() as made,
        Pool(1, maxtasksperchild=1, context=context) as pool,
    ):
        folder = Path(made)
        files = write(folder, num_documents)
        names = [stage.name for stage in dedup_stages(folder, files, DedupConfig()).all()]
        cells = [
            pool.apply(measured, (folder / "work", files, memory_mb, stage))
            for stage in range(len(names))
        ]
        disk = sum(path.stat().st_size for path in (folder / "work").rglob("*") if path.is_file())
    shown = ", ".join(
        f"{name} {most:.0f} MB {seconds:.1f} s"
        for name, (most, seconds) in zip(names, cells, strict=True)
    )
    most, seconds = max(cell[0] for cell in cells), sum(cell[1] for cell in cells)
    print(
        f"{num_documents:>10,} documents, memory_mb {memory_mb}: {most:.0f} MB at most, "
        f"{seconds:.1f} s, {disk / num_documents:.0f} bytes of disk a document; {shown}",
        flush=True,
    )


def main() -> None:
    args = sys.argv[1:]
    memory_mb = int(args[args.index("--memory") + 1]) if "--memory" in args else 1024
    sizes = [int(arg) for arg in args if arg != "--memory" and arg != str(memory_mb)]
    for size in sizes or [50_000, 200_000, 800_000]:
        measure(size, memory_mb)


if __name__ == "__main__":
    main()
