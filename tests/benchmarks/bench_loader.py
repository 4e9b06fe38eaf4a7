"""Loader speed: exact shuffled windows against nanoGPT's way and a sequential slab.

Same file, same run, one thread, warm page cache. Run: `python tests/benchmarks/bench_loader.py`.

Contestants, all giving 32 x 2048 inputs and targets:
- ours: `Plan.step` (keyed permutation) and `TokenStream.windows`, uint16 [32, 2049];
- ours + proof: the same and the two digests of the ledger;
- nanoGPT's get_batch, restated: memory map opened for every batch, random offsets with
  replacement, int64 tensors' worth of copying (numpy alone, so a little faster than the original);
- slab: the next 32 x 2048 tokens in stored order, copied: the limit.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from shards.ledger import digest_tokens, digest_windows
from shards.manifest import ShardFacts, SplitFacts
from shards.plan import Plan, PlanPhase, PlanSource
from shards.reader import TokenStream

TOKENS, SEQ_LEN, BATCH, STEPS, RUNS = 200_000_000, 2048, 32, 200, 5


def make_file(path: Path) -> None:
    rng = np.random.default_rng(0)
    rng.integers(0, 32_000, TOKENS, dtype=np.uint16).tofile(path)


def our_loader(directory: Path, proof: bool) -> Callable[[int], None]:
    shard = ShardFacts(
        path="tokens.bin", tokens=TOKENS, documents=0, bytes=2 * TOKENS, blake3="",
        index_path="none", index_bytes=0, index_blake3="", ids_path="none", ids_bytes=0, ids_blake3="",
    )  # fmt: skip
    facts = SplitFacts(tokens=TOKENS, documents=0, characters=0, bytes_utf8=0, shards=(shard,))
    stream = TokenStream(directory, "s", "train", facts, "uint16")
    source = PlanSource("s", "id", "s", "train", TOKENS)
    phase = PlanPhase("p", stream.num_windows(SEQ_LEN) // BATCH, BATCH, ("1",))
    plan = Plan(SEQ_LEN, 0, "shuffled", (source,), (phase,))

    def step(number: int) -> None:
        batch = plan.step(number)
        tokens = stream.windows(batch.window, SEQ_LEN)
        if proof:
            digest_windows(batch.source, batch.window)
            digest_tokens(batch.source, batch.window, tokens)

    return step


def nanogpt_loader(path: Path) -> Callable[[int], None]:
    rng = np.random.default_rng(1)

    def step(_: int) -> None:
        data = np.memmap(path, dtype=np.uint16, mode="r")
        starts = rng.integers(0, len(data) - SEQ_LEN, BATCH)
        np.stack([data[i : i + SEQ_LEN].astype(np.int64) for i in starts])
        np.stack([data[i + 1 : i + 1 + SEQ_LEN].astype(np.int64) for i in starts])

    return step


def slab_loader(path: Path) -> Callable[[int], None]:
    data = np.memmap(path, dtype=np.uint16, mode="r")
    size = BATCH * SEQ_LEN

    def step(number: int) -> None:
        np.array(data[number * size : number * size + size + 1])

    return step


def rate(step: Callable[[int], None]) -> float:
    """Million tokens per second over STEPS steps."""
    start = time.perf_counter()
    for number in range(STEPS):
        step(number)
    return STEPS * BATCH * SEQ_LEN / (time.perf_counter() - start) / 1e6


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.bin"
        make_file(path)
        loaders = {
            "sequential slab": slab_loader(path),
            "ours": our_loader(Path(folder), proof=False),
            "ours + proof": our_loader(Path(folder), proof=True),
            "nanoGPT get_batch": nanogpt_loader(path),
        }
        rates: dict[str, list[float]] = {name: [] for name in loaders}
        for _ in range(RUNS):
            for name, step in loaders.items():
                rates[name].append(rate(step))
    rival = statistics.median(rates["nanoGPT get_batch"])
    for name, values in rates.items():
        median = statistics.median(values)
        print(f"{name:20s} {median:8.0f} M tokens/s  {median / rival:6.2f} x nanoGPT")


if __name__ == "__main__":
    main()
