"""lm-eval's own `hf` model for Hugging Face folders and repositories, with our progress display.

It answers for baselines and, as a second way to the same scores, for our exports.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs

from configs.evaluation import EvalSettings
from configs.terminal import Advance, progress
from train.errors import TrainError
from train.pairs import Pair, Pairs, Score
from train.requests import room_for_answer


class HuggingFaceLM(Pairs, HFLM):
    """`HFLM` with the settings of `tally eval`."""

    def __init__(
        self, source: str, revision: str | None, ours: bool, settings: EvalSettings, tokens: int
    ) -> None:
        """Load a model.

        Args:
            source: folder or repository.
            revision: commit of the repository.
            ours: an export of a run; its code is run, and no tokens are added to texts, as in
                training. Of other models the tokenizer decides, as lm-eval has it.
            settings: what determines the scores.
            tokens: most tokens a forward pass.

        Raises:
            TrainError: there is no such model.
        """
        try:
            super().__init__(
                pretrained=source,
                revision=revision or "main",
                device="cuda" if torch.cuda.is_available() else "cpu",
                dtype=settings.dtype,
                batch_size=1,
                trust_remote_code=ours,
                add_bos_token=False if ours else None,
            )
        except (OSError, ValueError) as error:
            raise TrainError(f"{source}: cannot be loaded: {str(error).splitlines()[0]}") from None
        # It makes logits of all positions, in float32 and twice: fewer rows than ours fit.
        self.batch_size_per_gpu = max(8, tokens // (4 * self.max_length))
        self.apart, self._bos_wanted = settings.apart, settings.bos
        self.num_left_truncated, self.num_windowed = 0, 0
        self._bar: Advance | None = None
        self._done = 0

    def num_parameters(self) -> int:
        """Of the model, tied matrices counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """Token ids of a text, behind BOS where the settings ask for it."""
        if not self._bos_wanted or add_special_tokens is not None:
            return super().tok_encode(string, add_special_tokens, **kwargs)
        ids: list[int] = super().tok_encode(string, False, **kwargs)
        return [self.prefix_token_id, *ids]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = True) -> list[Score]:
        """As of `HFLM`."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def loglikelihood_rolling(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[float]:
        """As of `HFLM`, which puts one BOS before every text anyway: no second one."""
        wanted, self._bos_wanted = self._bos_wanted, False
        with self._progress("scoring", None):
            found: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=True)
        self._bos_wanted = wanted
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = True) -> list[str]:
        """As of `HFLM`; answers that would leave no room for a context get half of it, as ours."""
        with self._progress("generating", len(requests)):
            fitting = [self._fitting(request) for request in requests]
            return super().generate_until(fitting, disable_tqdm=True)

    def _fitting(self, request: Instance) -> Instance:
        text, options = request.args
        wanted = normalize_gen_kwargs(options, self.max_gen_toks)["max_gen_toks"]
        room = room_for_answer(wanted, self.max_length)
        self.num_left_truncated += len(self.tok_encode(text)) > self.max_length - room
        return replace(request, arguments=(text, {**options, "max_gen_toks": room}))

    def score(self, pairs: Sequence[Pair]) -> list[Score]:
        """As of `HFLM`, which computes answers that share all but one token once."""
        requests = [(None, context, continuation) for context, continuation in pairs]
        with self._progress("scoring", len(pairs)):
            found: list[Score] = HFLM._loglikelihood_tokens(self, requests, disable_tqdm=True)
        return found

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits = super()._model_call(inps, *args, **kwargs)
        self._advance(len(inps))
        return logits

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        tokens = super()._model_generate(context, *args, **kwargs)
        self._advance(len(context))
        return tokens

    def _advance(self, rows: int) -> None:
        if self._bar is not None:
            self._bar.advance(rows)
            self._done += rows

    @contextmanager
    def _progress(self, what: str, total: int | None) -> Iterator[None]:
        """Counts rows that were computed; inside another one, nothing."""
        if self._bar is not None:
            yield
            return
        self._done = 0
        with progress(what, total, "requests") as self._bar:
            yield
            self._advance(max(0, (total or 0) - self._done))
        self._bar = None
