"""Arms and seeds as tables: mean and standard deviation of every measure, paired differences.

Runs whose settings differ in nothing but names and seeds are one arm. Two arms are compared seed by
seed, which takes out what a seed does to both.
"""

import json
import re
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from configs.loading import parse_yaml
from shards.hashing import blake3_json
from train.facts import read_lines
from train.same_run import FREE
from train.start import EXPERIMENT_NAME

_LAST = 50
"""Steps at the end whose mean is the training loss of a run."""
TRAINING, HELD_OUT, MEAN = f"training loss, last {_LAST} steps", "held-out loss", "mean of tasks"
Seeds = tuple[int, int]
"""Of the data order and of the weights."""


@dataclass(frozen=True)
class Arm:
    """Runs that differ in seeds alone, each with its measures."""

    name: str
    runs: dict[Seeds, dict[str, float]]
    factors: dict[str, str] = field(default_factory=dict)

    def values(self, measure: str) -> list[float]:
        """Of all seeds that have it."""
        return [run[measure] for run in self.runs.values() if measure in run]


class Spread(NamedTuple):
    """Mean, sample standard deviation (None for a single value), number of values."""

    mean: float
    deviation: float | None
    runs: int

    def __str__(self) -> str:
        return f"{self.mean:.4f}" + ("" if self.deviation is None else f" ± {self.deviation:.4f}")


def spread(values: Sequence[float]) -> Spread | None:
    """Of the values of one measure; None where there are none."""
    if not values:
        return None
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return Spread(statistics.fmean(values), deviation, len(values))


def paired(first: Arm, second: Arm, measure: str) -> Spread | None:
    """Second minus first, over the seeds that both have."""
    both = [(first.runs[seeds], second.runs[seeds]) for seeds in first.runs if seeds in second.runs]
    return spread([b[measure] - a[measure] for a, b in both if measure in a and measure in b])


def expand(paths: Iterable[Path]) -> list[Path]:
    """RUN directories, those of an experiment's directory in the order of their declaration.

    Runs that have not begun are left out.
    """
    found = []
    for path in paths:
        declared = path / EXPERIMENT_NAME
        if declared.is_file():
            runs = [path / name for name in json.loads(declared.read_bytes())["runs"]]
            found += [run for run in runs if (run / "config.yaml").is_file()]
        else:
            found.append(path)
    return found


def read_arms(run_dirs: dict[str, Path]) -> list[Arm]:
    """Group runs into arms, in order of their first run.

    Args:
        run_dirs: by the name that the comparison gives them.
    """
    groups: dict[str, list[str]] = {}
    configs = {name: _config(path) for name, path in run_dirs.items()}
    for name, config in configs.items():
        groups.setdefault(_kind(config), []).append(name)
    arms = []
    for names in groups.values():
        runs = {_seeds(configs[name]): measures(run_dirs[name]) for name in names}
        declared = _declared(run_dirs[names[0]])
        arms.append(Arm(declared[0] or _common(names), runs, declared[1]))
    return arms


def _config(run_dir: Path) -> dict[str, Any]:
    config: dict[str, Any] = parse_yaml((run_dir / "config.yaml").read_text(encoding="utf-8"))
    return config


def _seeds(config: dict[str, Any]) -> Seeds:
    return int(config.get("data", {}).get("seed", 0)), int(config.get("seed", 0))


def _kind(config: dict[str, Any]) -> str:
    """Equal for configurations that differ in names, seeds and what computes nothing else."""
    data = {key: value for key, value in config.get("data", {}).items() if key != "seed"}
    rest = {key: value for key, value in config.items() if key not in {"seed", *FREE}}
    return blake3_json(rest | {"data": data})


def _declared(run_dir: Path) -> tuple[str, dict[str, str]]:
    """Name and factors of the arm, where the run is one of an experiment."""
    path = run_dir.parent / EXPERIMENT_NAME
    if not path.is_file():
        return "", {}
    values = json.loads(path.read_bytes())
    if run_dir.name not in values["runs"]:
        return "", {}
    arm = values["runs"][run_dir.name]["arm"]
    return arm, values["arms"].get(arm, {}).get("factors", {})


def _common(names: list[str]) -> str:
    """A name for an arm: that of its runs without their seeds."""
    short = {re.sub(r"[-_.]*s(eed)?[-_.]?\d+$", "", name) for name in names}
    return short.pop() if len(short) == 1 and len(names) > 1 else " = ".join(names)


