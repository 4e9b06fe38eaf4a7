"""Our decoder as an lm-eval model: no export, no Hugging Face classes in between.

Same tokens, same truncation and same sums as lm-eval's own `hf` model, so that scores agree; a
test compares them on real items. Rows of unequal length are padded on the right, which a causal
model never looks at.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.models.utils import normalize_gen_kwargs
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from tokenizers import Tokenizer
from torch import Tensor

from configs.terminal import progress
from train.errors import TrainError
from train.model import Decoder

Pair = tuple[list[int], list[int]]
"""Context and continuation, both token ids and not empty."""
Score = tuple[float, bool]
"""Log-probability of the continuation (nats), and whether greedy decoding would produce it."""


class DecoderLM(TemplateLM):
    """A `Decoder` with its tokenizer behind lm-eval's interface."""

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        eos_id: int,
        batch_size: int = 16,
        separator_first: bool = False,
    ) -> None:
        """Take a loaded model.

        Args:
            model: on the device to compute on.
            tokenizer: the dataset's exact tokenizer.
            eos_id: token that ends every document; stands in for an empty context.
            batch_size: rows a forward pass.
            separator_first: put EOS before every context, as it stands between documents in
                training. Off by default: published scores are made without.
        """
        super().__init__()
        self.model, self.tokenizer, self.eos_id = model, tokenizer, eos_id
        self.batch_size, self.separator_first = batch_size, separator_first
        self.max_length = model.config.max_seq_len
        self._device = next(model.parameters()).device
        self.num_left_truncated = 0
        """Requests whose context lost tokens on the left."""
        self.num_windowed = 0
        """Requests whose continuation alone was longer than the model's context."""

    @property
    def eot_token_id(self) -> int:
        """The token that ends documents."""
        return self.eos_id

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text; EOS first where `separator_first` asks for it."""
        ids: list[int] = self.tokenizer.encode(string, add_special_tokens=False).ids
        wanted = self.separator_first if add_special_tokens is None else add_special_tokens
        return [self.eos_id, *ids] if wanted else ids

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-probability of each request's continuation; our own progress bar, not tqdm's."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """Log-probability of whole texts, each token predicted once."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for number, request in enumerate(requests):
            windows = list(self._windows(self.tok_encode(request.args[0]), self.eos_id))
            pairs += windows
            owners += [number] * len(windows)
        totals = [0.0] * len(requests)
        for owner, (logprob, _) in zip(owners, self.score(pairs), strict=True):
            totals[owner] += logprob
        return totals

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """Greedy continuations, cut at the first stop string; one request at a time."""
        answers = []
        with progress("generating", len(requests), "requests") as bar:
            for request in requests:
                answers.append(self._generate(*request.args))
                bar.advance()
        return answers

    def _loglikelihood_tokens(
        self, requests: Sequence[tuple[Any, list[int], list[int]]], **kwargs: Any
    ) -> list[Score]:
        """Scores of (texts, context ids, continuation ids), in the order given."""
        pairs: list[Pair] = []
        owners: list[int] = []
        for number, (_, context, continuation) in enumerate(requests):
            windows = self._fit(context, continuation)
            pairs += windows
            owners += [number] * len(windows)
        scores: list[Score] = [(0.0, True)] * len(requests)
        for owner, (logprob, greedy) in zip(owners, self.score(pairs), strict=True):
            scores[owner] = (scores[owner][0] + logprob, scores[owner][1] and greedy)
        return scores

    def _fit(self, context: list[int], continuation: list[int]) -> list[Pair]:
        """What of a request fits the model: context cut on the left, or windows of the answer."""
        assert continuation, "the continuation has no tokens of its own"
        if len(continuation) > self.max_length:
            self.num_windowed += 1
            return list(self._windows(continuation, context[-1]))
        room = self.max_length + 1 - len(continuation)
        self.num_left_truncated += len(context) > room
        return [(context[-room:], continuation)]

    def _windows(self, tokens: list[int], prefix: int) -> Iterator[Pair]:
        """Pairs that predict every token once, with as much context as the model takes."""
        windows = get_rolling_token_windows(tokens, prefix, self.max_length, context_len=1)
        return map(make_disjoint_window, windows)

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """Scores of pairs that fit the model's context, in the order given."""
        # Longest first: rows of a batch are alike in length, and memory runs out at once or never.
        order = sorted(range(len(pairs)), key=lambda i: -sum(map(len, pairs[i])))
        scores: list[Score] = [(0.0, False)] * len(pairs)
        with progress("scoring", len(pairs), "requests") as bar:
            for start in range(0, len(order), self.batch_size):
                rows = order[start : start + self.batch_size]
                batch = self._score_batch([pairs[i] for i in rows])
                for row, score in zip(rows, batch, strict=True):
                    scores[row] = score
                bar.advance(len(rows))
        return scores

    @torch.inference_mode()
    def _score_batch(self, pairs: list[Pair]) -> list[Score]:
        inputs = [(context + continuation)[:-1] for context, continuation in pairs]
        logits_BTV = self._logits(inputs)
        scores = []
        for row, (_, continuation) in enumerate(pairs):
            end = len(inputs[row])
            logits_TV = logits_BTV[row, end - len(continuation) : end]
            targets_T = torch.tensor(continuation, device=self._device)
            logprobs_T = -F.cross_entropy(logits_TV.float(), targets_T, reduction="none")
            greedy = bool((logits_TV.argmax(-1) == targets_T).all())
            scores.append((float(logprobs_T.sum()), greedy))
        return scores

    def _logits(self, rows: list[list[int]]) -> Tensor:
        """Logits [B, T, V] of rows padded on the right with EOS."""
        longest = max(map(len, rows))
        padded = [row + [self.eos_id] * (longest - len(row)) for row in rows]
        return self.model(torch.tensor(padded, device=self._device))

    @torch.inference_mode()
    def _generate(self, text: str, gen_kwargs: dict[str, Any]) -> str:
        options = normalize_gen_kwargs(gen_kwargs)
        if options["do_sample"]:
            raise TrainError("this task samples; only greedy generation is supported")
        num_new = min(options["max_gen_toks"], self.max_length - 1)
        ids = (self.tok_encode(text) or [self.eos_id])[-(self.max_length - num_new) :]
        prompt_length = len(ids)
        answer = ""
        for _ in range(num_new):
            token = int(self._logits([ids])[0, -1].argmax())
            if token == self.eos_id:
                break
            ids.append(token)
            answer = self.tokenizer.decode(ids[prompt_length:])
            if any(stop in answer for stop in options["until"]):
                break
        return _cut(answer, options["until"])


def _cut(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop string."""
    for stop in stops:
        if stop:
            text = text.split(stop)[0]
    return text
