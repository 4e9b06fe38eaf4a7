"""Speed of the plan at 10^9 windows: forward, inverse, accounts, copies. No rival has one to ask.

    python -m tests.benchmarks.bench_plan

Processor time, medians; memory is what Python and numpy allocate (tracemalloc). Copies are looked
for in two document indexes of made-up hashes, five million documents each, every 100th in both.
"""

import statistics
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import polars as pl

from shards.duplicates import find_duplicates
from shards.ledger import planned_entry
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import TokenStream

SEQ_LEN, BATCH, STEPS = 2048, 256, 3_000_000
WINDOWS = (10**9, 10**8, 10**7)
DOCUMENTS = 5_000_000


def big_plan() -> Plan:
    """Three sources; the small ones are read several times."""
    sources = tuple(
        PlanSource(f"s{n}", "id", f"s{n}", "train", windows * SEQ_LEN + 1)
        for n, windows in enumerate(WINDOWS)
    )
    return Plan(SEQ_LEN, 1, "shuffled", sources, (PlanPhase("p", STEPS, BATCH, ("6", "3", "1")),))


def mixed(plan: Plan) -> Plan:
    """The same with a second phase of windows four times as long."""
    longer = PlanPhase("long", 100_000, BATCH // 4, ("6", "3", "1"), 4 * SEQ_LEN)
    return replace(plan, phases=(replace(plan.phases[0], num_steps=300_000), longer))


def milliseconds(work: Callable[[int], Any], count: int) -> float:
    """Median processor time of one call; the first two are not counted."""
    spent = []
    for number in range(count + 2):
        began = time.process_time_ns()
        work(number)
        spent.append((time.process_time_ns() - began) / 1e6)
    return statistics.median(spent[2:])


def show(name: str, value: float, unit: str) -> None:
    print(f"{name:60} {value:10.3f} {unit}")


def measure_plan() -> None:
    began = time.process_time_ns()
    plan = big_plan()
    plan.step(0)
    show(
        "first step of a new plan, start-up included", (time.process_time_ns() - began) / 1e6, "ms"
    )
    rng = np.random.default_rng(0)
    steps = rng.integers(0, STEPS, 3000).tolist()
    show("forward: a step of 256 windows", milliseconds(lambda k: plan.step(steps[k]), 2000), "ms")
    for source, size in enumerate(WINDOWS):
        chosen = rng.integers(0, size, 1000).tolist()
        times = len(plan.steps_reading(source, chosen[0], SEQ_LEN))
        cost = milliseconds(inverse(plan, source, chosen), 900)
        show(f"inverse: the {times} steps reading a window of {size:.0e}", cost, "ms")
    show("accounts after a step", milliseconds(lambda k: plan.account(steps[k]), 2000), "ms")
    cost = milliseconds(lambda k: planned_entry(plan, k), 500)
    show("what the ledger must say of a step", cost, "ms")


def inverse(plan: Plan, source: int, windows: list[int]) -> Callable[[int], Any]:
    """Looks up the k-th of some windows."""
    return lambda k: plan.steps_reading(source, windows[k], SEQ_LEN)


def measure_memory() -> None:
    tracemalloc.start()
    plan = big_plan()
    for step in range(0, STEPS, STEPS // 20):
        plan.step(step)
        plan.account(step)
        plan.steps_reading(2, step, SEQ_LEN)
    show("memory of all of it, peak", tracemalloc.get_traced_memory()[1] / 1e6, "MB")
    tracemalloc.stop()


def measure_mixed() -> None:
    plan = mixed(big_plan())
    began = time.process_time_ns()
    plan.account(350_000)
    spent = (time.process_time_ns() - began) / 1e9
    show("two lengths: accounts of step 350,000, asked first", spent, "s")
    cost = milliseconds(lambda k: plan.account(350_001 + k), 500)
    show("two lengths: accounts of each following step", cost, "ms")


def index(path: Path, seed: int) -> TokenStream:
    """A stream whose document index is one Parquet file of made-up hashes."""
    rng = np.random.default_rng(seed)
    hashes = rng.bytes(16 * DOCUMENTS)
    shared = np.random.default_rng(99).bytes(16 * (DOCUMENTS // 100))
    rows = [hashes[16 * n : 16 * n + 16] for n in range(DOCUMENTS)]
    rows[: DOCUMENTS // 100] = [shared[16 * n : 16 * n + 16] for n in range(DOCUMENTS // 100)]
    starts = np.arange(DOCUMENTS, dtype=np.int64) * 1000
    columns = {"content_hash": pl.Series(rows, dtype=pl.Binary), "token_start": starts}
    pl.DataFrame(columns).with_columns(token_count=1000).write_parquet(path)
    facts = SimpleNamespace(shards=[SimpleNamespace(index_path=path)])
    files = SimpleNamespace(path=lambda found: found)
    return cast(TokenStream, SimpleNamespace(facts=facts, starts=[0], files=files))


def measure_copies(directory: Path) -> None:
    streams = {number: index(directory / f"{number}.parquet", number) for number in (0, 1)}
    began = time.perf_counter()
    found = find_duplicates(streams)
    show("copies among 10 M documents, on the wall", time.perf_counter() - began, "s")
    assert found is not None
    plan = big_plan()
    sources = tuple(replace(s, tokens=DOCUMENTS * 1000) for s in plan.sources[:2])
    phase = PlanPhase("p", 9_000, 512, ("1", "1"))
    plan = replace(plan, sources=sources, phases=(phase,), duplicates=found)
    began = time.perf_counter()
    plan.account(5000)
    spent = time.perf_counter() - began
    show(f"accounts with {len(found.frame):,} copies, asked first", spent, "s")
    show("accounts with copies, each step", milliseconds(lambda k: plan.account(k), 1000), "ms")


if __name__ == "__main__":
    measure_plan()
    measure_memory()
    measure_mixed()
    with tempfile.TemporaryDirectory() as folder:
        measure_copies(Path(folder))
