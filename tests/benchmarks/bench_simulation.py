"""The plan and the loader at 10^13 tokens and 4,096 ranks: start-up, memory, speed, exactness.

    python -m tests.benchmarks.bench_simulation [start|speed|ranks|epochs|accounts]...

No tokens are written: six sources of declared size, three phases, a second window length. Exactness
is checked against ways of counting that share nothing with the plan's own but the permutation:
windows ticked off one by one, targets marked in a table of cells, random cells looked up.
Processor time of one core; memory is what the process holds more than before.
"""

import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from blake3 import blake3

from shards.manifest import Manifest, ShardFacts, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.plan import Plan
from shards.plan_file import load_plan, save_plan
from shards.plan_spec import PlanPhase, PlanSource
from train.data import rank_slots

RANKS, SEQ_LEN, LONG = 4096, 4096, 32_768
TOKENS = {"web": 8e12, "code": 1.2e12, "papers": 5e11, "books": 2e11, "math": 1e11, "wiki": 6e9}
PRETRAIN, ANNEAL, LONG_STEPS = 500_000, 60_000, 18_000
RESUMED = 431_007
_BEYOND = 2_000
"""Steps into the second epoch."""
OTHER_RANKS = (1, 8, 512, 1024, 2048)
SAMPLED = (0, 1, 137_511, 499_999, 500_000, 559_999, 560_000, 577_999)


def big_plan(long_first: bool = False) -> Plan:
    """10^13 targets: 560,000 steps of 16.8 M tokens, 18,000 of 33.6 M in longer windows."""
    sources = tuple(
        PlanSource(name, "0" * 32, name, "train", int(size) + 7) for name, size in TOKENS.items()
    )
    pretrain = PlanPhase("pretrain", PRETRAIN, RANKS, ("70", "15", "6", "4", "4", "1"))
    anneal = PlanPhase("anneal", ANNEAL, RANKS, ("40", "20", "15", "10", "12", "3"))
    longer = PlanPhase("long", LONG_STEPS, RANKS // 4, ("30", "20", "20", "20", "5", "5"), LONG)
    phases = (longer, pretrain, anneal) if long_first else (pretrain, anneal, longer)
    return Plan(SEQ_LEN, 11, "shuffled", sources, phases)


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:72} {value:12,.3f} {unit}")


