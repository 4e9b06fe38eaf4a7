"""Plans with phases of several window lengths and restarts, against a recount token by token."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Literal

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shards.apportion import Apportionment
from shards.counters import Span
from shards.duplicates import Duplicates
from shards.errors import DatasetError
from shards.layout import Layout
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource

ORDERS = ("shuffled", "sequential", "rows")
LENGTHS = (2, 3, 4, 8)
Order = Literal["shuffled", "sequential", "rows"]
Key = tuple[int, int, int]  # source, window, length


def plan_of(tokens: list[int], phases: list[PlanPhase], order: Order, seed: int = 0) -> Plan:
    sources = tuple(PlanSource(f"s{n}", "id", f"s{n}", "train", t) for n, t in enumerate(tokens))
    return Plan(LENGTHS[0], seed, order, sources, tuple(phases))


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    number = draw(st.integers(1, 3))
    tokens = draw(st.lists(st.integers(10, 60), min_size=number, max_size=number))
    weights = st.lists(st.integers(0, 5), min_size=number, max_size=number).filter(any)
    phases = [
        PlanPhase(
            f"p{n}",
            draw(st.integers(1, 9)),
            draw(st.integers(1, 7)),
            tuple(map(str, draw(weights))),
            draw(st.sampled_from((None, *LENGTHS))),
            n > 0 and draw(st.booleans()),
        )
        for n in range(draw(st.integers(1, 4)))
    ]
    return plan_of(tokens, phases, draw(st.sampled_from(ORDERS)), draw(st.integers(0, 99)))


def targets_of(plan: Plan, source: int, window: int, seq_len: int) -> list[int]:
    """Stream positions that a window predicts, written down from the format's definition."""
    stride = seq_len + (plan.order == "rows")
    return [(window * stride + k) % plan.sources[source].tokens for k in range(1, seq_len + 1)]


