"""Curves of runs as PNG files: `tally plot RUN ...`.

One file a curve, all runs in it: loss, held-out loss by source, learning rate, length of the
gradient and speed, each over the tokens trained on; the loss over unique tokens too.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from configs.outputs import require_place
from configs.terminal import human
from train.compare import run_names
from train.curves import moving_average
from train.errors import TrainError
from train.facts import read_lines

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Lines = list[dict[str, Any]]
Drawn = list[tuple[str, list[float], list[float]]]
"""Label, xs and ys of every line."""
_COLOURS = ("#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#6e7781")


class Curve(NamedTuple):
    """A file, its axes, and what it takes from a run's metrics: (label, xs, ys) each."""

    file: str
    x_label: str
    y_label: str
    read: Callable[[Lines], Drawn]
    smooth: bool = False


def _column(name: str, over: str = "tokens") -> Callable[[Lines], Drawn]:
    def read(lines: Lines) -> Drawn:
        found = [line for line in lines if line.get(name) is not None and over in line]
        return [("", [line[over] for line in found], [line[name] for line in found])]

    return read


def _by_source(lines: Lines) -> Drawn:
    measured = [line for line in lines if "val_loss" in line]
    sources = dict.fromkeys(name for line in measured for name in line["val_loss"])
    series = []
    for source in sources:
        having = [line for line in measured if source in line["val_loss"]]
        xs = [line["tokens"] for line in having]
        series.append((source, xs, [line["val_loss"][source] for line in having]))
    return series


CURVES = (
    Curve("loss", "training tokens", "loss, nats a token", _column("loss"), smooth=True),
    Curve(
        "loss_unique", "unique tokens", "loss, nats a token", _column("loss", "unique_tokens"), True
    ),
    Curve("heldout", "training tokens", "held-out loss, nats a token", _by_source),
    Curve("lr", "training tokens", "learning rate", _column("lr")),
    Curve("grad_norm", "training tokens", "length of the gradient", _column("grad_norm"), True),
    Curve("speed", "training tokens", "tokens a second", _column("tokens_per_s"), smooth=True),
)


def plot_runs(run_dirs: Sequence[Path], output: Path) -> list[Path]:
    """Draw the curves of runs; a curve that no run has is left out.

    Args:
        run_dirs: RUN directories.
        output: folder of the PNG files.

    Raises:
        TrainError: a directory has no metrics.
    """
    runs = {
        name: _metrics(path) for name, path in zip(run_names(list(run_dirs)), run_dirs, strict=True)
    }
    require_place(output)
    output.mkdir(parents=True, exist_ok=True)
    return [path for curve in CURVES if (path := _draw(curve, runs, output)) is not None]


def _metrics(run_dir: Path) -> Lines:
    path = run_dir / "metrics.jsonl"
    lines = read_lines(path.read_text(encoding="utf-8")) if path.is_file() else []
    if not lines:
        raise TrainError(f"{run_dir}: no metrics.jsonl with a line; is this a run that trained?")
    return lines


def _draw(curve: Curve, runs: dict[str, Lines], output: Path) -> Path | None:
    from matplotlib.figure import Figure  # without pyplot: no window, no state

    series = [
        (" ".join(filter(None, (name if len(runs) > 1 else "", label))), xs, ys)
        for name, lines in runs.items()
        for label, xs, ys in curve.read(lines)
        if xs
    ]
    if not series:
        return None
    figure = Figure(figsize=(8, 4.5), dpi=150, layout="constrained")
    axes = figure.subplots()
    for number, (label, xs, ys) in enumerate(series):
        _line(axes, xs, ys, label, _COLOURS[number % len(_COLOURS)], curve.smooth)
    axes.set_xlabel(curve.x_label)
    axes.set_ylabel(curve.y_label)
    axes.xaxis.set_major_formatter(lambda value, _: human(value))
    axes.grid(alpha=0.3)
    if any(label for label, _, _ in series):
        axes.legend(frameon=False)
    path = output / f"{curve.file}.png"
    figure.savefig(path, metadata={"Software": None})
    return path


def _line(
    axes: "Axes", xs: list[float], ys: list[float], label: str, colour: str, smooth: bool
) -> None:
    """A line; a smoothed one over the faint values where these are many."""
    if smooth and len(ys) > 30:
        axes.plot(xs, ys, color=colour, alpha=0.25, linewidth=0.8)
        ys = moving_average(ys, len(ys) // 30)
    marker = "o" if len(xs) < 30 else ""
    axes.plot(xs, ys, color=colour, label=label, marker=marker, markersize=3)
