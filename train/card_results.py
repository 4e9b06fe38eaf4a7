"""The card's sections about results: held-out loss, scores, samples, how to repeat them."""

from train.card_baselines import baseline_blocks, style_of
from train.card_clean import clean_blocks
from train.card_content import (
    Block,
    Code,
    Line,
    Paragraph,
    Sample,
    Score,
    Section,
    Tile,
    bullets,
    cell,
    line,
    section,
    table,
)
from train.card_data import total
from train.card_recipe import parameters
from train.facts import Evidence, Fact, pointer

_HELD_OUT = "run/eval/heldout.json"
_GROUPS = "run/eval/groups.json"


def held_out_section(evidence: Evidence) -> Section | None:
    """Loss, perplexity and bits per byte per source, and why that is held out."""
    sources = [
        (name, pointer("sources", name)) for name in evidence.raw(_HELD_OUT, "/sources") or {}
    ]
    rows = [
        (
            cell(name),
            cell(evidence.fact(_HELD_OUT, f"{at}/tokens", "count")),
            cell(evidence.fact(_HELD_OUT, f"{at}/bytes_utf8", "count")),
            cell(evidence.fact(_HELD_OUT, f"{at}/loss", "float3")),
            cell(evidence.fact(_HELD_OUT, f"{at}/perplexity", "float2")),
            cell(evidence.fact(_HELD_OUT, f"{at}/bits_per_byte", "float3")),
            cell(evidence.fact(_HELD_OUT, f"{at}/unigram_entropy", "float3")),
        )
        for name, at in [*sources, ("all", "/all")]
    ]
    headers = (
        "source",
        "tokens",
        "bytes",
        "loss",
        "perplexity",
        "bits per byte",
        "unigram entropy",
    )
    proof = line(
        "Of the ",
        evidence.fact(_HELD_OUT, "/never_trained/held_out_documents", "count"),
        " held-out documents, ",
        evidence.fact(_HELD_OUT, "/never_trained/held_out_documents_in_train", "count"),
        " have the content hash of one of the ",
        evidence.fact(_HELD_OUT, "/never_trained/train_documents", "count"),
        " documents the plan reads. Of the ledger's ",
        evidence.fact(_HELD_OUT, "/never_trained/ledger_steps", "count"),
        " steps, ",
        evidence.fact(_HELD_OUT, "/never_trained/ledger_steps_not_as_planned", "count"),
        " read something else than the plan says. Held out, as hashes, plan and ledger show: ",
        evidence.fact(_HELD_OUT, "/never_trained/proved", "yes"),
        ".",
    )
    return section("Held-out loss", table(headers, rows) if sources else (), bullets(proof))


def benchmark_tasks(evidence: Evidence) -> list[str]:
    """Tasks with a result file."""
    folder = evidence.roots["run"] / "eval"
    found = sorted(path.stem for path in folder.glob("*.json"))
    return [t for t in found if evidence.raw(f"run/eval/{t}.json", "/metrics") is not None]


def scores(evidence: Evidence) -> tuple[Score, ...]:
    """Every benchmark's headline score, for the hub's model index."""
    found = []
    for task in benchmark_tasks(evidence):
        file = f"run/eval/{task}.json"
        metric = evidence.raw(file, "/headline")
        value = evidence.fact(file, f"/metrics/{metric}/value", "float4")
        if value is not None:
            partial = evidence.raw(file, "/items/scored") != evidence.raw(file, "/items/in_split")
            split = str(evidence.raw(file, "/data/split"))
            found.append(Score(task, split, metric, value, partial))
    return tuple(found)


def benchmark_section(evidence: Evidence) -> Section | None:
    """lm-eval's scores with standard errors, and what they were scored on."""
    rows = [
        _metric_row(evidence, task, metric)
        for task in benchmark_tasks(evidence)
        for metric in evidence.raw(f"run/eval/{task}.json", "/metrics")
    ]
    headers = ("task", "metric", "score ± standard error", "chance", "shots", "items", "split")
    first = next(iter(benchmark_tasks(evidence)), None)
    version = evidence.fact(f"run/eval/{first}.json", "/lm_eval") if first else None
    note = line("Scored with lm-eval ", version, "; shots are solved examples before each item.")
    return section(
        "Benchmarks",
        table(headers, rows),
        bullets(note),
        _group_blocks(evidence),
        baseline_blocks(evidence),
        clean_blocks(evidence),
    )