@dataclass
class Recount:
    """All that a plan's steps read, position by position."""

    plan: Plan
    read: dict[int, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """Times every position was predicted, by source."""
    windows: dict[tuple[int, int, int], list[int]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """Steps that read a (source, window, length)."""

    def add(self, step: int) -> None:
        seq_len = self.plan.seq_len_at(step)
        for source, window in zip(*(part.tolist() for part in self.plan.step(step)), strict=True):
            self.read[source].update(targets_of(self.plan, source, window, seq_len))
            self.windows[source, window, seq_len].append(step)


@settings(max_examples=150, deadline=None)
@given(plan=plans())
def test_accounts_equal_a_recount(plan: Plan) -> None:
    recount = Recount(plan)
    for step in range(plan.num_steps):
        recount.add(step)
        for number, account in enumerate(plan.account(step + 1)):
            assert account.tokens == recount.read[number].total()
            assert account.unique_tokens == len(recount.read[number])
            assert account.duplicate_tokens == 0
        assert plan.tokens_before(step + 1) == sum(c.total() for c in recount.read.values())
    half = plan.num_steps // 2  # backwards, from scratch
    assert plan.account(half) == replace(plan).account(half)
    for (number, window, seq_len), steps in recount.windows.items():
        assert plan.steps_reading(number, window, seq_len).tolist() == steps
        first = plan.first_steps(number, np.array([window]), seq_len)
        assert first.tolist() == steps[:1]


@settings(max_examples=60, deadline=None)
@given(plan=plans(), data=st.data())
def test_readings_of_a_range_equal_a_recount(plan: Plan, data: st.DataObject) -> None:
    source = data.draw(st.integers(0, len(plan.sources) - 1))
    start = data.draw(st.integers(0, plan.sources[source].tokens - 1))
    stop = data.draw(st.integers(start + 1, plan.sources[source].tokens))
    recount = Recount(plan)
    for step in range(plan.num_steps):
        recount.add(step)
    wanted = Counter(
        (step, seq_len, window, targets)
        for (number, window, seq_len), steps in recount.windows.items()
        for step in steps
        if number == source
        and (targets := sum(start <= t < stop for t in targets_of(plan, source, window, seq_len)))
    )
    assert Counter(tuple(r) for r in plan.readings(source, start, stop)) == wanted


@settings(max_examples=60, deadline=None)
@given(plan=plans())
def test_shuffled_counters_run_on_by_length(plan: Plan) -> None:
    """Until a restart, every epoch of a length reads all its windows before any one again."""
    plan = replace(plan, order="shuffled")
    read: dict[tuple[int, int], list[int]] = defaultdict(list)
    for step in range(plan.num_steps):
        phase = plan.phases[plan.phase_index(step)]
        if phase.restart and (step == 0 or plan.phase_index(step - 1) != plan.phase_index(step)):
            read.clear()
        in_step: dict[int, list[int]] = defaultdict(list)
        for source, window in zip(*(part.tolist() for part in plan.step(step)), strict=True):
            in_step[source].append(window)
        for source, windows in in_step.items():
            read[source, plan.seq_len_at(step)] += windows
        for (source, seq_len), windows in read.items():
            times = Counter(windows)
            per_epoch = (plan.sources[source].tokens - 1) // seq_len
            assert max(times.values()) <= -(-len(windows) // per_epoch)


@settings(max_examples=60, deadline=None)
@given(plan=plans(), order=st.sampled_from(("sequential", "rows")))
def test_reading_straight_on_over_a_change_of_length(plan: Plan, order: Order) -> None:
    """No window begins before the end of the last one, nor a whole window behind it."""
    plan = replace(plan, order=order)
    place = [0] * len(plan.sources)  # tokens passed, over all epochs
    for step in range(plan.num_steps):
        number, seq_len = plan.phase_index(step), plan.seq_len_at(step)
        if plan.phases[number].restart and (step == 0 or plan.phase_index(step - 1) != number):
            place = [0] * len(plan.sources)
        for source, window in zip(*(part.tolist() for part in plan.step(step)), strict=True):
            layout = Layout(plan.sources[source].tokens, seq_len, order == "rows")
            length = layout.tokens
            start = window * layout.stride
            if order == "sequential":
                start += place[source] // length * length
                if start < place[source]:  # the windows of this epoch are used up
                    start += length
                    assert window == 0
                    assert length - 1 - place[source] % length < 2 * seq_len + max(LENGTHS)
                else:
                    assert start - place[source] < seq_len
            else:
                assert 0 <= start - place[source] < layout.stride
            place[source] = start + layout.stride


@given(
    weights=st.lists(st.integers(0, 1000), min_size=1, max_size=8).filter(any),
    start=st.integers(1, 10**15),
    scale=st.sampled_from((1, 10**9, 10**15)),
)
def test_the_window_that_brings_a_source_to_a_count(
    weights: list[int], start: int, scale: int
) -> None:
    share = Apportionment([weight * scale + (weight > 0) for weight in weights])
    for source, weight in enumerate(weights):
        if weight:
            counts = np.arange(start, start + 5, dtype=np.int64)
            if start * sum(weights) > 10**15 * weight:
                counts = np.arange(1, 6, dtype=np.int64)
            for count, n in zip(counts.tolist(), share.reaching(source, counts), strict=True):
                assert share.counts(int(n))[source] == count
                assert share.counts(int(n) - 1)[source] == count - 1


@pytest.mark.parametrize(("order", "first"), [("shuffled", 0), ("sequential", 2)])
def test_counters_written_out(order: Order, first: int) -> None:
    """Three windows of 8 targets, three of 16, three of 8; and a source left out in between."""
    always, not_always = ("1", "0"), ("0", "1")
    phases = [PlanPhase(n, 1, 3, always, length) for n, length in (("a", 8), ("b", 16), ("c", 8))]
    spans = plan_of([200, 200], phases, order).counters.spans(0, 3)
    third = 3 if order == "shuffled" else 2 * (first + 3)
    assert spans == [Span(0, 8, 0, 3), Span(1, 16, first, first + 3), Span(2, 8, third, third + 3)]
    phases[1] = replace(phases[1], weights=not_always)
    spans = plan_of([200, 200], phases, order).counters.spans(0, 3)
    assert spans == [Span(0, 8, 0, 3), Span(2, 8, 3, 6)]


def test_one_length_keeps_its_order_whatever_the_plan_is_called() -> None:
    """Golden: the order of a plan's own length does not depend on phases of other lengths."""
    phases = [PlanPhase("a", 5, 2, ("1",)), PlanPhase("b", 3, 2, ("1",), 4)]
    alone, mixed = plan_of([41], phases[:1], "shuffled"), plan_of([41], phases, "shuffled")
    assert [mixed.step(k).window.tolist() for k in range(5)] == [
        alone.step(k).window.tolist() for k in range(5)
    ]
    assert [mixed.step(k).window.tolist() for k in range(5)] == GOLDEN_TWO
    assert [mixed.step(k).window.tolist() for k in range(5, 8)] == GOLDEN_FOUR


GOLDEN_TWO = [[7, 2], [13, 18], [9, 19], [0, 8], [1, 5]]
GOLDEN_FOUR = [[6, 3], [8, 5], [7, 9]]


def test_accounts_of_two_lengths_written_out() -> None:
    """16 targets straight on: three windows of 4, then two of 8: the second wraps to the first."""
    phases = [PlanPhase("short", 3, 1, ("1",), 4), PlanPhase("long", 2, 1, ("1",), 8)]
    plan = plan_of([17], phases, "sequential")
    assert [plan.step(k).window.tolist() for k in range(5)] == [[0], [1], [2], [0], [1]]
    account = plan.account(5)[0]
    assert (account.windows, account.tokens, account.unique_tokens) == (5, 28, 16)
    assert account.epochs == Fraction(28, 16)
    rows = replace(plan, order="rows")  # rows of 5: tokens 0-14; rows of 9: 18-26, 27-35
    assert [rows.step(k).window.tolist() for k in range(5)] == [[0], [1], [2], [2], [3]]
    # targets 1-4, 6-9, 11-14; then 19-26, which are 2-9, and 28-35, which are 11-16, 0, 1
    account = rows.account(5)[0]
    assert account.unique_tokens == len({*range(10), *range(11, 17)})
    assert account.tail_tokens == 0  # rows go on over the end


def test_restart_reads_the_same_again() -> None:
    phases = [PlanPhase("a", 4, 3, ("1",)), PlanPhase("again", 6, 3, ("1",), restart=True)]
    plan = plan_of([101], phases, "shuffled")
    first = np.sort(np.concatenate([plan.step(k).window for k in range(4)]))
    again = np.sort(np.concatenate([plan.step(k).window for k in range(4, 8)]))
    assert np.array_equal(first, again)
    account = plan.account(10)[0]
    assert (account.tokens, account.unique_tokens) == (10 * 3 * 2, 6 * 3 * 2)
    assert plan.steps_reading(0, int(plan.step(0).window[0]), 2).tolist()[0] == 0
    assert len(plan.steps_reading(0, int(plan.step(0).window[0]), 2)) == 2


def copies(rows: list[tuple[int, int, int, int]]) -> Duplicates:
    """Rows of (group, source, token_start, token_count)."""
    names = ("group", "source", "token_start", "token_count")
    return Duplicates(pl.DataFrame(rows, schema=dict.fromkeys(names, pl.Int64), orient="row"))


@st.composite
def plans_with_copies(draw: st.DrawFn) -> Plan:
    plan, rows = draw(plans()), []
    free = [0] * len(plan.sources)
    for group in range(draw(st.integers(1, 4))):
        size = draw(st.integers(1, 9))
        for _ in range(draw(st.integers(2, 4))):
            source = draw(st.integers(0, len(plan.sources) - 1))
            start = free[source] + draw(st.integers(0, 3))
            if start + size <= plan.sources[source].tokens:
                rows.append((group, source, start, size))
                free[source] = start + size
    return replace(plan, duplicates=copies(sorted(rows, key=lambda row: row[1:])))


# Tokens 0 and 5 begin a row in each of twenty passes; longer rows predict them, in the 22nd.
LATE_COPIES = replace(
    plan_of(
        [10], [PlanPhase("a", 4, 10, ("1",), 4), PlanPhase("b", 2, 2, ("1",), 8)], "rows"
    ),
    duplicates=copies([(0, 0, 0, 1), (0, 0, 5, 1)]),
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@example(plan=LATE_COPIES)
@given(plan=plans_with_copies())
def test_targets_of_copies_count_once(plan: Plan) -> None:
    """Unique over all sources: positions, where all copies of a document are one and the same."""
    assert plan.duplicates is not None
    same = {
        (source, start + k): (group, k)
        for group, source, start, size in plan.duplicates.frame.iter_rows()
        for k in range(size)
    }
    seen: set[object] = set()
    recount = Recount(plan)
    for step in range(plan.num_steps):
        recount.add(step)
        seen |= {same.get((s, t), (f"s{s}", t)) for s, c in recount.read.items() for t in c}
        accounts = plan.account(step + 1)
        assert sum(account.unique_tokens for account in accounts) == len(seen)
        for number, account in enumerate(accounts):
            assert account.unique_tokens + account.duplicate_tokens == len(recount.read[number])


def test_copies_written_out() -> None:
    """Ten tokens at 1 of one source and at 5 of the other, read in windows of 4."""
    phases = [PlanPhase("a", 3, 1, ("1", "0"), 4), PlanPhase("b", 4, 1, ("0", "1"), 4)]
    plan = plan_of([13, 17], phases, "sequential")
    plan = replace(plan, duplicates=copies([(0, 0, 1, 10), (0, 1, 5, 10)]))
    found = [[account.duplicate_tokens for account in plan.account(k)] for k in range(8)]
    # source 0 reads its targets 1-12; source 1 its 1-4, 5-8, 9-12, 13-16, of which 5-14 are copies
    assert found == [[0, 0]] * 5 + [[0, 4], [0, 8], [0, 10]]


@settings(max_examples=60, deadline=None)
@given(plan=plans(), data=st.data())
def test_appended_phases_and_sources_change_nothing_before(plan: Plan, data: st.DataObject) -> None:
    number = len(plan.sources)
    more = PlanSource("new", "id2", "new", "train", 50)
    phases = tuple(replace(phase, weights=(*phase.weights, "0")) for phase in plan.phases)
    seq_len = data.draw(st.sampled_from(LENGTHS))
    last = PlanPhase("appended", 5, 4, ("1",) * (number + 1), seq_len, data.draw(st.booleans()))
    longer = replace(plan, sources=(*plan.sources, more), phases=(*phases, last))
    assert longer.prefix(len(plan.phases), number).plan_id == plan.plan_id
    for step in range(plan.num_steps):
        before, after = plan.step(step), longer.step(step)
        assert np.array_equal(before.source, after.source)
        assert np.array_equal(before.window, after.window)
        assert longer.account(step + 1)[:number] == plan.account(step + 1)


def test_a_prefix_that_read_the_new_source_is_refused() -> None:
    plan = plan_of([20, 20], [PlanPhase("a", 2, 2, ("1", "1"))], "shuffled")
    with pytest.raises(DatasetError, match="phase 'a' reads a source that was added later"):
        plan.prefix(1, 1)


def test_l20_run_that_began_again() -> None:
    """A published 10B-token run: its trainer kept no data position, so at step 8,000 it read its
    4.28B tokens from the beginning again, and a third time from step 16,105 on."""
    tokens = 8105 * 258 * 2048
    phases = [
        PlanPhase("first", 8_000, 258, ("1",)),
        PlanPhase("resumed", 10_928, 258, ("1",), restart=True),
    ]
    source = PlanSource("edu", "id", "edu", "train", tokens)
    plan = Plan(2047, 0, "rows", (source,), tuple(phases))
    (account,) = plan.account(18_928)
    assert account.tokens == 9_996_368_928
    assert round(account.unique_tokens / 1e9, 2) == 4.28
    assert round(float(account.epochs_read), 2) == 2.34
    third = [step for step, *_ in plan.readings(0, 1, 2)]
    assert third == [0, 8_000, 16_105]
