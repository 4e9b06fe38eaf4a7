"""The card's sections about the model's shape and how it was trained, with curves and costs."""

from typing import Any

from train.card_content import (
    Block,
    Line,
    Paragraph,
    Section,
    bullets,
    cell,
    line,
    section,
    table,
)
from train.card_cost import cost_note, cost_rows
from train.card_data import sources, total
from train.curves import Series, figure, moving_average
from train.facts import Evidence, Fact, pointer

_CONFIG, _METRICS, _PLAN = "run/config.yaml", "run/metrics.jsonl", "run/plan.json"
_HELD_OUT, _EXPORT, _ORIGIN = "run/eval/heldout.json", "run/export/export.json", "run/origin.json"
Rows = list[tuple[str, Fact | None]]


def model_file(evidence: Evidence) -> str:
    """Where the shape of the model is that the results speak of: a run may have grown."""
    steps = [evidence.raw(file, "/model/step") for file in (_HELD_OUT, _EXPORT)]
    names = [f"step_{step:06d}" for step in steps if step is not None]
    folder = evidence.roots["run"] / "checkpoints"
    names += sorted((path.parent.name for path in folder.glob("step_*/state.json")), reverse=True)
    for name in names:
        if (folder / name / "state.json").is_file():
            return f"run/checkpoints/{name}/state.json"
    return _CONFIG


def parameters(evidence: Evidence, style: str = "short") -> Fact | None:
    """Parameters of the model, the tied matrix counted once."""
    return evidence.fact(_HELD_OUT, "/model/parameters", style) or evidence.fact(
        _EXPORT, "/parameters", style
    )


def model_section(evidence: Evidence) -> Section | None:
    """Shape of the decoder, its switches where they are on, the export."""
    file = model_file(evidence)

    def shape(key: str, style: str = "text") -> Fact | None:
        return evidence.fact(file, f"/model/{key}", style)

    rows: Rows = [
        ("parameters", parameters(evidence, "count")),
        ("without embedding and head", evidence.fact(file, "parameters/non_embedding", "count")),
        ("layers", shape("num_layers")),
        ("width", shape("d_model")),
        ("query heads", shape("num_heads")),
        ("key and value heads", shape("num_kv_heads")),
        ("width of a head", shape("head_dim")),
        ("feed-forward", shape("ffn")),
        ("feed-forward width", shape("ffn_dim")),
        ("vocabulary", shape("vocab_size", "count")),
        ("context", shape("max_seq_len", "count")),
        ("tied embeddings", shape("tie_embeddings", "yes")),
        ("rotary base", shape("rope_theta", "count")),
        ("latent of keys and values", shape("mla/latent_dim")),
        ("short window", shape("short_window", "count")),
        ("pattern of windows", shape("windows") if shape("short_window") else None),
        ("gain of normed queries and keys", shape("qk_norm_gain")),
        ("cap of the logits", shape("logit_cap")),
        ("nanochat's smear, channels", shape("nanochat/smear_channels")),
    ]
    return section("Model", _pairs(rows), bullets(_origin(evidence), _exported(evidence)))


def _pairs(rows: Rows) -> tuple[Block, ...]:
    return table(("", "value"), [(cell(name), cell(fact)) for name, fact in rows if fact])


def origin_line(evidence: Evidence) -> Line | None:
    """Whose weights the run began with; None where it began with random ones."""
    name, revision = evidence.fact(_ORIGIN, "/model"), evidence.fact(_ORIGIN, "/revision")
    return line(name, " at revision ", revision) or line(name)


def _origin(evidence: Evidence) -> Line | None:
    words = origin_line(evidence)
    if words is None:
        return None
    return (
        "Training went on from the weights of ",
        *words,
        "; what those had read is not counted here.",
    )


def _exported(evidence: Evidence) -> Line | None:
    return line(
        "The Hugging Face export is a ",
        evidence.fact(_EXPORT, "/architecture"),
        "; loaded back, its logits differed from the trainer's by at most ",
        evidence.fact(_EXPORT, "/max_logit_difference", "scientific"),
        " over ",
        evidence.fact(_EXPORT, "/tokens_compared", "count"),
        " held-out tokens.",
    )


