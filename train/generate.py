"""A look at the model: sampled continuations with a fixed seed.

    RUN/eval/generations.json

Without prompts the beginnings of held-out documents are continued, one of each source.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from configs.base import Section
from configs.terminal import progress
from shards.atomic import write_json_atomic
from shards.lock import held
from train.decoding import Chooser, Sampling, continue_rows
from train.errors import TrainError
from train.run_data import run_datasets, run_plan
from train.subject import Subject, load_subject

_PROMPT_TOKENS = 24
_ROWS = 16


class SamplingSettings(Section):
    """How continuations are drawn."""

    max_new_tokens: PositiveInt = 80
    temperature: NonNegativeFloat = 0.8
    """0 takes the most probable token always."""
    top_k: PositiveInt = 50
    """Only so many most probable tokens are drawn from."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Of these the fewest that together have at least this share of their probability."""
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

    Raises:
        TrainError: another process writes RUN/eval.
    """
    run_plan(run_dir)  # before a lock is made: a mistyped RUN shall not become a folder
    folder = run_dir / "eval"
    what = f"{folder}: `tally eval` or another `tally generate` is writing it"
    with held(folder / ".lock", what, "wait for it", TrainError):
        return _generate(run_dir, prompts, settings, step)


def _generate(
    run_dir: Path, prompts: list[str], settings: SamplingSettings, step: int | None
) -> dict[str, Any]:
    subject = load_subject(run_dir, step)
    entries = [{"source": "user", "prompt": text} for text in prompts] or held_out_prompts(run_dir)
    samples: list[dict[str, str]] = []
    with progress("generating", len(entries), "texts") as bar:
        for start in range(0, len(entries), _ROWS):
            batch = entries[start : start + _ROWS]
            found = continue_texts(subject, [entry["prompt"] for entry in batch], settings, start)
            samples += [entry | answer for entry, answer in zip(batch, found, strict=True)]
            bar.advance(len(batch))
    result = {
        "model": subject.described(),
        "settings": settings.model_dump(),
        "samples": samples,
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


def continue_texts(
    subject: Subject, prompts: Sequence[str], settings: SamplingSettings, first: int = 0
) -> list[dict[str, str]]:
    """Continuations, and what ended each: `eos`, `length` or `context`.

    Args:
        subject: the model.
        prompts: texts; their last tokens are read where they are too long.
        settings: how to draw.
        first: number of the first prompt; every number has a random stream of its own.

    Raises:
        TrainError: the model's context has no room for a prompt and one token.
    """
    # EOS or BOS first: the model saw every document behind one.
    begin = subject.eos_id if subject.bos_id is None else subject.bos_id
    rows = [
        [begin, *subject.tokenizer.encode(text, add_special_tokens=False).ids] for text in prompts
    ]
    limit = subject.model.config.max_seq_len
    room = max(limit // 2, limit - max(map(len, rows)))
    if not room:
        raise TrainError(f"the model reads {limit} token at a time: no room for a prompt")
    num_new = min(settings.max_new_tokens, room)
    rows = [ids[-(limit - num_new) :] for ids in rows]
    chooser = Chooser(
        Sampling(settings.temperature, settings.top_k, settings.top_p),
        [settings.seed + first + number for number in range(len(rows))],
    )
    found = continue_rows(
        subject.model,
        rows,
        num_new,
        subject.eos_id,
        chooser,
        lambda number, row: row[-1] == subject.eos_id,
    )
    full = "length" if num_new == settings.max_new_tokens else "context"
    return [_answer(subject, ids, full) for ids in found]


def _answer(subject: Subject, ids: list[int], otherwise: str) -> dict[str, str]:
    ended = ids[-1] == subject.eos_id
    text: str = subject.tokenizer.decode(ids[:-1] if ended else ids)
    return {"text": text, "ended_by": "eos" if ended else otherwise}
