"""Speed from zstd Parquet to verified uint16 shards, one core: ours against datatrove.

Run: `TALLY_TESTDATA=... taskset -c 0 python tests/benchmarks/bench_tokenize.py [MEGABYTES] [RUNS]`.

Same documents, same tokenizer, same run. Ours is the `encode` and `pack` stages as a build runs
them: ids, every document decoded again and compared, EOS, uint16, range and EOS checks, shards,
document index, BLAKE3 of both, fsync. The rival is datatrove's `DocumentTokenizer` unshuffled:
ids and document ends, neither hash nor fsync.
Loading the tokenizer is inside both clocks, but for `ours, loaded`. Seconds are of processor time
and of the wall.
"""

import gc
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow.parquet as pq

from configs.build import ShardsConfig, SplitConfig, TokenizerConfig
from pipeline import tokenizer_file
from pipeline.bpe import document_ends
from pipeline.dedup import DUPLICATES, SCHEMA
from pipeline.encoder_check import ENCODER
from pipeline.encoders import encoder_of
from pipeline.layout import LayOutSources
from pipeline.packing import PARTS, PackShards, PackTask, read_packed
from pipeline.roundtrip import round_trip_of
from pipeline.tokenizing import EncodeDocuments, EncodeInput
from shards.atomic import write_json_atomic
from tests.benchmarks.corpus import TOKENIZER, data_folder, texts_of_size, write_documents
from tests.benchmarks.rival_datatrove import timed

CONFIG = TokenizerConfig()
RIVAL = Path(__file__).with_name("rival_datatrove.py")


def ours(folder: Path, tokenizer: Path, fresh: bool) -> dict[str, Any]:
    """Encode and pack the documents file; seconds and tokens.

    Args:
        folder: what `prepare` filled.
        tokenizer: the tokenizer.json.
        fresh: load the tokenizer within the clock; otherwise before, as for all tasks but a
            worker's first.
    """
    documents, empty = folder / "in/00000.parquet", folder / "none.parquet"
    with tempfile.TemporaryDirectory(dir=folder) as made:
        out = Path(made)
        item = EncodeInput("text", documents, empty, empty)
        split, ends = SplitConfig(val_fraction=0.01), {"text": range(1)}
        encode = EncodeDocuments(
            [item], folder / DUPLICATES, tokenizer, folder / ENCODER, split, CONFIG, out
        )
        shards, duplicates = ShardsConfig(), folder / DUPLICATES
        layout = LayOutSources(ends, out, tokenizer, CONFIG, shards, out)
        pack = PackShards(
            [PackTask("text", 0, 1, part) for part in PARTS], ends, out, out, duplicates, None,
            tokenizer, CONFIG, shards, out / "d", out,
        )  # fmt: skip
        for cached in (encoder_of, document_ends, round_trip_of, tokenizer_file._contents):
            cached.cache_clear()
        if not fresh:
            round_trip_of(tokenizer)
            document_ends(tokenizer, CONFIG)
            encoder_of("fastokens", tokenizer)
        gc.collect()
        wall, cpu = timed(
            lambda: [*encode.run(rank=0), *layout.run(rank=0), *pack.run(rank=0), *pack.run(rank=1)]
        )
        tokens = sum(facts.tokens for facts in read_packed(out, out, "text").splits.values())
    return {"wall": wall, "cpu": cpu, "tokens": tokens}


def rival(job: str, folder: Path, *args: str) -> dict[str, Any]:
    """Run a job of rival_datatrove.py under the rival's interpreter."""
    python = os.environ.get("TALLY_RIVAL_PYTHON", sys.executable)
    command = [python, str(RIVAL), job, str(folder), *args]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def prepare(folder: Path, megabytes: float) -> float:
    """Write the documents and what the stages read beside them; returns megabytes of text."""
    (folder / "in").mkdir()
    texts = texts_of_size(megabytes)
    size = write_documents(folder / "in/00000.parquet", texts)
    write_documents(folder / "none.parquet", [])
    (folder / DUPLICATES).mkdir()
    pq.write_table(SCHEMA.empty_table(), folder / DUPLICATES / "00000.parquet")
    write_json_atomic(folder / ENCODER, {"name": "fastokens"})
    print(f"{size:.1f} MB, {len(texts):,} documents, {1000 * size / len(texts):.1f} kB each")
    return size


def main() -> None:
    megabytes = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    runs = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    tokenizer = data_folder() / TOKENIZER
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        size = prepare(folder, megabytes)
        names = ("ours", "ours, loaded", "datatrove")
        results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(runs):
            for _ in range(3):
                results["ours"].append(ours(folder, tokenizer, fresh=True))
                results["ours, loaded"].append(ours(folder, tokenizer, fresh=False))
            results["datatrove"].append(
                rival("tokenize", folder / "in", str(tokenizer), CONFIG.eos_token)
            )
    report(size, results)


def report(size: float, results: dict[str, list[dict[str, Any]]]) -> None:
    """Print medians as a table."""
    base = size / median(row["cpu"] for row in results["datatrove"])
    for name, rows in results.items():
        cpu, wall = (size / median(row[key] for row in rows) for key in ("cpu", "wall"))
        tokens = f"{rows[0].get('tokens', 0):>12,} tokens" if "tokens" in rows[0] else ""
        print(f"{name:12s} {cpu:7.2f} MB/s ({wall:.2f} on the wall) {cpu / base:6.1f} x {tokens}")


if __name__ == "__main__":
    main()
