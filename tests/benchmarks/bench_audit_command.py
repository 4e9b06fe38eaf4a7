"""`tally audit` as a user types it, on a gigabyte of text and on the same text in shards.

python -m tests.benchmarks.bench_audit_command make FOLDER [MB]   text and dataset, made once
python -m tests.benchmarks.bench_audit_command run FOLDER [WORKERS...]

TALLY_TESTDATA names the folder with real text. 64 MB of it are repeated, each time from another
document on, so that no two files are alike. Sets are `olmo:all`; indexes and kernels are in the
cache (a first audit of another text puts them there), results of scans are not.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage

import numpy as np
from tokenizers import Tokenizer

from shards.hashing import blake3_file
from shards.index import index_frame
from shards.manifest import Manifest, SourceFacts, TokenizerFacts, seal
from shards.writer import SplitWriter
from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size
from tests.helpers import document

_TEXT_MB = 64
_EOS = 50256
_SHARD_TOKENS = 40_000_000


def make(folder: Path, megabytes: float) -> None:
    """Writes FOLDER/text/*.jsonl and FOLDER/dataset."""
    texts = texts_of_size(_TEXT_MB)
    copies = max(1, round(megabytes / _TEXT_MB))
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "text").mkdir(parents=True)
    for copy in range(copies):
        rows = (json.dumps({"text": text}) + "\n" for text in [*texts[copy:], *texts[:copy]])
        (folder / f"text/{copy:02d}.jsonl").write_text("".join(rows), encoding="utf-8")
    _make_dataset(folder / "dataset", texts, copies)


def _make_dataset(directory: Path, texts: list[str], copies: int) -> None:
    directory.mkdir()
    shutil.copy(data_folder() / TOKENIZER, directory / "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    encoded = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    ids = [np.array([*one.ids, _EOS], np.uint16) for one in encoded]
    writer = SplitWriter(directory, "text", "train", np.dtype("<u2"), _EOS, _SHARD_TOKENS)
    for copy in range(copies):
        turned = [*range(copy, len(texts)), *range(copy)]
        rows = [document(f"{copy}-{k}", texts[k]) for k in turned]
        frame = index_frame(rows, [len(ids[k]) for k in turned])
        writer.add_many(frame, np.concatenate([ids[k] for k in turned]))
    facts = TokenizerFacts(
        blake3=blake3_file(directory / "tokenizer.json"),
        vocab_size=tokenizer.get_vocab_size(),
        eos_id=_EOS,
        eos_token="<|endoftext|>",
        dtype="uint16",
        encoder="tokenizers",
        encoder_check={},
    )
    splits = {"train": writer.close()}
    source = SourceFacts(licence="mixed", pin={}, profile="none", funnel=(), splits=splits)
    manifest = Manifest(
        name="audited", config={}, tokenizer=facts, sources={"text": source}, dedup={}, versions={}
    )
    seal(directory, manifest)


def run(folder: Path, workers: list[int]) -> None:
    """Audits both, with each number of workers; seconds on the wall and of the processor."""
    (folder / "small.jsonl").write_text(json.dumps({"text": "a text"}) + "\n", encoding="utf-8")
    _audit(folder, "small.jsonl", 1)
    for name in ("text", "dataset"):
        for number in workers:
            shutil.rmtree(folder / "cache/audit/scans", ignore_errors=True)
            wall, cpu = _audit(folder, name, number)
            log = json.loads((folder / f"{name}.audit/audit_log.json").read_text())
            size, scan_s = log["scanned_text_bytes"] / 1e6, log["scan_s"]
            print(
                f"{name}, {number} workers: {size:,.0f} MB in {wall:.1f} s ({size / wall:.0f} MB/s,"
                f" {cpu:.1f} s of the processor); scan {scan_s:.1f} s, {size / scan_s:.0f} MB/s"
            )


def _audit(folder: Path, name: str, workers: int) -> tuple[float, float]:
    command = [sys.executable, "-m", "contamination", "audit", str(folder / name), "-b", "olmo:all"]
    command += ["--workers", str(workers), "-o", str(folder / f"{name}.audit")]
    environment = os.environ | {"TALLY_CACHE": str(folder / "cache")}
    start, before = time.perf_counter(), getrusage(RUSAGE_CHILDREN)
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
    after = getrusage(RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, cpu


def main() -> None:
    what, folder = sys.argv[1], Path(sys.argv[2])
    if what == "make":
        make(folder, float(sys.argv[3]) if len(sys.argv) > 3 else 1024.0)
    else:
        run(folder, [int(number) for number in sys.argv[3:]] or [1, 2])


if __name__ == "__main__":
    main()