def _group_blocks(evidence: Evidence) -> tuple[Block, ...]:
    """Means over lm-eval's groups of tasks."""
    groups = evidence.raw(_GROUPS, "/groups") or {}
    rows = [
        _group_row(evidence, name, metric)
        for name, group in groups.items()
        for metric in group["metrics"]
    ]
    headers = ("group", "metric", "mean ± standard error", "items")
    note = line("Means of groups are those of lm-eval, mostly weighted by the tasks' sizes.")
    return (*table(headers, rows), *bullets(note)) if rows else ()


def _group_row(evidence: Evidence, name: str, metric: str) -> tuple[Line, ...]:
    at, style = pointer("groups", name, "metrics", metric), style_of(metric)
    value, error = (evidence.fact(_GROUPS, f"{at}/{key}", style) for key in ("value", "stderr"))
    items, whole = (
        evidence.fact(_GROUPS, pointer("groups", name, key), "count")
        for key in ("items", "in_split")
    )
    partial = items is not None and whole is not None and items.value < whole.value
    return (
        cell(name),
        cell(metric),
        cell(value, " ± ", error) or cell(value),
        cell(items, " of ", whole) if partial else cell(items),
    )


def _metric_row(evidence: Evidence, task: str, metric: str) -> tuple[Line, ...]:
    file, at = f"run/eval/{task}.json", pointer("metrics", metric)
    fraction = style_of(metric) == "percent"
    style = style_of(metric)
    value, error = (evidence.fact(file, f"{at}/{key}", style) for key in ("value", "stderr"))
    scored = evidence.fact(file, "/items/scored", "count")
    in_split = evidence.fact(file, "/items/in_split", "count")
    whole = evidence.raw(file, "/items/scored") == evidence.raw(file, "/items/in_split")
    split, meant = (evidence.fact(file, f"/data/{key}") for key in ("split", "scored_split"))
    same = split is not None and meant is not None and split.value == meant.value
    return (
        cell(task),
        cell(metric),
        cell(value, " ± ", error) or cell(value),
        cell(evidence.fact(file, "/chance", style) if fraction else None),
        cell(evidence.fact(file, "/settings/num_fewshot")),
        cell(scored) if whole else cell("first ", scored, " of ", in_split),
        cell(split) if same else cell(split, " (lm-eval scores ", meant, ")"),
    )


def sample_section(evidence: Evidence) -> Section | None:
    """What the model writes."""
    file = "run/eval/generations.json"
    settings = line(
        "Drawn at temperature ",
        evidence.fact(file, "/settings/temperature"),
        " from the ",
        evidence.fact(file, "/settings/top_k"),
        " likeliest tokens, seed ",
        evidence.fact(file, "/settings/seed"),
        "; not chosen by hand.",
    )
    samples = evidence.raw(file, "/samples") or []
    shown = tuple(Sample(s["prompt"], s["text"], s["source"]) for s in samples)
    return section("Samples", shown, (Paragraph(settings),) if settings else ())


def reproduce_section(evidence: Evidence) -> Section | None:
    """Ids, commit, machine, packages."""
    file = "run/environment.json"
    packages = evidence.raw(file, "/packages") or {}
    versions: list[str | Fact | None] = []
    for name in packages:
        versions += [f"{name} ", evidence.fact(file, pointer("packages", name)), ", "]
    facts = bullets(
        line("Dataset id ", evidence.fact("dataset/manifest.json", "/dataset_id")),
        line("Plan id ", evidence.fact("run/plan.json", "/plan_id")),
        line("Commit ", evidence.fact(file, "/git_commit")),
        line(
            "Device ",
            evidence.fact(file, "/device"),
            ", ranks ",
            evidence.fact(file, "/world_size"),
        ),
        line("Python ", evidence.fact(file, "/python"), ", ", *versions[:-1]) if versions else None,
    )
    commands = "tally train RUN/config.yaml\ntally ledger RUN --verify\ntally card RUN --verify"
    return section("Reproduce and check", facts, (Code(commands),) if facts else ())


def tiles(evidence: Evidence) -> tuple[Tile, ...]:
    """The figures at the top of the page."""
    wanted = [
        ("parameters", line(parameters(evidence))),
        ("training tokens", line(total(evidence, "tokens"))),
        ("of them unique", line(total(evidence, "unique_tokens"))),
        ("held-out bits per byte", line(evidence.fact(_HELD_OUT, "/all/bits_per_byte", "float3"))),
        ("held-out loss", line(evidence.fact(_HELD_OUT, "/all/loss", "float3"))),
        ("unigram entropy", line(evidence.fact(_HELD_OUT, "/all/unigram_entropy", "float3"))),
    ]
    return tuple(Tile(label, found) for label, found in wanted if found)
