"""A look at the model: sampled continuations with a fixed seed.

    RUN/eval/generations.json

Without prompts the beginnings of held-out documents are continued, one of each source.
"""

from pathlib import Path
from typing import Any

import torch
from pydantic import NonNegativeFloat, NonNegativeInt, PositiveInt

from configs.base import Section
from configs.terminal import progress
from shards.atomic import write_json_atomic
from train.evaluate import Subject, load_subject
from train.run_data import run_datasets, run_plan

_PROMPT_TOKENS = 24


class SamplingSettings(Section):
    """How continuations are drawn."""

    max_new_tokens: PositiveInt = 80
    temperature: NonNegativeFloat = 0.8
    """0 takes the most probable token always."""
    top_k: PositiveInt = 50
    """Only so many most probable tokens are drawn from."""
    seed: NonNegativeInt = 1234


def generate_run(
    run_dir: Path, prompts: list[str], settings: SamplingSettings, step: int | None = None
) -> dict[str, Any]:
    """Continue prompts and write RUN/eval/generations.json.

    Args:
        run_dir: the RUN directory.
        prompts: texts to continue; beginnings of held-out documents where there are none.
        settings: how to draw.
        step: which checkpoint; the newest by default.
    """
    subject = load_subject(run_dir, step)
    entries = [{"source": "user", "prompt": text} for text in prompts] or held_out_prompts(run_dir)
    with progress("generating", len(entries), "texts") as bar:
        for number, entry in enumerate(entries):
            entry["text"] = continue_text(subject, entry["prompt"], settings, number)
            bar.advance()
    result = {
        "model": subject.described(),
        "settings": settings.model_dump(),
        "samples": entries,
    }
    write_json_atomic(run_dir / "eval" / "generations.json", result)
    return result


def held_out_prompts(run_dir: Path) -> list[dict[str, str]]:
    """The beginning of the longest held-out document of every source."""
    prompts = []
    for source in run_plan(run_dir).sources:
        dataset = run_datasets(run_dir)[source.name]
        if "val" in dataset.manifest.sources[source.source].splits:
            stream = dataset.stream(source.source, "val")
            first = stream.documents().sort("token_count", descending=True).row(0, named=True)
            start = first["token_start"]
            ids = stream.tokens(start, start + min(_PROMPT_TOKENS, first["token_count"] - 1))
            text = dataset.tokenizer().decode(ids.tolist())
            prompts.append({"source": source.name, "prompt": text})
    return prompts


@torch.inference_mode()
def continue_text(subject: Subject, prompt: str, settings: SamplingSettings, number: int) -> str:
    """One continuation; `number` gives every prompt a random stream of its own."""
    generator = torch.Generator().manual_seed(settings.seed + number)
    device = next(subject.model.parameters()).device
    limit = subject.model.config.max_seq_len
    # EOS first: the model saw every document behind one.
    ids = [subject.eos_id, *subject.tokenizer.encode(prompt, add_special_tokens=False).ids]
    start = len(ids)
    for _ in range(settings.max_new_tokens):
        logits_V = subject.model(torch.tensor([ids[-limit:]], device=device))[0, -1].float().cpu()
        token = draw(logits_V, settings, generator)
        if token == subject.eos_id:
            break
        ids.append(token)
    text: str = subject.tokenizer.decode(ids[start:])
    return text


def draw(logits_V: torch.Tensor, settings: SamplingSettings, generator: torch.Generator) -> int:
    """One token from the `top_k` most probable at the given temperature."""
    values, tokens = logits_V.topk(min(settings.top_k, len(logits_V)))
    if settings.temperature == 0:
        return int(tokens[0])
    probabilities = (values / settings.temperature).softmax(-1)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])
