"""Pairs of context and continuation: how they become tokens, and what of them fits a model.

Shared by our adapter and lm-eval's `hf` model, so that both treat every request alike.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

Pair = tuple[list[int], list[int]]
"""Context and continuation, both token ids and not empty."""
Score = tuple[float, bool]
"""Log-probability of the continuation (nats), and whether greedy decoding would produce it."""


class Pairs:
    """Mixed into a `TemplateLM`, which scores pairs that fit in `score`.

    Texts are tokenized together, as lm-eval does, or apart. Together, the tokens of context +
    continuation are cut where the context's own end. Apart, the continuation is tokenized by
    itself, as TinyLM's evaluation did. Trailing spaces of the context belong to the continuation
    either way.
    """

    apart: bool
    max_length: int
    num_left_truncated: int
    """Requests whose context lost tokens on the left."""
    num_windowed: int
    """Requests whose continuation alone was longer than the model's context."""

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """Scores of pairs that fit the model's context, in the order given."""
        raise NotImplementedError

    def _encode_pair(self, context: str, continuation: str) -> Pair:
        base: Any = super()
        if not self.apart:
            pair: Pair = base._encode_pair(context, continuation)
            return pair
        stripped = context.rstrip()
        continuation = context[len(stripped) :] + continuation
        encode: Any = self.tok_encode  # type: ignore[attr-defined]
        return encode(stripped), encode(continuation, add_special_tokens=False)

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[Score]:
        """Scores of (texts, context ids, continuation ids), in the order given."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for number, (_, context, continuation) in enumerate(requests):
            parts = self._fit(context, continuation)
            pairs += parts
            owners += [number] * len(parts)
        scores: list[Score] = [(0.0, True)] * len(requests)
        for owner, (logprob, greedy) in zip(owners, self.score(pairs), strict=True):
            scores[owner] = (scores[owner][0] + logprob, scores[owner][1] and greedy)
        return scores

    def _fit(self, context: list[int], continuation: list[int]) -> list[Pair]:
        """What of a request fits the model: context cut on the left, or windows of the answer."""
        assert continuation, "the continuation has no tokens of its own"
        if len(continuation) > self.max_length:
            self.num_windowed += 1
            return list(windows(continuation, context[-1], self.max_length))
        room = self.max_length + 1 - len(continuation)
        self.num_left_truncated += len(context) > room
        return [(context[-room:], continuation)]


def windows(tokens: list[int], prefix: int, max_length: int) -> Iterator[Pair]:
    """Pairs that predict every token once, with as much context as the model takes."""
    rolling = get_rolling_token_windows(tokens, prefix, max_length, context_len=1)
    return map(make_disjoint_window, rolling)
