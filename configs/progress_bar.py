"""The progress bar of a terminal: what is done, how fast, and how long it will take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Rate(ProgressColumn):
    """Units per second, with the unit's name."""

    def __init__(self, amount: Callable[[float, str], str]) -> None:
        super().__init__()
        self._amount = amount

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text("" if speed is None else f"{self._amount(speed, task.fields['unit'])}/s")


class Bar:
    """One running bar."""

    def __init__(self, bar: Progress, description: str, total: float | None, unit: str) -> None:
        self._bar = bar
        self._task = bar.add_task(description, total=total, unit=unit)

    def advance(self, n: float = 1) -> None:
        """Count `n` more units as done."""
        self._bar.advance(self._task, n)


@contextmanager
def bar(
    console: Console,
    description: str,
    total: float | None,
    unit: str,
    amount: Callable[[float, str], str],
) -> Iterator[Bar]:
    """Show a bar; see `configs.terminal.progress`.

    Args:
        console: where.
        description: what is being done.
        total: units of work in all; None where unknown.
        unit: their name.
        amount: writes a number with its unit.
    """
    digits = ",.0f" if total is None or total >= 10 or total == int(total) else ".2f"
    count = TextColumn(f"{{task.completed:{digits}}}/{{task.total:{digits}}} {{task.fields[unit]}}")
    if total is None:
        count = TextColumn("{task.completed:,.0f} {task.fields[unit]}")
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), count, _Rate(amount))
    time_left = TimeRemainingColumn(elapsed_when_finished=True)
    with Progress(*columns, time_left, console=console) as shown:
        yield Bar(shown, description, total, unit)
