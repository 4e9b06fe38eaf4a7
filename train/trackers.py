"""Metrics for other tools to draw: TensorBoard, Weights & Biases, CSV; all off by default.

`metrics.jsonl` stays the record. A tracker gets the same lines, nested values as `name/source`, and
on resume those steps are replaced that are done again.
"""

import csv
import importlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol

from configs.train import TrainConfig
from shards.atomic import atomic_write
from train.errors import TrainError

_PACKAGES = ("tensorboard", "wandb")
"""Trackers that are packages of the same name."""
CSV_NAME = "metrics.csv"


class Tracker(Protocol):
    """One receiver of metrics."""

    def log(self, step: int, values: dict[str, float | str | None]) -> None:
        """Take the values of one step."""

    def close(self) -> None:
        """Send what is left."""


def check_trackers(names: Sequence[str]) -> None:
    """Refuse a tracker whose package is not installed.

    Raises:
        TrainError: with the extra that brings it.
    """
    for name in names:
        if name in _PACKAGES and importlib.util.find_spec(name) is None:
            raise TrainError(
                f"trackers: {name} needs a package that is not installed; "
                f"pip install 'tallylm[{name}]', or take it out of trackers"
            )


def flat(line: dict[str, Any]) -> dict[str, float | str | None]:
    """A metrics line without nesting: {"val_loss": {"web": 3}} -> {"val_loss/web": 3}."""
    values: dict[str, float | str | None] = {}
    for name, value in line.items():
        if isinstance(value, dict):
            values |= {f"{name}/{key}": inner for key, inner in flat(value).items()}
        else:
            values[name] = value
    return values


class Trackers:
    """All trackers of a run; none on other ranks than the first."""

    def __init__(self, trackers: Sequence[Tracker]) -> None:
        self._trackers = trackers

    def log(self, line: dict[str, Any]) -> None:
        """Hand a metrics line to all of them."""
        values = flat(line)
        for tracker in self._trackers:
            tracker.log(int(line["step"]), values)


@contextmanager
def opened(
    run_dir: Path, config: TrainConfig, first_step: int, *, enabled: bool
) -> Iterator[Trackers]:
    """The trackers that the config names, closed at the end.

    Args:
        run_dir: the RUN directory.
        config: the run.
        first_step: the step it goes on from; what trackers have of later ones is void.
        enabled: whether this is the first rank.
    """
    kinds: dict[str, Callable[[Path, TrainConfig, int], Tracker]]
    kinds = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "csv": Csv}
    with ExitStack() as stack:
        trackers: list[Tracker] = []
        for name in config.trackers if enabled else ():
            trackers.append(kinds[name](run_dir, config, first_step))
            stack.callback(trackers[-1].close)
        yield Trackers(trackers)


class TensorBoard:
    """Event files in RUN/tensorboard."""

    def __init__(self, run_dir: Path, config: TrainConfig, first_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(run_dir / "tensorboard"), purge_step=first_step)

    def log(self, step: int, values: dict[str, float | str | None]) -> None:
        for name, value in values.items():
            if isinstance(value, int | float) and name != "step":
                self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        self._writer.close()


class WeightsAndBiases:
    """A run of the project `tallylm`; the library's own settings (WANDB_*) hold."""

    def __init__(self, run_dir: Path, config: TrainConfig, first_step: int) -> None:
        wandb: Any = importlib.import_module("wandb")
        self._run = wandb.init(
            project="tallylm", name=config.name, dir=run_dir, config=config.model_dump(mode="json")
        )
        # Steps done again after a resume are drawn over the first ones, not refused.
        self._run.define_metric("*", step_metric="step")

    def log(self, step: int, values: dict[str, float | str | None]) -> None:
        self._run.log({name: value for name, value in values.items() if value is not None})

    def close(self) -> None:
        self._run.finish()


class Csv:
    """RUN/metrics.csv; a column that comes up later rewrites the file with it."""

    def __init__(self, run_dir: Path, config: TrainConfig, first_step: int) -> None:
        self._path = run_dir / CSV_NAME
        self._columns: list[str] = []
        rows: list[dict[str, Any]] = []
        if self._path.exists():
            with self._path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                self._columns = list(reader.fieldnames or ())
                rows = [row for row in reader if int(row["step"]) < first_step]
        self._rewrite(rows)

    def log(self, step: int, values: dict[str, float | str | None]) -> None:
        new = [name for name in values if name not in self._columns]
        if new:
            with self._path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            self._columns += new
            self._rewrite(rows)
        with self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, lineterminator="\n").writerow(values)

    def close(self) -> None:
        return

    def _rewrite(self, rows: list[dict[str, Any]]) -> None:
        with atomic_write(self._path, "w") as file:
            writer = csv.DictWriter(file, self._columns, lineterminator="\n")
            if self._columns:
                writer.writeheader()
            writer.writerows(rows)