def measures(run_dir: Path) -> dict[str, float]:
    """What is known of a run: losses, bits per byte, headline scores and their mean."""
    found: dict[str, float] = {}
    path = run_dir / "metrics.jsonl"
    lines = read_lines(path.read_text(encoding="utf-8")) if path.is_file() else []
    losses = [line["loss"] for line in lines[-_LAST:] if line["loss"] is not None]
    if losses:
        found[TRAINING] = statistics.fmean(losses)
    validated = [line["val_loss"] for line in lines if line.get("val_loss")]
    if validated:
        found |= {f"{HELD_OUT}, {name}": loss for name, loss in validated[-1].items()}
    heldout = run_dir / "eval" / "heldout.json"
    if heldout.is_file():
        whole = json.loads(heldout.read_bytes())["all"]
        found |= {
            f"{HELD_OUT}, whole split": whole["loss"],
            "bits per byte": whole["bits_per_byte"],
        }
    scores = _scores(run_dir)
    if len(scores) > 1:
        found[MEAN] = statistics.fmean(scores.values())
    return found | scores


def _scores(run_dir: Path) -> dict[str, float]:
    scores = {}
    for path in sorted((run_dir / "eval").glob("*.json")):
        result = json.loads(path.read_bytes())
        if "headline" in result:
            scores[path.stem] = float(result["metrics"][result["headline"]]["value"])
    return scores


def names_of(arms: Sequence[Arm]) -> list[str]:
    """All measures that some run has, in order."""
    return list(dict.fromkeys(name for arm in arms for run in arm.runs.values() for name in run))


def to_json(arms: Sequence[Arm]) -> dict[str, Any]:
    """Arms with the spread of every measure; for two arms the paired differences."""
    columns = names_of(arms)
    result: dict[str, Any] = {
        arm.name: {
            "factors": arm.factors,
            "seeds": [list(seeds) for seeds in arm.runs],
            "measures": {
                name: found._asdict() for name in columns if (found := spread(arm.values(name)))
            },
        }
        for arm in arms
    }
    if len(arms) != 2:
        return {"arms": result}
    differences = {
        name: found._asdict() for name in columns if (found := paired(arms[0], arms[1], name))
    }
    return {"arms": result, "paired_difference": differences}


def rows(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]]:
    """The table: headings, and a row a measure with a column an arm."""
    difference = [f"{arms[1].name} - {arms[0].name}, paired"] if len(arms) == 2 else []
    headings = ["", *(f"{arm.name} ({len(arm.runs)})" for arm in arms), *difference]
    body = []
    for name in names_of(arms):
        cells = [spread(arm.values(name)) for arm in arms]
        if difference:
            cells.append(paired(arms[0], arms[1], name))
        body.append([name, *("–" if cell is None else str(cell) for cell in cells)])
    return headings, body


def factor_rows(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]] | None:
    """Two factors as a matrix of the first that all arms have: mean of tasks, else a loss.

    Returns:
        Headings and rows; None where the arms are no combinations of two factors.
    """
    factors = list(dict.fromkeys(name for arm in arms for name in arm.factors))
    wanted = [MEAN, f"{HELD_OUT}, whole split", *names_of(arms)]
    measure = next((name for name in wanted if all(arm.values(name) for arm in arms)), None)
    if len(factors) != 2 or measure is None:
        return None
    down, across = (list(dict.fromkeys(arm.factors.get(f, "–") for arm in arms)) for f in factors)
    cells = {
        tuple(arm.factors.get(f, "–") for f in factors): str(spread(arm.values(measure)))
        for arm in arms
    }
    body = [[row, *(cells.get((row, column), "–") for column in across)] for row in down]
    return [measure, *across], body


def seed_rows(arms: Sequence[Arm]) -> tuple[list[str], list[list[str]]] | None:
    """Arms by seeds, and what each arm differs by from the first, paired.

    Of one measure: the first that all runs have, scores before losses.

    Returns:
        Headings and rows; None where every arm has one run.
    """
    seeds = list(dict.fromkeys(seed for arm in arms for seed in arm.runs))
    runs = [run for arm in arms for run in arm.runs.values()]
    wanted = [MEAN, f"{HELD_OUT}, whole split", *names_of(arms)]
    measure = next((name for name in wanted if all(name in run for run in runs)), None)
    if measure is None or len(seeds) < 2:
        return None
    names = [f"seed {a}" if a == b else f"seeds {a}, {b}" for a, b in seeds]
    against = f"less {arms[0].name}, paired"
    body = []
    for arm in arms:
        values = [arm.runs.get(seed, {}).get(measure) for seed in seeds]
        difference = None if arm is arms[0] else paired(arms[0], arm, measure)
        cells = ["–" if value is None else f"{value:.4f}" for value in values]
        body.append([arm.name, *cells, "–" if difference is None else str(difference)])
    return [measure, *names, against], body


def print_arms(arms: Sequence[Arm], console: Console) -> None:
    """Tables for the terminal."""
    for found in (rows(arms), factor_rows(arms)):
        if found is None:
            continue
        table = Table(found[0][0])
        for heading in found[0][1:]:
            table.add_column(heading, justify="right")
        for row in found[1]:
            table.add_row(*row)
        console.print(table)
    console.print(
        "mean ± standard deviation over seeds (their number in brackets)"
        + ("; differences seed by seed" if len(arms) == 2 else ""),
        style="dim",
    )
