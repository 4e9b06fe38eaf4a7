"""datatrove's own blocks, run as the benchmarks' rival; imports nothing of ours.

`python rival_datatrove.py tokenize|dedup FOLDER ARGS` reads FOLDER/*.parquet (doc_id, text) and
prints one JSON line. It can run under another interpreter (`TALLY_RIVAL_PYTHON`), one that has
spaCy, which datatrove's word tokenizer asks for; without it, it gets a regular expression instead.
"""

import importlib.util
import json
import re
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.dedup import (
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
    MinhashDedupSignature,
)
from datatrove.pipeline.dedup.minhash import MinhashConfig
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.tokens import DocumentTokenizer
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import WordTokenizer


class RegexWords(WordTokenizer):  # type: ignore[misc]
    """Words by a regular expression, for machines without spaCy."""

    def word_tokenize(self, text: str) -> list[str]:
        return re.findall(r"\w+|[^\w\s]", text)

    def sent_tokenize(self, text: str) -> list[str]:
        return [text]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [(0, len(text))]


def reader(folder: Path) -> Any:
    return ParquetReader(str(folder), text_key="text", id_key="doc_id", glob_pattern="*.parquet")


def timed(work: Callable[[], Any]) -> tuple[float, float]:
    """Seconds on the wall and of processor time."""
    wall, cpu = time.perf_counter(), cpu_seconds()
    work()
    return time.perf_counter() - wall, cpu_seconds() - cpu


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def tokenize(folder: Path, tokenizer: str, eos_token: str) -> dict[str, Any]:
    """Documents to `.ds` and its index, in stored order, EOS after each."""

    def work(out: str) -> None:
        step = DocumentTokenizer(
            out, tokenizer_name_or_path=tokenizer, eos_token=eos_token, shuffle_documents=False
        )
        for _ in step.run(reader(folder)(None, 0, 1), 0, 1) or ():
            pass

    with tempfile.TemporaryDirectory() as out:
        wall, cpu = timed(lambda: work(out))
        tokens = sum(path.stat().st_size for path in Path(out).rglob("*.ds")) // 2
    return {"wall": wall, "cpu": cpu, "tokens": tokens}


def dedup(folder: Path) -> dict[str, Any]:
    """The four MinHash stages: seconds of each, and the ids it leaves."""
    words = Languages.english if importlib.util.find_spec("spacy") else RegexWords()
    with tempfile.TemporaryDirectory() as made:
        out, config, kept = Path(made), MinhashConfig(), list[str]()

        def signatures() -> None:
            step = MinhashDedupSignature(str(out / "s"), config=config, language=words)
            step.run(reader(folder)(None, 0, 1), 0, 1)

        def buckets() -> None:
            step = MinhashDedupBuckets(str(out / "s"), str(out / "b"), config=config)
            for rank in range(config.num_buckets):
                step.run(None, rank, config.num_buckets)

        def cluster() -> None:
            step = MinhashDedupCluster(str(out / "b"), str(out / "r"), config=config)
            step.run(None, 0, 1)

        def remove() -> None:
            step = MinhashDedupFilter(str(out / "r"))
            kept.extend(doc.id for doc in step.run(reader(folder)(None, 0, 1), 0, 1))

        times = [timed(stage) for stage in (signatures, buckets, cluster, remove)]
    return {
        "wall": sum(wall for wall, _ in times), "cpu": sum(cpu for _, cpu in times),
        "stages": [round(cpu, 2) for _, cpu in times], "kept": kept,
        "words": "spaCy" if words == Languages.english else "regular expression",
    }  # fmt: skip


def main() -> None:
    assert Document  # the import above also loads datatrove before any clock starts
    jobs: dict[str, Callable[..., dict[str, Any]]] = {"tokenize": tokenize, "dedup": dedup}
    result = jobs[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
