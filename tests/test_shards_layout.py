"""Windows and rows in a stream, against brute force over every token."""

from fractions import Fraction

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.coverage import Stretch, rows_union, straight_union
from shards.layout import Layout, reachable_targets
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource

SMALL = {"tokens": st.integers(2, 60), "seq_len": st.integers(1, 12)}


def targets_of_rows(layout: Layout, n: int) -> list[list[int]]:
    """Target positions of the first n rows, token by token."""
    starts = [row * (layout.seq_len + 1) for row in range(n)]
    return [[(s + k) % layout.tokens for k in range(1, layout.seq_len + 1)] for s in starts]


@given(**SMALL, n=st.integers(0, 60))
def test_unique_targets_of_rows(tokens: int, seq_len: int, n: int) -> None:
    layout = Layout(tokens, seq_len, rows=True)
    if seq_len >= tokens:
        return  # a row that holds a token twice is refused when a plan is made
    seen = {position for row in targets_of_rows(layout, n) for position in row}
    assert layout.unique_targets(n) == len(seen)
    assert layout.available_targets == len(
        {position for row in targets_of_rows(layout, 3 * tokens) for position in row}
    )


@given(**SMALL, start=st.integers(0, 59), length=st.integers(1, 20), n=st.integers(0, 40))
def test_windows_that_hold_a_range(
    tokens: int, seq_len: int, start: int, length: int, n: int
) -> None:
    start, stop = min(start, tokens - 1), min(start + length, tokens)
    if seq_len >= tokens or stop <= start:
        return
    rows = Layout(tokens, seq_len, rows=True)
    wanted = {
        row: sum(start <= position < stop for position in targets)
        for row, targets in enumerate(targets_of_rows(rows, n))
    }
    held: dict[int, int] = {}
    for row, count in rows.holding(start, stop, n):  # a row over the end may be met twice
        held[row] = held.get(row, 0) + count
    assert held == {row: count for row, count in wanted.items() if count}
    windows = Layout(tokens, seq_len)
    plain = {
        w: sum(start <= t < stop for t in range(w * seq_len + 1, w * seq_len + seq_len + 1))
        for w in range(windows.windows)
    }
    assert dict(windows.holding(start, stop, windows.windows)) == {
        w: count for w, count in plain.items() if count
    }


def test_pieces_wrap_at_the_end() -> None:
    layout = Layout(10, 3, rows=True)
    assert [layout.pieces(row) for row in range(4)] == [
        [(0, 4)],
        [(4, 8)],
        [(8, 10), (0, 2)],
        [(2, 6)],
    ]


def test_pieces_that_end_with_the_stream() -> None:
    assert Layout(12, 3, rows=True).pieces(2) == [(8, 12)]
    assert Layout(13, 3).pieces(3) == [(9, 13)]


def test_what_an_epoch_holds_written_out() -> None:
    windows, rows, whole = Layout(10, 3), Layout(10, 3, rows=True), Layout(12, 3, rows=True)
    assert [w.windows for w in (windows, rows, whole)] == [3, 2, 3]
    assert windows.windows_per_epoch == 3
    assert rows.windows_per_epoch == Fraction(5, 2)
    # twelve tokens in rows of four: every pass leaves out the same three
    assert [w.available_targets for w in (windows, rows, whole)] == [9, 10, 9]
    assert [whole.unique_targets(n) for n in (2, 3, 4, 7)] == [6, 9, 9, 9]
    assert Layout(0, 3).windows == 0


def test_what_several_lengths_reach_together() -> None:
    assert reachable_targets([Layout(11, 3), Layout(11, 4)]) == 9
    rows = [Layout(24, n, rows=True) for n in (1, 2)]  # rows of two and of three tokens
    assert reachable_targets(rows) == 24 - 4  # every sixth token is the first of a row in both
    assert reachable_targets(rows[:1]) == 12
    odd = [Layout(25, n, rows=True) for n in (1, 2)]
    assert reachable_targets(odd) == 25


def test_unions_written_out() -> None:
    tens, fives = Layout(101, 10), Layout(101, 5)
    assert straight_union([Stretch(tens, 2, 4)]) == 20
    assert straight_union([Stretch(tens, 0, 4), Stretch(fives, 2, 4), Stretch(fives, 7, 9)]) == 45
    assert straight_union([Stretch(tens, 8, 13)]) == 50  # over the end
    assert straight_union([Stretch(tens, 8, 18), Stretch(fives, 0, 1)]) == 100
    rows = Layout(10, 2, rows=True)  # the second pass predicts what begins a row in the first
    assert [rows_union([Stretch(rows, 0, n)]) for n in (1, 3, 4, 7, 99)] == [2, 6, 7, 10, 10]
    assert rows_union([Stretch(rows, 1, 2), Stretch(Layout(10, 4, rows=True), 1, 2)]) == 6


def test_tinylm_23_000_steps_over_8_billion_tokens() -> None:
    """Published run: 3.0147 epochs trained, 3.0161 read, 123 steps in a fourth pass."""
    tokens = 8_000_000_000
    source = PlanSource("edu", "id", "edu", "train", tokens)
    plan = Plan(2048, 0, "rows", (source,), (PlanPhase("pretrain", 23_000, 512, ("1",)),))
    (account,) = plan.account(23_000)
    assert account.tokens == 24_117_248_000
    assert round(float(account.epochs), 4) == 3.0147
    assert round(float(account.epochs_read), 4) == 3.0161
    assert account.unique_tokens == tokens
    fourth = [step for step in range(22_000, 23_000) if (step + 1) * 512 * 2049 > 3 * tokens]
    assert (len(fourth), fourth[0]) == (123, 22_877)
    # the first token of the first row is predicted in the second pass and in the third
    steps = [step for step, *_ in plan.readings(0, 0, 1)]
    assert steps == [tokens // 2049 // 512, 2 * tokens // 2049 // 512, 3 * tokens // 2049 // 512]
    assert Fraction(account.windows, 512) == 23_000
    assert np.array_equal(plan.step(1).window, np.arange(512, 1024))
