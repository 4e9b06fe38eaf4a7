"""The card's table of the model beside baselines, read from RUN/eval/comparison.json."""

from train.card_content import Block, Line, bullets, cell, line, table
from train.facts import Evidence, pointer

_FILE = "run/eval/comparison.json"


def baseline_blocks(evidence: Evidence) -> tuple[Block, ...]:
    """Scores under the same harness, wins, and differences item by item."""
    rivals = [pointer("baselines", i) for i in range(len(evidence.raw(_FILE, "/baselines") or []))]
    tasks = list(evidence.raw(_FILE, "/tasks") or {})
    if not rivals:
        return ()
    headers = ("model", "parameters", *tasks, "average", "wins")
    own = (
        cell("this model"),
        cell(evidence.fact(_FILE, "/model/parameters", "short")),
        *(_score(evidence, "", task) for task in tasks),
        cell(evidence.fact(_FILE, "/average/value", "percent")),
        (),
    )
    rows = [own, *(_rival(evidence, at, tasks) for at in rivals)]
    note = line(
        "Beside baselines under the same harness and settings, lm-eval ",
        evidence.fact(_FILE, "/lm_eval"),
        ". Wins: tasks in which this model's score is strictly better.",
    )
    differences = [_differences(evidence, at, tasks) for at in rivals]
    return (
        *bullets(note),
        *table(headers, rows),
        *table(("this model less", *tasks), differences),
        *bullets(("Differences item by item, ± the standard error of their mean.",)),
    )


def _score(evidence: Evidence, at: str, task: str) -> Line:
    where = at + pointer("tasks", task)
    value = evidence.fact(_FILE, f"{where}/value", "percent")
    return cell(value, " ± ", evidence.fact(_FILE, f"{where}/stderr", "percent")) or cell(value)


def _rival(evidence: Evidence, at: str, tasks: list[str]) -> tuple[Line, ...]:
    return (
        cell(evidence.fact(_FILE, f"{at}/name")),
        cell(evidence.fact(_FILE, f"{at}/parameters", "short")),
        *(_score(evidence, at, task) for task in tasks),
        cell(evidence.fact(_FILE, f"{at}/average/value", "percent")),
        cell(evidence.fact(_FILE, f"{at}/wins"), " of ", evidence.fact(_FILE, f"size{at}/tasks")),
    )


def _differences(evidence: Evidence, at: str, tasks: list[str]) -> tuple[Line, ...]:
    cells = []
    for task in tasks:
        where = f"{at}{pointer('tasks', task)}/difference"
        value = evidence.fact(_FILE, f"{where}/value", "signed_percent")
        error = evidence.fact(_FILE, f"{where}/stderr", "percent")
        cells.append(cell(value, " ± ", error))
    return (cell(evidence.fact(_FILE, f"{at}/name")), *cells)
