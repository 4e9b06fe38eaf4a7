"""The card's tables of the model beside baselines, read from RUN/eval/comparison*.json."""

from train.card_content import Block, Line, bullets, cell, line, table
from train.facts import Evidence, pointer

_FRACTIONS = ("acc", "exact_match", "f1")


def style_of(metric: str) -> str:
    """How a score of this metric is shown: shares of all items as percent."""
    return "percent" if metric.startswith(_FRACTIONS) else "float3"


def baseline_blocks(evidence: Evidence) -> tuple[Block, ...]:
    """Scores under the same harness, wins, differences item by item; a suite after the other."""
    files = sorted((evidence.roots["run"] / "eval").glob("comparison*.json"))
    return tuple(b for path in files for b in _comparison(evidence, f"run/eval/{path.name}"))


def _comparison(evidence: Evidence, file: str) -> tuple[Block, ...]:
    rivals = [pointer("baselines", i) for i in range(len(evidence.raw(file, "/baselines") or []))]
    tasks = list(evidence.raw(file, "/tasks") or {})
    if not rivals:
        return ()
    own = (
        cell("this model"),
        cell(evidence.fact(file, "/model/parameters", "short")),
        *(_score(evidence, file, "", task) for task in tasks),
        cell(evidence.fact(file, "/average/value", "percent")),
        (),
    )
    named = line("Suite ", evidence.fact(file, "/suite"), ", beside") or ("Beside",)
    note = line(
        *named,
        " baselines under the same harness and settings, lm-eval ",
        evidence.fact(file, "/lm_eval"),
        ". Wins: tasks in which this model's score is strictly better.",
    )
    headers = ("model", "parameters", *tasks, "average", "wins")
    differences = [_differences(evidence, file, at, tasks) for at in rivals]
    return (
        *bullets(note),
        *table(headers, [own, *(_rival(evidence, file, at, tasks) for at in rivals)]),
        *table(("this model less", *tasks), differences),
        *bullets(("Differences are taken item by item, ± the standard error of their mean.",)),
    )


def _style(evidence: Evidence, file: str, task: str) -> str:
    return style_of(str(evidence.raw(file, pointer("tasks", task, "metric"))))


def _score(evidence: Evidence, file: str, at: str, task: str) -> Line:
    where, style = at + pointer("tasks", task), _style(evidence, file, task)
    value = evidence.fact(file, f"{where}/value", style)
    return cell(value, " ± ", evidence.fact(file, f"{where}/stderr", style)) or cell(value)


def _rival(evidence: Evidence, file: str, at: str, tasks: list[str]) -> tuple[Line, ...]:
    wins, of = evidence.fact(file, f"{at}/wins"), evidence.fact(file, f"size{at}/tasks")
    return (
        cell(evidence.fact(file, f"{at}/name")),
        cell(evidence.fact(file, f"{at}/parameters", "short")),
        *(_score(evidence, file, at, task) for task in tasks),
        cell(evidence.fact(file, f"{at}/average/value", "percent")),
        cell(wins, " of ", of),
    )


def _differences(evidence: Evidence, file: str, at: str, tasks: list[str]) -> tuple[Line, ...]:
    cells = []
    for task in tasks:
        where, style = f"{at}{pointer('tasks', task)}/difference", _style(evidence, file, task)
        value = evidence.fact(file, f"{where}/value", f"signed_{style}")
        cells.append(cell(value, " ± ", evidence.fact(file, f"{where}/stderr", style)))
    return (cell(evidence.fact(file, f"{at}/name")), *cells)
