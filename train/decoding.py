"""Continue rows of tokens: batched, with a KV cache, greedy or by chance."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from train.kv_cache import KVCache
from train.model import Decoder


class Sampling(NamedTuple):
    """How the next token is drawn."""

    temperature: float = 0.0
    """0 takes the likeliest token always."""
    top_k: int = 50
    """Only so many likeliest tokens are drawn from."""
    top_p: float = 1.0
    """Of these, the fewest that together have at least this share of their probability."""


@torch.inference_mode()
def continue_rows(
    model: Decoder,
    prompts: Sequence[Sequence[int]],
    num_new: int,
    pad_id: int,
    choose: Callable[[Tensor], list[int]],
    is_finished: Callable[[int, list[int]], bool],
) -> list[list[int]]:
    """The tokens that follow each prompt.

    Args:
        model: in evaluation mode.
        prompts: token ids, at least one each; with the new ones they must fit the model.
        num_new: most tokens to add to a row.
        pad_id: fills shorter rows on the left, where no text sees it.
        choose: next tokens of all rows from their logits, [B, V].
        is_finished: whether a row, by its number and its new tokens, ends here.
    """
    longest = max(map(len, prompts))
    padding = [longest - len(prompt) for prompt in prompts]
    device = model.embedding.weight.device
    padding_B = torch.tensor(padding, device=device) if any(padding) else None
    cache = KVCache(longest + num_new, padding_B)
    piece = [[pad_id] * pad + list(prompt) for pad, prompt in zip(padding, prompts, strict=True)]
    rows: list[list[int]] = [[] for _ in prompts]
    running = set(range(len(rows)))
    for _ in range(num_new):
        x_BTD = model.hidden(torch.tensor(piece, device=device), cache=cache)
        tokens = choose(model.logits(x_BTD[:, -1]).float())
        for number in sorted(running):
            rows[number].append(tokens[number])
            if is_finished(number, rows[number]):
                running.remove(number)
        if not running:
            break
        piece = [[token] for token in tokens]
    return rows


def draw(logits_V: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    """One token of the likeliest, on the CPU: the same one on every device."""
    values, tokens = logits_V.cpu().topk(min(sampling.top_k, len(logits_V)))
    if sampling.temperature == 0:
        return int(tokens[0])
    shares = (values / sampling.temperature).softmax(-1)
    if sampling.top_p < 1:
        shares[shares.cumsum(-1) - shares >= sampling.top_p] = 0
    return int(tokens[torch.multinomial(shares, 1, generator=generator)])


class Chooser:
    """Draws for a batch; every row has a random stream of its own, whatever its neighbours."""

    def __init__(self, sampling: Sampling, seeds: Sequence[int]) -> None:
        self._sampling = sampling
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits_BV: Tensor) -> list[int]:
        """Next tokens of all rows."""
        if self._sampling.temperature == 0:
            greedy: list[int] = logits_BV.argmax(-1).tolist()
            return greedy
        pairs = zip(logits_BV, self._generators, strict=True)
        return [draw(logits_V, self._sampling, generator) for logits_V, generator in pairs]
