"""The loader: speed, start-up, checksums, and what the proof costs.

Same file, same run, one thread, warm page cache. Run: `python tests/benchmarks/bench_loader.py`.

Contestants, all giving B x 2048 inputs and targets, B = 32 and 256 (half a million tokens a step):
- slab: the next B x 2048 tokens in stored order, copied: the limit;
- ours: `RankReader.read`, the batch of a step by the plan (keyed permutation), uint16 [B, 2049];
- ours + documents: the same with `cu_seqlens` and the loss mask;
- ours + documents + proof: the same and the two digests of the ledger;
- nanoGPT's get_batch, restated: memory map opened for every batch, random offsets with
  replacement, rows widened to int64 and stacked, inputs and targets apart;
- datatrove's DatatroveFileDataset, its items taken in random order and stacked; with positions from
  EOS, as its documentation shows.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datatrove.utils.dataset import DatatroveFileDataset

from configs.model import ModelConfig
from shards.hashing import blake3_file
from shards.ledger import Ledger, LedgerEntry, digest_tokens, digest_windows
from shards.manifest import Manifest, ShardFacts, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from train.data import RankReader
from train.model import Decoder

TOKENS, SEQ_LEN, RUNS = 200_000_000, 2048, 5
BATCHES, WINDOWS = (32, 256), 6400  # a step, a measurement
EOS, DOCUMENT_TOKENS = 0, 950
SHARDS_OF_10B, SHARD_TOKENS = 100, 100_000_000


def write_tokens(path: Path) -> None:
    """Random tokens in documents of random length."""
    rng = np.random.default_rng(0)
    tokens = rng.integers(1, 32_000, TOKENS, dtype=np.uint16)
    tokens[rng.integers(0, TOKENS, TOKENS // DOCUMENT_TOKENS)] = EOS
    tokens.tofile(path)


def dataset_of(directory: Path, files: list[str], tokens: int, digest: str) -> Dataset:
    """A dataset of token files that are there; nothing else of it is read."""
    nothing = {"documents": 0, "index_path": "none.parquet", "ids_path": "none.ids"}
    nothing |= {"index_bytes": 0, "index_blake3": "", "ids_bytes": 0, "ids_blake3": ""}
    facts_of = {"tokens": tokens, "bytes": 2 * tokens, "blake3": digest} | nothing
    shards = tuple(ShardFacts.model_validate(facts_of | {"path": name}) for name in files)
    split = SplitFacts(
        tokens=tokens * len(files), documents=0, characters=0, bytes_utf8=0, shards=shards
    )
    facts = TokenizerFacts(
        blake3="", vocab_size=32_000, eos_id=EOS, eos_token="", dtype="uint16", encoder="",
        encoder_check={},
    )  # fmt: skip
    source = SourceFacts(licence="", pin={}, profile="", funnel=(), splits={"train": split})
    sources = {"s": source}
    seal(
        directory,
        Manifest(name="bench", config={}, tokenizer=facts, sources=sources, dedup={}, versions={}),
    )
    return Dataset.open(directory)


def reader_of(dataset: Dataset, batch: int, documents: bool) -> RankReader:
    stream = dataset.stream("s")
    source = PlanSource("s", dataset.manifest.dataset_id, "s", "train", stream.num_tokens)
    phase = PlanPhase("p", stream.num_windows(SEQ_LEN) // batch, batch, ("1",))
    plan = Plan(SEQ_LEN, 0, "shuffled", (source,), (phase,), document_mask=documents)
    return RankReader(plan, [stream], rank=0, world_size=1, micro_batch=batch)


def our_loader(dataset: Dataset, batch: int, documents: bool, proof: bool) -> Callable[[int], None]:
    reader = reader_of(dataset, batch, documents)

    def step(number: int) -> None:
        for rows in reader.read(number):
            if proof:
                digest_windows(rows.source, rows.window)
                digest_tokens(rows.source, rows.window, rows.tokens)

    return step


def nanogpt_loader(path: Path, batch: int) -> Callable[[int], None]:
    rng = np.random.default_rng(1)

    def step(_: int) -> None:
        data = np.memmap(path, dtype=np.uint16, mode="r")
        starts = rng.integers(0, len(data) - SEQ_LEN, batch)
        for shift in (0, 1):
            rows = (data[i + shift : i + shift + SEQ_LEN].astype(np.int64) for i in starts)
            torch.stack([torch.from_numpy(row) for row in rows])

    return step


def datatrove_loader(path: Path, batch: int, positions: bool) -> Callable[[int], None]:
    rng = np.random.default_rng(2)
    items = DatatroveFileDataset(
        str(path),
        SEQ_LEN,
        token_size=2,
        return_positions=positions,
        positions_from_eos_token_id=EOS if positions else None,
    )

    def step(_: int) -> None:
        chosen = [items[int(i)] for i in rng.integers(0, len(items), batch)]
        for name in chosen[0]:
            torch.stack([item[name] for item in chosen])

    return step


def slab_loader(path: Path, batch: int) -> Callable[[int], None]:
    data = np.memmap(path, dtype=np.uint16, mode="r")
    size = batch * SEQ_LEN

    def step(number: int) -> None:
        np.array(data[number * size : number * size + size + 1])

    return step


def rate(step: Callable[[int], None], batch: int, steps: int) -> float:
    """Million tokens per second of processor time."""
    start = time.process_time()
    for number in range(steps):
        step(number)
    return steps * batch * SEQ_LEN / (time.process_time() - start) / 1e6


def measure_speed(dataset: Dataset, path: Path, batch: int) -> None:
    loaders = {
        "sequential slab": slab_loader(path, batch),
        "ours": our_loader(dataset, batch, documents=False, proof=False),
        "ours + documents": our_loader(dataset, batch, documents=True, proof=False),
        "ours + documents + proof": our_loader(dataset, batch, documents=True, proof=True),
        "nanoGPT get_batch": nanogpt_loader(path, batch),
        "datatrove": datatrove_loader(path, batch, positions=False),
        "datatrove + positions": datatrove_loader(path, batch, positions=True),
    }
    rates: dict[str, list[float]] = {name: [] for name in loaders}
    for step in loaders.values():
        step(0)
    for _ in range(RUNS):
        for name, step in loaders.items():
            steps = WINDOWS // batch // (5 if "datatrove" in name else 1)
            rates[name].append(rate(step, batch, steps))
    print(f"{batch} windows a step")
    rivals = [statistics.median(rates[n]) for n in ("nanoGPT get_batch", "datatrove + positions")]
    for name, values in rates.items():
        median = statistics.median(values)
        times = "  ".join(f"{median / rival:8.2f}" for rival in rivals)
        print(f"{name:26s} {median:8.0f} M tokens/s  x nanoGPT, x datatrove + positions: {times}")


def measure_start(folder: Path) -> None:
    """A dataset of 10 billion tokens in sparse files: opened, planned, first batch read."""
    names = [f"{number:05d}.bin" for number in range(SHARDS_OF_10B)]
    for name in names:
        with (folder / name).open("wb") as file:
            file.truncate(2 * SHARD_TOKENS)
    dataset_of(folder, names, SHARD_TOKENS, digest="")
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        reader_of(Dataset.open(folder), BATCHES[0], documents=True).read(0)
        times.append(time.process_time() - start)
    print(f"start-up at 10 B tokens: {statistics.median(times) * 1e3:.1f} ms of processor time")


def measure_checksums(path: Path) -> None:
    start = time.process_time()
    blake3_file(path)
    seconds = time.process_time() - start
    print(f"checksums: {path.stat().st_size / seconds / 1e9:.2f} GB/s of one core")


def measure_proof(folder: Path, dataset: Dataset) -> None:
    """Digests and ledger line of a step, beside a training step of a small model."""
    batch, steps = BATCHES[0], 200
    reader, ledger = reader_of(dataset, batch, documents=False), Ledger(folder)
    (rows,) = reader.read(0)
    start = time.process_time()
    for number in range(steps):
        windows = digest_windows(rows.source, rows.window)
        tokens = digest_tokens(rows.source, rows.window, rows.tokens)
        ledger.append(LedgerEntry(number, {"s": batch}, 0, f"{windows:032x}", f"{tokens:032x}"))
    proof = (time.process_time() - start) / steps
    print(f"proof: {proof * 1e3:.3f} ms a step of {batch * SEQ_LEN:,} tokens")
    training = training_step(rows.tokens[:1, :513].astype(np.int64)) / 512
    share = proof / batch / SEQ_LEN / training
    print(f"  beside a training step of a model of 3 M parameters on one core: {share:.4%}")


def training_step(tokens: "np.ndarray[tuple[int, int], np.dtype[np.int64]]") -> float:
    """Seconds of processor time for forward and backward."""
    shape = {"num_layers": 4, "d_model": 128, "num_heads": 4, "num_kv_heads": 4, "head_dim": 32}
    shape |= {"vocab_size": 16_000, "ffn_dim": 352, "max_seq_len": 512}
    model = Decoder(ModelConfig.model_validate(shape))
    model.initialise(0)
    rows = torch.from_numpy(tokens % 16_000)
    times = []
    for _ in range(RUNS):
        start = time.process_time()
        logits = model(rows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        times.append(time.process_time() - start)
    return statistics.median(times)


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "large").mkdir()
        path = folder / "tokens.bin"
        write_tokens(path)
        dataset = dataset_of(folder, [path.name], TOKENS, blake3_file(path))
        measures: dict[str, Callable[[], None]] = {
            "start": lambda: measure_start(folder / "large"),
            "checksums": lambda: measure_checksums(path),
            "proof": lambda: measure_proof(folder, dataset),
            **{f"speed{b}": partial(measure_speed, dataset, path, b) for b in BATCHES},
        }
        for part in wanted or measures:
            measures[part]()


if __name__ == "__main__":
    main(sys.argv[1:])