def training_section(evidence: Evidence) -> Section | None:
    """Recipe, phases, curves, speed, costs."""
    rows: Rows = [
        ("steps", evidence.fact(_METRICS, "count", "count")),
        ("targets a window", evidence.fact(_PLAN, "/plan/seq_len", "count")),
        ("tokens", total(evidence, "tokens", "count")),
        ("unique tokens", total(evidence, "unique_tokens", "count")),
        ("tokens per parameter", _per_parameter(evidence, "tokens")),
        ("unique tokens per parameter", _per_parameter(evidence, "unique_tokens")),
        ("peak learning rate, AdamW", evidence.fact(_CONFIG, "/optimizer/lr", "scientific")),
        ("peak learning rate, Muon", evidence.fact(_CONFIG, "/optimizer/muon/lr", "scientific")),
        ("betas", evidence.fact(_CONFIG, "/optimizer/betas", "list")),
        ("weight decay", evidence.fact(_CONFIG, "/optimizer/weight_decay")),
        ("weight decay, Muon", evidence.fact(_CONFIG, "/optimizer/muon/weight_decay")),
        ("clipped to norm", evidence.fact(_CONFIG, "/optimizer/max_grad_norm")),
        ("schedule", evidence.fact(_CONFIG, "/schedule/shape")),
        ("warm-up steps", evidence.fact(_CONFIG, "/schedule/warmup_steps", "count")),
        ("seed of the weights", evidence.fact(_CONFIG, "/seed")),
        ("seed of the data order", evidence.fact(_PLAN, "/plan/seed")),
        ("precision", evidence.fact(_CONFIG, "/engine/precision")),
        ("ZeRO stage", evidence.fact(_CONFIG, "/engine/zero_stage")),
        ("mean speed, tokens/s", evidence.fact(_METRICS, "mean/tokens_per_s", "short")),
        ("peak memory a rank, GiB", evidence.fact(_METRICS, "max/memory_gib", "float2")),
        *cost_rows(evidence),
        ("resumed from a checkpoint, times", evidence.fact("run/restarts.jsonl", "count", "count")),
        ("last training loss", evidence.fact(_METRICS, "last/loss", "float3")),
    ]
    note = cost_note(evidence)
    return section(
        "Training",
        _curves(evidence),
        _pairs(rows),
        (Paragraph(note),) if note else (),
        _phases(evidence),
    )


def _phases(evidence: Evidence) -> tuple[Block, ...]:
    """A row a phase: what it read, in which shares, and what changed with it."""
    names = [source.name for source in sources(evidence)]
    count = len(evidence.raw(_PLAN, "/plan/phases") or [])
    rows = [_phase(evidence, number, len(names)) for number in range(count)]
    changes = ("layers", "learning rate")
    return table(("phase", "steps", "tokens a step", *names, *changes), rows)


def _phase(evidence: Evidence, number: int, num_sources: int) -> tuple[Line, ...]:
    at = pointer("plan", "phases", number)
    seq_len = evidence.fact(_PLAN, f"{at}/seq_len", "count") or evidence.fact(
        _PLAN, "/plan/seq_len", "count"
    )
    windows = evidence.fact(_PLAN, f"{at}/batch_windows", "count")
    change = pointer("changes", str(evidence.raw(_PLAN, f"{at}/name")))
    return (
        cell(evidence.fact(_PLAN, f"{at}/name")),
        cell(evidence.fact(_PLAN, f"{at}/num_steps", "count")),
        cell(evidence.compute("multiply", windows, seq_len, style="count")),
        *(cell(evidence.fact(_PLAN, f"{at}/weights/{i}", "share")) for i in range(num_sources)),
        cell(evidence.fact(_CONFIG, f"{change}/num_layers")),
        cell(evidence.fact(_CONFIG, f"{change}/schedule/shape")),
    )


def _per_parameter(evidence: Evidence, field: str) -> Fact | None:
    return evidence.compute(
        "divide", total(evidence, field), parameters(evidence), style="significant"
    )


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
        figures.append(figure(speed, x_label, "tokens/s", ("Speed of every step, in tokens/s.",)))
    return tuple(figures)


def _loss_figure(
    evidence: Evidence, lines: list[dict[str, Any]], xs: list[float], x_label: str
) -> Block:
    losses = [entry["loss"] for entry in lines]
    span = max(1, len(losses) // 30)
    series = [
        Series("each step", "faint", xs, losses),
        Series(
            f"mean of {span}" if span > 1 else "each step",
            "strong",
            xs,
            moving_average(losses, span),
        ),
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
    return figure(series, x_label, "loss", caption)
