"""Our decoder as an lm-eval model: no export, no Hugging Face classes in between.

Same tokens, same truncation and same sums as lm-eval's own `hf` model, so that scores agree; a
test compares them on real items. Rows of unequal length are padded on the right, which a causal
model never looks at; logits are made of the answers' positions alone.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from tokenizers import Tokenizer

from configs.terminal import progress
from train.loss import target_logprobs
from train.model import Decoder
from train.pairs import Pair, Pairs, Score, windows
from train.requests import answer_requests


class DecoderLM(Pairs, TemplateLM):
    """A `Decoder` with its tokenizer behind lm-eval's interface."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        eos_id: int,
        batch_tokens: int = 4096,
        *,
        bos_id: int | None = None,
        bos: bool = False,
        apart: bool = False,
        seed: int = 1234,
    ) -> None:
        """Take a loaded model.

        Args:
            model: on the device to compute on.
            tokenizer: the dataset's exact tokenizer.
            eos_id: token that ends every document; stands in for an empty context.
            batch_tokens: most tokens a forward pass, padding included.
            bos_id: token that began every document in training; then it stands in.
            bos: put that token, or EOS, before every context. Off by default: most published
                scores are made without.
            apart: tokenize context and continuation apart.
            seed: of tasks that sample.
        """
        super().__init__()
        self.model, self.tokenizer, self.eos_id = model, tokenizer, eos_id
        self.batch_tokens, self.bos, self.apart, self.seed = batch_tokens, bos, apart, seed
        self._first_id = eos_id if bos_id is None else bos_id
        self.max_length = model.config.max_seq_len
        self._device = next(model.parameters()).device
        self.num_left_truncated = self.num_windowed = 0

    def num_parameters(self) -> int:
        """Of the model, the tied matrix counted once."""
        return self.model.num_parameters()

    @property
    def eot_token_id(self) -> int:
        """The token that ends documents."""
        return self.eos_id

    @property
    def prefix_token_id(self) -> int:
        """Stands in for an empty context."""
        return self._first_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text; behind the first token where `bos` asks for it."""
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=False).ids
        wanted = self.bos if add_special_tokens is None else add_special_tokens
        return [self._first_id, *ids] if wanted else ids

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:
        """Log-probability of each request's continuation; our own progress bar, not tqdm's."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-probability of whole texts, each token predicted once."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            parts = list(windows(ids, self._first_id, self.max_length))
            pairs += parts
            owners += [number] * len(parts)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self.score(pairs), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Continuations, cut at the first stop string."""
        return answer_requests(self, [request.args for request in requests])

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """Scores of pairs that fit the model's context, in the order given."""
        lengths = [len(context) + len(continuation) - 1 for context, continuation in pairs]
        scores: list[Score] = [(0.0, False)] * len(pairs)
        with progress("scoring", len(pairs), "requests") as bar:
            for rows in batches(lengths, self.batch_tokens):
                found = self._score_batch([pairs[i] for i in rows])
                for row, score in zip(rows, found, strict=True):
                    scores[row] = score
                bar.advance(len(rows))
        return scores

    @torch.inference_mode()
    def _score_batch(self, pairs: list[Pair]) -> list[Score]:
        inputs = [(context + continuation)[:-1] for context, continuation in pairs]
        longest = max(map(len, inputs))
        padded = [row + [self.eos_id] * (longest - len(row)) for row in inputs]
        x_BTD = self.model.hidden(torch.tensor(padded, device=self._device))
        sizes = [len(continuation) for _, continuation in pairs]
        ends = [len(row) for row in inputs]
        x_PD = torch.cat([x_TD[e - n : e] for x_TD, e, n in zip(x_BTD, ends, sizes, strict=True)])
        targets = [token for _, continuation in pairs for token in continuation]
        targets_P = torch.tensor(targets, device=self._device)
        found = target_logprobs(x_PD, targets_P, self.model.output_head())
        logprobs, likeliest = (list(part.cpu().split(sizes)) for part in found)  # type: ignore[no-untyped-call]
        return [(float(p.sum()), bool(g.all())) for p, g in zip(logprobs, likeliest, strict=True)]


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Numbers of the rows of each batch: alike in length, as many as the tokens allow.

    Longest first: memory runs out at once or never.

    Args:
        lengths: tokens of every row.
        batch_tokens: most tokens a batch, padding included; one row is always taken.
    """
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    start = 0
    while start < len(order):
        rows = max(1, batch_tokens // max(1, lengths[order[start]]))
        yield order[start : start + rows]
        start += rows
