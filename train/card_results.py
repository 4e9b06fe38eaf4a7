"""The card's sections about the run: model, training, scores, samples, how to repeat it."""

from typing import Any

from train.card_content import (
    Block,
    Code,
    Figure,
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
from train.curves import Series, chart, moving_average
from train.facts import Evidence, Fact, pointer

_CONFIG, _METRICS = "run/config.yaml", "run/metrics.jsonl"
_HELD_OUT, _EXPORT = "run/eval/heldout.json", "run/export/export.json"
_WIDE, _NARROW = 720, 380


def parameters(evidence: Evidence, style: str = "short") -> Fact | None:
    """Parameters of the model, the tied matrix counted once."""
    return evidence.fact(_HELD_OUT, "/model/parameters", style) or evidence.fact(
        _EXPORT, "/parameters", style
    )


def model_section(evidence: Evidence) -> Section | None:
    """Shape of the decoder."""
    rows = [
        ("parameters", parameters(evidence, "count")),
        ("layers", evidence.fact(_CONFIG, "/model/num_layers")),
        ("width", evidence.fact(_CONFIG, "/model/d_model")),
        ("query heads", evidence.fact(_CONFIG, "/model/num_heads")),
        ("key and value heads", evidence.fact(_CONFIG, "/model/num_kv_heads")),
        ("feed-forward width", evidence.fact(_CONFIG, "/model/ffn_dim")),
        ("vocabulary", evidence.fact(_CONFIG, "/model/vocab_size", "count")),
        ("context", evidence.fact(_CONFIG, "/model/max_seq_len", "count")),
        ("tied embeddings", evidence.fact(_CONFIG, "/model/tie_embeddings", "yes")),
    ]
    shown = [(cell(name), cell(fact)) for name, fact in rows if fact is not None]
    exported = line(
        "The Hugging Face export is a ",
        evidence.fact(_EXPORT, "/architecture"),
        "; loaded back, its logits differed from the trainer's by at most ",
        evidence.fact(_EXPORT, "/max_logit_difference", "scientific"),
        " over ",
        evidence.fact(_EXPORT, "/tokens_compared", "count"),
        " held-out tokens.",
    )
    return section("Model", table(("", "value"), shown), bullets(exported))


def training_section(evidence: Evidence) -> Section | None:
    """Recipe, curves, speed."""
    rows = [
        ("steps", evidence.fact(_METRICS, "count", "count")),
        ("targets a window", evidence.fact("run/plan.json", "/plan/seq_len", "count")),
        ("tokens", total(evidence, "tokens", "count")),
        ("unique tokens", total(evidence, "unique_tokens", "count")),
        ("tokens per parameter", _per_parameter(evidence, "tokens")),
        ("unique tokens per parameter", _per_parameter(evidence, "unique_tokens")),
        ("peak learning rate", evidence.fact(_CONFIG, "/optimizer/lr", "scientific")),
        ("weight decay", evidence.fact(_CONFIG, "/optimizer/weight_decay")),
        ("schedule", evidence.fact(_CONFIG, "/schedule/shape")),
        ("precision", evidence.fact(_CONFIG, "/engine/precision")),
        ("ZeRO stage", evidence.fact(_CONFIG, "/engine/zero_stage")),
        ("mean speed, tokens/s", evidence.fact(_METRICS, "mean/tokens_per_s", "short")),
        ("time in steps, s", evidence.fact(_METRICS, "sum/step_s", "count")),
        ("peak memory a rank, GiB", evidence.fact(_METRICS, "max/memory_gib", "float2")),
        ("resumed from a checkpoint, times", evidence.fact("run/restarts.jsonl", "count", "count")),
        ("last training loss", evidence.fact(_METRICS, "last/loss", "float3")),
    ]
    shown = [(cell(name), cell(fact)) for name, fact in rows if fact is not None]
    return section("Training", _curves(evidence), table(("", "value"), shown))


def _per_parameter(evidence: Evidence, field: str) -> Fact | None:
    return evidence.compute("divide", total(evidence, field), parameters(evidence), style="float2")


def _curves(evidence: Evidence) -> tuple[Block, ...]:
    lines: list[dict[str, Any]] = evidence.raw(_METRICS) or []
    if len(lines) < 2:
        return ()
    tokens = [entry.get("tokens", entry["step"] + 1) for entry in lines]
    x_label = "training tokens" if "tokens" in lines[0] else "steps"
    figures: list[Block] = [_loss_figure(evidence, lines, tokens, x_label)]
    if "tokens_per_s" in lines[0]:
        rates = [entry["tokens_per_s"] for entry in lines]
        speed = [Series("tokens/s", "strong", tokens, rates)]
        figures.append(_figure(speed, x_label, "tokens/s", ("Speed of every step, in tokens/s.",)))
    return tuple(figures)


def _loss_figure(
    evidence: Evidence, lines: list[dict[str, Any]], xs: list[float], x_label: str
) -> Block:
    losses = [entry["loss"] for entry in lines]
    span = max(1, len(losses) // 30)
    series = [
        Series("each step", "faint", xs, losses),
        Series(f"mean of {span}", "strong", xs, moving_average(losses, span)),
    ][1 if span == 1 else 0 :]
    held = [
        (x, entry["val_loss"]) for x, entry in zip(xs, lines, strict=True) if "val_loss" in entry
    ]
    if held:
        means = [sum(v.values()) / len(v) for _, v in held if v]
        series.append(Series("held out", "points", [x for x, v in held if v], means))
    entropy = evidence.fact(_HELD_OUT, "/all/unigram_entropy", "float2")
    caption: Line = ("Loss in nats a token.",)
    if entropy is not None:
        series.append(Series("unigram", "level", [], [entropy.value]))
        caption = (
            "Loss in nats a token. Unigram is the entropy of the held-out tokens' frequencies (",
            entropy,
            "): the best that a model without context could do on them.",
        )
    return _figure(series, x_label, "loss", caption)


def _figure(series: list[Series], x_label: str, y_label: str, caption: Line) -> Figure:
    return Figure(
        wide=chart(series, x_label, y_label, _WIDE),
        narrow=chart(series, x_label, y_label, _NARROW),
        caption=caption,
    )


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
    headers = ("task", "metric", "score ± standard error", "chance", "items", "split")
    version = next(iter(benchmark_tasks(evidence)), None)
    note = (
        line(
            "Scored with lm-eval ",
            evidence.fact(f"run/eval/{version}.json", "/lm_eval"),
            ", ",
            evidence.fact(f"run/eval/{version}.json", "/settings/num_fewshot"),
            "-shot, on local copies of the benchmarks.",
        )
        if version
        else None
    )
    return section("Benchmarks", table(headers, rows), bullets(note))


def _metric_row(evidence: Evidence, task: str, metric: str) -> tuple[Line, ...]:
    file, at = f"run/eval/{task}.json", pointer("metrics", metric)
    fraction = metric.startswith(("acc", "exact_match", "f1"))
    style = "percent" if fraction else "float3"
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
