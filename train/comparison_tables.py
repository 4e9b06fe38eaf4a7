"""A comparison as Markdown and on the terminal."""

from collections.abc import Iterator
from typing import Any

from rich.table import Table

_DIFFERENCES = (
    "Candidate less baseline ± standard error, item by item. `*`: more than chance (p < 0.05)."
)


def markdown(facts: dict[str, Any]) -> str:
    """The table of scores, the wins, and the differences."""
    lines = [f"# {facts['candidate']} beside {len(facts['baselines'])} baselines", ""]
    lines += [f"{_settings(facts)}", ""]
    lines += _grid(list(_score_rows(facts)))
    if facts["baselines"]:
        lines += ["", "## Wins", "", "A win is a strictly better score; a tie is none.", ""]
        lines += _grid([("baseline", "wins", "rate"), *_win_rows(facts)])
        lines += ["", "## Differences", "", _DIFFERENCES, ""]
        lines += _grid(list(_difference_rows(facts)))
    return "\n".join(lines) + "\n"


def comparison_table(facts: dict[str, Any]) -> Table:
    """Scores and wins for the terminal, a row a model; errors are in comparison.md."""
    table = Table("model", title=_title(facts), title_justify="left")
    for task, score in facts["tasks"].items():
        table.add_column(f"{task}\n{score['metric']}", justify="right")
    for name in ("average",) * bool(facts["average"]) + ("beaten on",) * bool(facts["baselines"]):
        table.add_column(name, justify="right")
    for name, model in _models(facts):
        scores = [score["value"] for score in model["tasks"].values()]
        scores += [model["average"]["value"]] if facts["average"] else []
        wins = [f"{model['wins']} of {len(model['tasks'])}"] if "wins" in model else []
        table.add_row(name, *(f"{value:.4f}" for value in scores), *wins)
    return table


def _models(facts: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Candidate and baselines, with their names."""
    return [(facts["candidate"], facts), *((b["name"], b) for b in facts["baselines"])]


def _title(facts: dict[str, Any]) -> str:
    return f"Suite {facts['suite']}" if facts["suite"] else "Comparison"


def _settings(facts: dict[str, Any]) -> str:
    settings = facts["settings"]
    shots = settings["num_fewshot"]
    shots = "each task's own number of" if shots is None else shots
    limit = f", first {settings['limit']} items of each task" if settings["limit"] else ""
    return (
        f"lm-eval {facts['lm_eval']}, {shots} solved examples, "
        f"{'with' if settings['bos'] else 'without'} BOS, {settings['dtype']}, "
        f"seed {settings['seed']}{limit}; the same for all models."
    )


def _score_rows(facts: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    """Head, candidate, baselines."""
    average = ("average",) if facts["average"] else ()
    heads = [f"{task} {score['metric']}" for task, score in facts["tasks"].items()]
    yield ("model", *heads, *average)
    for name, model in _models(facts):
        mean = (_score(model["average"]),) if average else ()
        yield (name, *(_score(score) for score in model["tasks"].values()), *mean)


def _score(score: dict[str, Any]) -> str:
    if score["stderr"] is None:
        return f"{score['value']:.4f}"
    return f"{score['value']:.4f} ± {score['stderr']:.4f}"


def _win_rows(facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    for rival in facts["baselines"]:
        yield rival["name"], f"{rival['wins']}/{len(rival['tasks'])}", f"{rival['win_rate']:.0%}"


def _difference_rows(facts: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield ("baseline", *facts["tasks"])
    for rival in facts["baselines"]:
        yield (rival["name"], *(_difference(s["difference"]) for s in rival["tasks"].values()))


def _difference(found: dict[str, Any] | None) -> str:
    if found is None:
        return "–"
    star = " *" if found["p"] < 0.05 else ""
    return f"{found['value']:+.4f} ± {found['stderr']:.4f}{star}"


def _grid(rows: list[tuple[str, ...]]) -> list[str]:
    head, *rest = ("| " + " | ".join(row) + " |" for row in rows)
    rule = "|---|" + "---:|" * (len(rows[0]) - 1)
    return [head, rule, *rest]
