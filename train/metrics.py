"""RUN/metrics.jsonl, a line a step, and what the user sees while it trains.

Fields of a line: step (0-based), phase, loss (nats per target), lr, grad_norm (null at a skipped
step), tokens and unique_tokens (targets up to and including this step), epochs (per source),
tokens_per_s, step_s, data_wait_s (waiting for data), memory_gib, mfu (where the device's peak is
known), skipped_steps, after a validation `val_loss` and `val_bits_per_byte` with one value per
source, and where the sentinel looked `singular_values`: smallest, largest and their ratio by
matrix. A value that is not finite, such as the loss of a skipped step, is written as null: JSON has
no other way to say it.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from configs.terminal import console, human
from shards.atomic import keep_lines
from train.plantables import duration

METRICS_NAME = "metrics.jsonl"
_PLAIN_INTERVAL_S = 10.0


class MetricsLog:
    """The metrics of a run, open for appending."""

    def __init__(self, run_dir: Path) -> None:
        self._path = run_dir / METRICS_NAME

    def append(self, line: dict[str, Any]) -> None:
        """Add the line of one step."""
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(_finite(line), allow_nan=False) + "\n")

    def truncate(self, step: int) -> int:
        """Keep the lines of the steps before `step`; returns how many were discarded.

        A last line cut off by a crash counts as discarded.
        """
        return keep_lines(self._path, step)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory so far: of the GPU, or of this process where there is none."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


class Display:
    """A progress bar with loss and remaining time; plain lines where stdout is no terminal.

    Args:
        first: steps done before.
        last: steps done when this segment or `--stop-after` ends, which is always shown.
        num_steps: of the whole run.
        enabled: on one rank.
    """

    def __init__(self, first: int, last: int, num_steps: int, enabled: bool) -> None:
        self._first, self._last, self._num_steps, self._enabled = first, last, num_steps, enabled
        self._started = self._shown = time.monotonic()
        self._bar: Progress | None = None
        self._task = TaskID(0)

    def __enter__(self) -> Self:
        if self._enabled and console.is_terminal:
            columns = (BarColumn(), TextColumn("{task.description}"), TimeRemainingColumn())
            self._bar = Progress(*columns, console=console)
            self._task = self._bar.add_task("", total=self._num_steps, completed=self._first)
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def show(self, line: dict[str, Any]) -> None:
        """Show a metrics line: always on a bar, else every few seconds and at the end."""
        if not self._enabled:
            return
        done = int(line["step"]) + 1
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=self._text(line))
        elif done == self._last or time.monotonic() - self._shown >= _PLAIN_INTERVAL_S:
            self._shown = time.monotonic()
            console.print(
                self._text(line) + f"  remaining {duration(self._remaining_s(done) / 3600)}"
            )
        if "val_loss" in line:
            losses = ", ".join(f"{name} {loss:.3f}" for name, loss in line["val_loss"].items())
            console.print(f"step {done}: held-out loss {losses}")

    def _remaining_s(self, done: int) -> float:
        rate = (done - self._first) / (time.monotonic() - self._started)
        return (self._num_steps - done) / rate

    def _text(self, line: dict[str, Any]) -> str:
        norm = line["grad_norm"]
        parts = [
            f"step {line['step'] + 1}/{self._num_steps}",
            f"loss {line['loss']:.3f}",
            f"lr {line['lr']:.2e}",
            "skipped" if norm is None else f"|g| {norm:.2f}",
            f"{human(line['tokens_per_s'])} tok/s",
        ]
        return "  ".join(parts)
