"""The score split as rows of text, for the terminal, audit.md and audit.html."""

from collections.abc import Sequence
from typing import Any

from contamination.scores import LEAST

HEAD = ("task", "metric", "all", "clean", "dirty", "not audited", "dirty − clean", "p")
GROUP_HEAD = ("task", "metric", "group", "items", "score")
CURVE_HEAD = ("task", "metric", "threshold", "dirty", "clean", "gain", "dirty − clean", "z")
NOT_ENOUGH = "not enough items"
NOTE = (
    "Clean items have no finding, dirty ones a finding that counts; items too short to be audited "
    f"are neither. A difference is stated from {LEAST} items on either side."
)
_MEASURES = {
    "longest_run": "run of {:.0f} words or more",
    "question_coverage": "{:.0%} of the question or more",
}


def main_rows(scores: Sequence[dict[str, Any]], intervals: bool = True) -> list[tuple[str, ...]]:
    """A row a task and metric; without intervals where there is little room."""
    cell = mean_cell if intervals else _short_cell
    return [
        (
            _task(row),
            row["metric"],
            *(cell(row[side]) for side in ("all", "clean", "dirty", "not_audited")),
            *_difference(row["difference"], intervals),
        )
        for row in scores
    ]


def _task(row: dict[str, Any]) -> str:
    lost = row["unmatched"]
    return f"{row['task']} ({lost:,} in no benchmark)" if lost else str(row["task"])


def mean_cell(mean: dict[str, Any]) -> str:
    """A mean with its interval and the number of items."""
    if not mean["n"]:
        return "–"
    return f"{mean['mean']:.3f} [{mean['low']:.3f}, {mean['high']:.3f}] of {mean['n']:,}"


def _short_cell(mean: dict[str, Any]) -> str:
    return f"{mean['mean']:.3f} of {mean['n']:,}" if mean["n"] else "–"


def _difference(found: dict[str, Any] | None, interval: bool = True) -> tuple[str, str]:
    if found is None:
        return NOT_ENOUGH, "–"
    reach = f" [{found['low']:+.3f}, {found['high']:+.3f}]" if interval else ""
    return f"{found['value']:+.3f}{reach}", _p(found["p"])


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def group_rows(scores: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Scores by class and by exposure of the items."""
    rows: list[tuple[str, ...]] = []
    for row in scores:
        groups = {f"class {name}": mean for name, mean in row["by_class"].items()}
        groups |= {f"trained on: {name}": mean for name, mean in row["by_exposure"].items()}
        for name, mean in groups.items():
            cells = (f"{mean['n']:,}", mean_cell(mean).partition(" of ")[0])
            rows.append((row["task"], row["metric"], name, *cells))
    return rows


def curve_rows(scores: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """What other thresholds would say."""
    return [
        (
            row["task"],
            row["metric"],
            _MEASURES[point["measure"]].format(point["threshold"]),
            f"{point['dirty_items']:,}",
            f"{point['clean_items']:,}",
            _gain(point["estimated_performance_gain"]),
            _difference(point["difference"])[0],
            f"{point['difference']['z']:+.2f}" if point["difference"] else "–",
        )
        for row in scores
        for point in row["curve"]
    ]


def _gain(value: float | None) -> str:
    return "–" if value is None else f"{value:+.3f}"
