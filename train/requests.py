"""lm-eval's generation requests, answered by our decoder: in batches, cut at stop strings."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from lm_eval.models.utils import normalize_gen_kwargs, postprocess_generated_text

from configs.terminal import progress
from train.decoding import Chooser, Sampling, continue_rows

if TYPE_CHECKING:
    from train.lm_adapter import DecoderLM

Request = tuple[str, dict[str, Any]]
"""Context and generation options."""


def answer_requests(lm: "DecoderLM", requests: Sequence[Request]) -> list[str]:
    """The continuation of every context, in the order given."""
    groups: dict[str, list[int]] = defaultdict(list)
    for number, (_, options) in enumerate(requests):
        groups[json.dumps(options, sort_keys=True)].append(number)
    answers = [""] * len(requests)
    with progress("generating", len(requests), "requests") as bar:
        for numbers in groups.values():
            options = normalize_gen_kwargs(requests[numbers[0]][1])
            texts = {number: requests[number][0] for number in numbers}
            for found in _answer_group(lm, texts, options):
                for number, text in found.items():
                    answers[number] = text
                bar.advance(len(found))
    return answers


def room_for_answer(wanted: int, max_length: int) -> int:
    """Tokens an answer may have: what the task wants, or half of a context that is too short."""
    return wanted if wanted < max_length else max(1, max_length // 2)


def _answer_group(
    lm: "DecoderLM", texts: dict[int, str], options: dict[str, Any]
) -> Iterator[dict[int, str]]:
    """Answers batch by batch, by request number; all with the same options."""
    from train.lm_adapter import batches

    num_new = room_for_answer(options["max_gen_toks"], lm.max_length)
    room = lm.max_length - num_new
    prompts = {n: lm.tok_encode(text) or [lm.prefix_token_id] for n, text in texts.items()}
    lm.num_left_truncated += sum(len(ids) > room for ids in prompts.values())
    numbers, lengths = list(prompts), [min(len(i), room) + num_new for i in prompts.values()]
    sampling = _sampling(options)
    for batch in batches(lengths, lm.batch_tokens):
        rows = [numbers[i] for i in batch]
        chooser = Chooser(sampling, [lm.seed + number for number in rows])
        cut = [prompts[number][-room:] for number in rows]
        stops = [stop for stop in options["until"] if stop]
        tokens = continue_rows(lm.model, cut, num_new, lm.eos_id, chooser, _finisher(lm, stops))
        yield {n: _text(lm, ids, stops) for n, ids in zip(rows, tokens, strict=True)}


def _sampling(options: dict[str, Any]) -> Sampling:
    if not options["do_sample"]:
        return Sampling()
    top = {name: options[name] for name in ("top_k", "top_p") if options.get(name)}
    return Sampling(temperature=options.get("temperature") or 1.0, **top)


def _finisher(lm: "DecoderLM", stops: Sequence[str]) -> Callable[[int, list[int]], bool]:
    """A row ends with EOS, or as soon as its text holds a stop string."""

    def is_finished(number: int, row: list[int]) -> bool:
        if row[-1] == lm.eos_id:
            return True
        text = lm.tokenizer.decode(row) if stops else ""
        return any(stop in text for stop in stops)

    return is_finished


def _text(lm: "DecoderLM", ids: list[int], stops: list[str]) -> str:
    kept = ids[: ids.index(lm.eos_id)] if lm.eos_id in ids else ids
    return str(postprocess_generated_text(lm.tokenizer.decode(kept), stops, None))