def memory_mb(what: str) -> float:
    """VmRSS or VmHWM of this process."""
    found = re.search(rf"{what}:\s+(\d+)", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1024


def measure_start() -> None:
    """What one rank does before its first step, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        plan = big_plan()
        save_plan(plan, dict.fromkeys(TOKENS, "data"), Path(name) / "plan.json")
        show("plan.json", (Path(name) / "plan.json").stat().st_size / 1e3, "kB")
        in_process(f"start_plan({str(name)!r}, {digest(plan)!r})")
        for shards in (10_000, 100_000):
            folder = Path(name) / str(shards)
            folder.mkdir()
            write_manifest(folder, shards)
            show(
                f"manifest of {shards:,} shards",
                (folder / "manifest.json").stat().st_size / 1e6,
                "MB",
            )
            in_process(f"start_dataset({str(folder)!r}, {shards})")


def in_process(call: str) -> None:
    code = f"from tests.benchmarks.bench_simulation import *; {call}"
    subprocess.run([sys.executable, "-c", code], check=True)


def digest(plan: Plan) -> str:
    """Of the windows of one step in the middle."""
    batch = plan.step(RESUMED)
    return blake3(batch.source.tobytes() + batch.window.tobytes()).hexdigest()


def start_plan(folder: str, wanted: str) -> None:
    before, began = memory_mb("VmRSS"), time.process_time()
    plan, _ = load_plan(Path(folder) / "plan.json")
    plan.step(RESUMED)
    show(
        "a rank loads the plan and resumes in the middle",
        1e3 * (time.process_time() - began),
        "ms",
    )
    assert digest(plan) == wanted
    for step in range(RESUMED + 1, RESUMED + 201):
        plan.step(step)
    show("memory after 200 more steps", memory_mb("VmRSS") - before, "MB")


def start_dataset(folder: str, shards: int) -> None:
    from shards.reader import Dataset

    before, began = memory_mb("VmRSS"), time.process_time()
    stream = Dataset.open(folder).stream("web")
    assert len(stream.facts.shards) == shards
    show(f"a rank opens a dataset of {shards:,} shards", time.process_time() - began, "s")
    show("memory of it", memory_mb("VmRSS") - before, "MB")


def write_manifest(folder: Path, shards: int) -> None:
    """A dataset of 10^13 tokens by its manifest alone."""
    tokens = 10**13 // shards
    files = tuple(
        ShardFacts(
            path=f"web/{k:05d}.bin", tokens=tokens, documents=tokens // 1000, bytes=2 * tokens,
            blake3=f"{k:064x}", index_path=f"web/{k:05d}.docs.parquet", index_bytes=tokens // 20,
            index_blake3=f"{k:064x}", ids_path=f"web/{k:05d}.docs.ids", ids_bytes=tokens // 60,
            ids_blake3=f"{k:064x}",
        )
        for k in range(shards)
    )  # fmt: skip
    split = SplitFacts(
        tokens=tokens * shards, documents=0, characters=0, bytes_utf8=0, shards=files
    )
    tokenizer = TokenizerFacts(
        blake3="", vocab_size=50_000, eos_id=0, eos_token="", dtype="uint16", encoder="",
        encoder_check={},
    )  # fmt: skip
    source = SourceFacts(licence="", pin={}, profile="", funnel=(), splits={"train": split})
    made = Manifest(
        name="big", config={}, tokenizer=tokenizer, sources={"web": source}, dedup={}, versions={}
    )
    seal(folder, made)


def measure_speed() -> None:
    plan, rng = big_plan(), np.random.default_rng(0)
    plan.step(0)
    for what, low, high in (
        ("4,096 windows", 0, 560_000),
        ("1,024 long windows", 560_000, 578_000),
    ):
        costs = []
        for step in rng.integers(low, high, 500).tolist():
            began = time.process_time()
            plan.step(step)
            costs.append(1e3 * (time.process_time() - began))
        show(f"any step of {what}: median", statistics.median(costs), "ms")
        show("  99th percentile", float(np.percentile(costs, 99)), "ms")
    began = time.process_time()
    for step in range(200_000, 200_300):
        plan.step(step)
    show("steps one after the other", 1e3 * (time.process_time() - began) / 300, "ms")
    began = time.process_time()
    plan.account(500_000)
    show("accounts before the second window length", 1e3 * (time.process_time() - began), "ms")
    began = time.process_time()
    plan.account(577_000)
    show("accounts with two window lengths, asked first", time.process_time() - began, "s")


def check_ranks() -> None:
    """The windows of all ranks together are those of the step, each once, however many ranks."""
    plan, checked = big_plan(), 0
    for step in SAMPLED:
        batch = plan.step(step)
        size = len(batch.window)
        keys = batch.source.astype(np.int64) << 48 | batch.window
        assert len(np.unique(keys)) == size, f"step {step}: a window twice"
        for ranks in (min(RANKS, size), *OTHER_RANKS):
            if ranks <= size:
                mine = [keys[rank_slots(size, rank, ranks, 1)] for rank in range(ranks)]
                together = np.concatenate([part.ravel() for part in mine])
                assert len(together) == size
                assert np.array_equal(np.sort(together), np.sort(keys))
                checked += ranks
    show(f"disjoint and complete in {len(SAMPLED)} steps: ranks looked at", checked, "")


def check_epochs() -> None:
    """Every window of `wiki` once an epoch, ticked off through one and over its border."""
    plan, number = big_plan(), list(TOKENS).index("wiki")
    windows = plan.layout(number, SEQ_LEN).windows
    ticks = np.zeros(windows, dtype=np.int8)
    seen = 0
    began = time.process_time()
    for step in range(steps_of_epochs(plan, number, 1) + _BEYOND):
        batch = plan.step(step)
        mine = batch.window[batch.source == number]
        seen += len(mine)
        np.add.at(ticks, mine, 1)
        account = plan.account(step + 1)[number]
        assert account.windows == seen
        assert account.unique_tokens == min(seen, windows) * SEQ_LEN
        if seen <= windows:
            assert ticks[mine].max() == 1
    assert np.bincount(ticks).tolist() == [0, 2 * windows - seen, seen - windows]
    show(f"{seen:,} windows ticked off: steps", step + 1, "")
    show("  took", time.process_time() - began, "s")


def steps_of_epochs(plan: Plan, source: int, epochs: int) -> int:
    """Steps after which a source was read so often, found by halving."""
    low, high = 0, plan.num_steps
    while low < high:
        middle = (low + high) // 2
        low, high = (
            (middle + 1, high) if plan.account(middle)[source].epochs < epochs else (low, middle)
        )
    return low


def check_accounts() -> None:
    """Unique tokens with two window lengths, against marked cells and against random ones."""
    plan = big_plan(long_first=True)
    for step in (LONG_STEPS + 9_000, LONG_STEPS + 100_000):
        counts = {n: dict(read_windows(plan, n, step)) for n in range(len(TOKENS))}
        for number, account in enumerate(plan.account(step)):
            assert account.windows == sum(counts[number].values())
            cells = plan.layout(number, SEQ_LEN).windows
            if cells < 50_000_000:
                marked = marked_cells(plan, number, counts[number], cells)
                assert account.unique_tokens == marked * SEQ_LEN, account.name
                show(
                    f"step {step:,}: {account.name}, cell by cell",
                    account.unique_tokens / 1e9,
                    "B unique",
                )
                continue
            share, error = sampled_share(plan, number, counts[number], cells)
            stated = account.unique_tokens / (cells * SEQ_LEN)
            assert abs(stated - share) < 5 * error, (account.name, stated, share, error)
            show(
                f"step {step:,}: {account.name}, in a sample {share:.5f} of it",
                stated,
                "of it unique",
            )
        total = sum(account.tokens for account in plan.account(step))
        assert total == plan.tokens_before(step)


def read_windows(plan: Plan, source: int, step: int) -> Iterator[tuple[int, int]]:
    """Windows of each length that the steps before one read of a source."""
    read: dict[int, int] = {}
    for span in plan.counters.spans(source, step):
        read[span.seq_len] = read.get(span.seq_len, 0) + span.windows
    yield from read.items()


def marked_cells(plan: Plan, source: int, read: dict[int, int], cells: int) -> int:
    """Cells of SEQ_LEN targets that lie in windows read; a long window holds eight."""
    marks = np.zeros(cells, dtype=bool)
    for length, count in read.items():
        order, per = plan.epoch_order(source, length, 0), length // SEQ_LEN
        for first in range(0, min(count, order.n), 1 << 20):
            places = np.arange(first, min(first + (1 << 20), count, order.n), dtype=np.int64)
            found = order.forward(places)
            for part in range(per):
                marks[found * per + part] = True
    return int(marks.sum())


def sampled_share(plan: Plan, source: int, read: dict[int, int], cells: int) -> tuple[float, float]:
    """Share of random cells that were read, and its standard error."""
    chosen: npt.NDArray[np.int64] = np.random.default_rng(source).integers(0, cells, 2_000_000)
    hit = np.zeros(len(chosen), dtype=bool)
    for length, count in read.items():
        window = chosen // (length // SEQ_LEN)
        order = plan.epoch_order(source, length, 0)
        inside = window < order.n
        hit[inside] |= order.backward(window[inside]) < count
    share = float(hit.mean())
    return share, max((share * (1 - share) / len(chosen)) ** 0.5, 1e-6)


PARTS = {
    "start": measure_start,
    "speed": measure_speed,
    "ranks": check_ranks,
    "epochs": check_epochs,
    "accounts": check_accounts,
}

if __name__ == "__main__":
    for part in sys.argv[1:] or PARTS:
        PARTS[part]()
