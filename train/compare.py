"""Runs side by side: scores, curves over tokens and unique tokens, and what differs in settings.

DIR/comparison.html    for people
DIR/comparison.json    the same figures, with the file and key of each
"""

from collections.abc import Mapping
from pathlib import Path

from configs.outputs import require_place
from configs.terminal import console
from shards.atomic import write_json_atomic, write_text_atomic
from train.card_content import Block, Card, Line, Paragraph, Section, cell, section, table
from train.card_page import render_page
from train.compare_data import data_section, dataset_roots, leaves
from train.curves import Series, figure, moving_average
from train.errors import TrainError
from train.facts import Evidence, Fact, pointer
from train.matrix import Arm, expand, factor_rows, print_arms, read_arms, rows, seed_rows, to_json

_FOOTER = "Every figure was read from a file of its run; point at one to see which."


def compare_runs(run_dirs: list[Path], output: Path) -> Path:
    """Write a comparison of runs into a folder.

    Args:
        run_dirs: at least two RUN directories; an experiment's directory stands for its runs.
        output: folder for the pages.

    Raises:
        TrainError: fewer than two runs, or a directory that is none.
    """
    run_dirs = expand(run_dirs)
    if len(run_dirs) < 2:
        raise TrainError("a comparison needs two runs or more: tally compare RUN RUN ...")
    for path in run_dirs:
        if not (path / "config.yaml").is_file():
            raise TrainError(f"{path}: no config.yaml; is this a run of `tally train`?")
    runs = dict(zip(run_names(run_dirs), run_dirs, strict=True))
    evidence = Evidence(runs | dataset_roots(runs))
    arms = read_arms(runs)
    require_place(output)
    sections = [
        _arms(arms),
        _results(evidence, runs),
        _curve_section(evidence, runs),
        data_section(evidence, runs),
        _differences(evidence, runs),
    ]
    card = Card(
        kicker="Comparison",
        title=" · ".join(runs),
        summary=(f"{len(run_dirs)} runs side by side.",),
        tiles=(),
        sections=tuple(found for found in sections if found is not None),
        scores=(),
        footer=_FOOTER,
    )
    write_text_atomic(output / "comparison.html", render_page(card))
    facts = [
        {"value": fact.value, "shown": fact.shown, "receipt": dict(fact.receipt)}
        for fact in evidence.facts.values()
    ]
    places = {name: str(path.resolve()) for name, path in evidence.roots.items()}
    found = {"runs": list(runs), "roots": places, **to_json(arms), "facts": facts}
    write_json_atomic(output / "comparison.json", found)
    print_arms(arms, console)
    return output


def run_names(run_dirs: list[Path]) -> list[str]:
    """A different name for every run: its folder's, with parents where folders share a name."""
    parts = [path.resolve().parts for path in run_dirs]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["-".join(p[-length:]).strip("/") for p in parts]
        if len(set(names)) == len(names):
            return names
    raise TrainError("the same run is named twice; name different ones")


def _arms(arms: list[Arm]) -> Section | None:
    """Mean and standard deviation over seeds, and the matrix of two factors, where there are."""
    matrix = factor_rows(arms)
    if matrix is None and all(len(arm.runs) == 1 for arm in arms) and len(arms) > 2:
        return None
    note = Paragraph(("Mean ± standard deviation over seeds, their number in brackets.",))
    seeds = seed_rows(arms)
    return section(
        "Arms",
        _texts(rows(arms)),
        _texts(matrix) if matrix else (),
        [note],
        _texts(seeds) if seeds else (),
    )


def _texts(found: tuple[list[str], list[list[str]]]) -> tuple[Block, ...]:
    headings, body = found
    return table(headings, [tuple((text,) for text in row) for row in body])


def _results(evidence: Evidence, runs: Mapping[str, Path]) -> Section | None:
    tasks = sorted(
        {
            path.stem
            for name, root in runs.items()
            for path in (root / "eval").glob("*.json")
            if evidence.raw(f"{name}/eval/{path.stem}.json", "/headline")
        }
    )
    headers = ("run", "parameters", "tokens", "unique", "held-out loss", "bits per byte", *tasks)
    rows = [
        (
            cell(name),
            cell(evidence.fact(f"{name}/eval/heldout.json", "/model/parameters", "short")),
            cell(evidence.fact(f"{name}/metrics.jsonl", "last/tokens", "short")),
            cell(evidence.fact(f"{name}/metrics.jsonl", "last/unique_tokens", "short")),
            cell(evidence.fact(f"{name}/eval/heldout.json", "/all/loss", "float3")),
            cell(evidence.fact(f"{name}/eval/heldout.json", "/all/bits_per_byte", "float3")),
            *(_score(evidence, name, task) for task in tasks),
        )
        for name in runs
    ]
    return section("Results", table(headers, rows))


def _score(evidence: Evidence, name: str, task: str) -> Line:
    """Headline score with its standard error and the number of items."""
    file = f"{name}/eval/{task}.json"
    metric = pointer("metrics", evidence.raw(file, "/headline") or "")
    value = evidence.fact(file, f"{metric}/value", "percent")
    error = evidence.fact(file, f"{metric}/stderr", "percent")
    items = evidence.fact(file, "/items/scored", "count")
    return cell(value, " ± ", error, " (", items, ")") or cell(value)


def _curve_section(evidence: Evidence, runs: Mapping[str, Path]) -> Section | None:
    blocks: list[Block] = []
    for column, x_label in (("tokens", "training tokens"), ("unique_tokens", "unique tokens")):
        series = [
            found
            for tone, name in enumerate(runs)
            if (found := _curve(evidence, name, column, tone)) is not None
        ]
        if series:
            caption = f"Training loss in nats a token over {x_label}, smoothed."
            blocks.append(figure(series, x_label, "loss", (caption,)))
    return section("Curves", blocks)


def _curve(evidence: Evidence, name: str, column: str, tone: int) -> Series | None:
    lines = [entry for entry in evidence.raw(f"{name}/metrics.jsonl") or [] if column in entry]
    if len(lines) < 2:
        return None
    losses = moving_average([entry["loss"] for entry in lines], max(1, len(lines) // 30))
    return Series(name, "strong", [entry[column] for entry in lines], losses, tone)


def _differences(evidence: Evidence, runs: Mapping[str, Path]) -> Section | None:
    """Settings and plans that are not equal in all runs."""
    names = list(runs)
    keys: dict[tuple[str, str], None] = {("plan.json", "/plan_id"): None}
    for name in names:
        keys |= {("config.yaml", key): None for key in leaves(evidence.raw(f"{name}/config.yaml"))}
    rows = []
    for file, key in keys:
        facts = [evidence.fact(f"{name}/{file}", key) for name in names]
        if len({None if fact is None else str(fact.value) for fact in facts}) > 1:
            rows.append((cell(key.strip("/").replace("/", ".")), *map(_or_unset, facts)))
    if not rows:
        nothing = Paragraph(("Nothing: settings and plans are equal.",))
        return section("What differs", [nothing])
    return section("What differs", table(("setting", *names), rows))


def _or_unset(fact: Fact | None) -> Line:
    return ("–",) if fact is None else (fact,)
