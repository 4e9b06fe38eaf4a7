"""Scores and held-out losses as tables on the terminal."""

from typing import Any

from rich.table import Table

from configs.terminal import console


def print_scores(results: list[dict[str, Any]]) -> None:
    """One row a task: headline metric, standard error, chance, what it was scored on."""
    table = Table("task", "metric", title="Benchmarks", title_justify="left")
    for name in ("score", "± stderr", "chance", "items"):
        table.add_column(name, justify="right")
    table.add_column("split")
    for result in results:
        metric = result["metrics"][result["headline"]]
        items = result["items"]
        in_part = items["scored"] < items["in_split"]
        table.add_row(
            result["task"],
            result["headline"],
            f"{metric['value']:.4f}",
            "" if metric["stderr"] is None else f"{metric['stderr']:.4f}",
            "" if result["chance"] is None else f"{result['chance']:.4f}",
            f"first {items['scored']} of {items['in_split']}" if in_part else f"{items['scored']}",
            _split(result["data"]),
        )
    console.print(table)
    for result in results:
        _print_cut(result["task"], result["items"])


def print_groups(groups: dict[str, Any]) -> None:
    """One row a group and metric: the mean over its tasks."""
    table = Table("group", "metric", title="Means of groups", title_justify="left")
    for name in ("score", "± stderr", "tasks", "items"):
        table.add_column(name, justify="right")
    table.add_column("weights")
    for name, group in groups.items():
        for metric, found in group["metrics"].items():
            stderr = found["stderr"]
            table.add_row(
                name,
                metric,
                f"{found['value']:.4f}",
                "" if stderr is None else f"{stderr:.4f}",
                str(len(group["tasks"])),
                f"{group['items']:,}",
                "items" if found["weighted_by_size"] else "equal",
            )
    if table.row_count:
        console.print(table)


def _print_cut(task: str, items: dict[str, int]) -> None:
    if items["left_truncated"]:
        console.print(
            f"{task}: {items['left_truncated']:,} requests lost the beginning of their context"
        )
    if items["longer_than_context"]:
        console.print(
            f"{task}: {items['longer_than_context']:,} answers are longer than the model's "
            "context and were scored in windows"
        )


def _split(data: dict[str, str]) -> str:
    if data["split"] == data["scored_split"]:
        return data["split"]
    return f"{data['split']} (lm-eval scores {data['scored_split']})"


def print_heldout(result: dict[str, Any]) -> None:
    """One row a source, and whether the split is proved to be held out."""
    table = Table("source", title="Held out", title_justify="left")
    for name in ("tokens", "bytes", "loss", "perplexity", "bits per byte", "unigram entropy"):
        table.add_column(name, justify="right")
    for name, row in [*result["sources"].items(), ("all", result["all"])]:
        table.add_row(
            name,
            f"{row['tokens']:,}",
            f"{row['bytes_utf8']:,}",
            f"{row['loss']:.3f}",
            f"{row['perplexity']:.2f}",
            f"{row['bits_per_byte']:.3f}",
            f"{row['unigram_entropy']:.3f}",
        )
    console.print(table)
    proof = result["never_trained"]
    console.print(
        f"{proof['held_out_documents_in_train']:,} of {proof['held_out_documents']:,} held-out "
        f"documents are among the {proof['train_documents']:,} trained on; of the ledger's "
        f"{proof['ledger_steps']} steps {proof['ledger_steps_not_as_planned']} read something else "
        f"than planned: {'proved' if proof['proved'] else 'NOT proved'} to be held out"
    )


def print_clean(scores: list[dict[str, Any]]) -> None:
    """A row a task and metric: all, clean and contaminated items, and their difference."""
    from contamination.score_tables import HEAD, main_rows

    table = Table(title="Clean and contaminated items", title_justify="left")
    for number, name in enumerate(HEAD):
        table.add_column(name, justify="left" if number < 2 else "right")
    for row in main_rows(scores, intervals=False):
        table.add_row(*row)
    console.print(table)
