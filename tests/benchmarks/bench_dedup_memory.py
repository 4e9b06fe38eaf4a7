"""Peak memory and time of the deduplication stage by number of documents: the growth law.

Run: `python tests/benchmarks/bench_dedup_memory.py [DOCUMENTS ...]`. Documents are made up: 60
words from a vocabulary of 50,000, every fifth a copy of an earlier one with two words replaced, ids
as long as those of FineWeb. Every size runs in a process of its own; its anonymous memory is
sampled a hundred times a second. (Mapped files are not counted: the system takes those pages back
at will.)
"""

import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from configs.build import DedupConfig
from pipeline.dedup import DedupInput, FindDuplicates
from pipeline.documents import DocumentFile, document
from pipeline.signatures import WriteSignatures, signature_file

WORDS, COPY_EVERY, FILE_DOCUMENTS = 60, 5, 100_000


def write(folder: Path, num_documents: int) -> list[Path]:
    """Documents files of 100,000 each."""
    paths = []
    for number, first in enumerate(range(0, num_documents, FILE_DOCUMENTS)):
        rng = np.random.default_rng(number)
        size = min(FILE_DOCUMENTS, num_documents - first)
        words = rng.integers(0, 50_000, (size, WORDS))
        words[COPY_EVERY::COPY_EVERY] = words[: len(words[COPY_EVERY::COPY_EVERY])]
        words[COPY_EVERY::COPY_EVERY, [20, 50]] = rng.integers(0, 50_000, 2)
        paths.append(folder / f"{number:05d}.parquet")
        with DocumentFile(paths[-1]) as file:
            for i, row in enumerate(words.tolist()):
                text = " ".join([f"w{word}" for word in row])
                file.add(document(f"<urn:uuid:{first + i:036d}>", text, "made", first + i))
    return paths


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


def measure(num_documents: int) -> None:
    """Run the stage on so many documents and print one line."""
    config = DedupConfig()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        paths = write(folder, num_documents)
        signed = WriteSignatures(paths, config, folder / "s")
        for rank in range(len(paths)):
            list(signed.run(rank=rank))
        inputs = [
            DedupInput("a", path, signature_file(folder / "s", i)) for i, path in enumerate(paths)
        ]
        before, peak, start = anonymous_mb(), Peak(), time.process_time()
        list(FindDuplicates(inputs, ["a"], config, folder).run(rank=0))
        seconds, most = time.process_time() - start, peak.stop()
    each = 1e6 * (most - before) / num_documents
    print(
        f"{num_documents:>10,} documents: {most:7.0f} MB at most, {before:.0f} before: "
        f"{each:5.0f} bytes a document; {seconds:.1f} s"
    )


def main() -> None:
    sizes = [int(size) for size in sys.argv[1:]] or [100_000, 300_000, 1_000_000]
    if len(sizes) == 1:
        return measure(sizes[0])
    for size in sizes:
        subprocess.run([sys.executable, __file__, str(size)], check=True)
    return None


if __name__ == "__main__":
    main()
