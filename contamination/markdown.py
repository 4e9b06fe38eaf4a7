"""audit.md: a paragraph and tables for a model card, from the content of audit.json."""

from collections.abc import Sequence
from typing import Any

from configs.terminal import counted
from contamination.classic_tables import classic_markdown
from contamination.rules import CLASSES
from contamination.score_tables import GROUP_HEAD, HEAD, NOTE, group_rows, main_rows

MOST_TRAINED = 20
"""Items that are listed by how often a run trained on them."""


def recall(benchmarks: Sequence[dict[str, Any]], kind: str) -> float:
    """Recall of the self-test over some benchmarks of audit.json, planted in one way."""
    rows = [benchmark["self_test"][kind] for benchmark in benchmarks]
    found, planted = (sum(int(row[key]) for row in rows) for key in ("found", "planted"))
    return found / max(1, planted)


def markdown(facts: dict[str, Any]) -> str:
    """All of audit.md."""
    lines = [_paragraph(facts), "", *_table(facts), "", *_most_trained(facts)]
    lines += [*_scores(facts), *classic_markdown(facts)]
    lines += ["Not covered:", "", *(f"- {limit}" for limit in facts["limits"])]
    return "\n".join(lines) + "\n"


def _paragraph(facts: dict[str, Any]) -> str:
    corpus, totals, sets = facts["corpus"], facts["totals"], facts["benchmarks"]
    too_short = sum(benchmark["unauditable_items"] for benchmark in sets)
    chance = sum(benchmark["decoy_places"] for benchmark in sets)
    text = (
        f"The data ({counted(corpus['documents'], 'document')}, {corpus['words']:,} words, "
        f"`{corpus['digest'][:12]}`) was compared with {counted(totals['items'], 'item')} of "
        f"{counted(len(sets), 'benchmark')}. Found as question, answer or near copy: "
        f"{counted(totals['dirty_items'], 'item')} ({percent(totals)}), in "
        f"{counted(totals['dirty_documents'], 'document')}. As many decoys as items were looked "
        f"for too and found in {counted(chance, 'place')}, so of the "
        f"{counted(totals['dirty_places'], 'place')} at least that many are chance. "
        f"Of items planted for a test, {recall(sets, 'verbatim'):.0%} were found verbatim and "
        f"{recall(sets, '1 word in 10 replaced'):.0%} with one word in ten replaced. "
        f"Too short to be audited: {counted(too_short, 'item')}."
    )
    if totals["masked_items"]:
        text += (
            f" In the data but masked, so that no place of them gives a loss: "
            f"{counted(totals['masked_items'], 'item')}."
        )
    if facts["run"]:
        text += (
            f" Up to step {facts['run']['steps']:,} ({facts['run']['tokens']:,} tokens) the run "
            "trained on "
            f"{counted(totals['dirty_items_trained_on'], 'item')} of those found "
            f"({counted(totals['exposures'], 'exposure')}, {totals['share_of_tokens']:.2g} of its "
            f"tokens); present but never trained on: "
            f"{counted(totals['dirty_items_never_trained_on'], 'item')}."
        )
    return text


def percent(totals: dict[str, Any]) -> str:
    """Share of the items that are dirty; a finding never rounds to nothing."""
    share = totals["dirty_items"] / max(1, totals["items"])
    return "<0.01%" if 0 < share < 0.0001 else f"{share:.2%}"


_EXPOSURE_COLUMNS = ("dirty_items_trained_on", "exposures", "first_step", "last_step")


def _or_dash(value: int | None) -> int | str:
    return "–" if value is None else value


def _table(facts: dict[str, Any]) -> list[str]:
    run = facts["run"]
    head = ["benchmark", "items", "found", "share", *CLASSES, "documents", "too short", "decoys"]
    head += ["trained on", "exposures", "first step", "last step"] if run else []
    rows = [head, ["---", *["---:"] * (len(head) - 1)]]
    for benchmark in facts["benchmarks"]:
        row = [f"{benchmark['name']} ({benchmark['split']})", benchmark["items"]]
        row += [benchmark["dirty_items"], percent(benchmark)]
        row += [benchmark["items_by_class"][name] for name in CLASSES]
        row += [benchmark["dirty_documents"], benchmark["unauditable_items"]]
        row += [benchmark["decoy_places"]]
        row += [_or_dash(benchmark[key]) for key in _EXPOSURE_COLUMNS] if run else []
        rows.append([f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in row])
    return _lines(rows)


def _lines(rows: Sequence[Sequence[str]]) -> list[str]:
    cells = ([" ".join(cell.replace("|", "\\|").split()) for cell in row] for row in rows)
    return ["| " + " | ".join(row) + " |" for row in cells]


def most_trained(facts: dict[str, Any]) -> list[dict[str, Any]]:
    """The items that a run trained on most often; none without a run."""
    seen = [row for row in facts["items"] if row["dirty"] and row["exposure"]]
    seen = [row for row in seen if row["exposure"]["times"]]
    seen.sort(key=lambda row: (-row["exposure"]["times"], row["benchmark"], row["id"]))
    return seen[:MOST_TRAINED]


def _most_trained(facts: dict[str, Any]) -> list[str]:
    rows = [["benchmark", "item", "class", "times", "first step", "last step"]]
    rows.append(["---", "---", "---", "---:", "---:", "---:"])
    for row in most_trained(facts):
        seen = row["exposure"]
        steps = [f"{seen[key]:,}" for key in ("times", "first_step", "last_step")]
        rows.append([row["benchmark"], row["id"], row["class"], *steps])
    return ["Trained on most often:", "", *_lines(rows), ""] if len(rows) > 2 else []


def _scores(facts: dict[str, Any]) -> list[str]:
    scores = facts["scores"]
    if not scores:
        return []
    rows = [HEAD, ("---", "---", *["---:"] * (len(HEAD) - 2)), *main_rows(scores)]
    groups = [GROUP_HEAD, ("---", "---", "---", "---:", "---:"), *group_rows(scores)]
    by_group = ["By class and exposure:", "", *_lines(groups), ""] if len(groups) > 2 else []
    return [f"Scores, with 95 % intervals. {NOTE}", "", *_lines(rows), "", *by_group]
