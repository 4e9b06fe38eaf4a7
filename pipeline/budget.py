"""Token budgets: a source stops at exactly so many training tokens.

Documents are taken in the order in which they are packed. The one in which the training tokens
reach the budget is cut to fit and still ends with EOS; what comes after it, of either split, is
left out.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import polars as pl
from tokenizers import Tokenizer

from pipeline.errors import BuildError
from shards.hashing import content_hash
from shards.manifest import Dropped
from shards.shard_files import Tokens

_NOTHING = Dropped(documents=0, characters=0, tokens=0)


class Cut(NamedTuple):
    """What is left of the document in which the budget ends."""

    tokens: int
    """EOS included."""
    characters: int
    bytes: int
    content_hash: str
    """Of the text that is left; hexadecimal."""

    def tokens_of(self, document: Tokens) -> Tokens:
        """The tokens of the document that are left, and its EOS."""
        return np.append(document[: self.tokens - 1], document[-1])

    def row_of(self, row: pl.DataFrame) -> pl.DataFrame:
        """The row of the document with the counts of what is left."""
        return row.with_columns(
            token_count=pl.lit(self.tokens, pl.Int64),
            char_count=pl.lit(self.characters, pl.Int64),
            byte_count=pl.lit(self.bytes, pl.Int64),
            content_hash=pl.lit(bytes.fromhex(self.content_hash)),
        )


class Budget:
    """Takes batches of documents until the budget is reached.

    Args:
        max_tokens: training tokens, BOS and EOS included.
        tokenizer: tells which text the tokens of a cut document stand for.

    Attributes:
        dropped: what was left out: whole documents as `over_budget`, the rest of the cut one, which
            stays a document, as `cut`.
        cut: what is left of the cut one, once it is known and where there is one.
    """

    def __init__(self, max_tokens: int, tokenizer: Tokenizer) -> None:
        self._left, self._max_tokens, self._tokenizer = max_tokens, max_tokens, tokenizer
        self.dropped = {"over_budget": _NOTHING, "cut": _NOTHING}
        self.cut: Cut | None = None

    def take(
        self, rows: pl.DataFrame, tokens_of: Callable[[int, int, int], Tokens]
    ) -> pl.DataFrame:
        """The part of a batch that is within the budget; its last row may be that of a cut one.

        Args:
            rows: documents; `split`, the counts of the index, `content_hash`, `rank` and `start`.
            tokens_of: gives the tokens of a document from its `rank`, `start` and `token_count`.
        """
        counts = rows["token_count"].to_numpy()
        train = np.where((rows["split"] == "train").to_numpy(), counts, 0)
        before = np.cumsum(train) - train
        whole = (before < self._left) & (before + train <= self._left)
        stop = len(rows) if whole.all() else int(whole.argmin())
        used = int(train[:stop].sum())
        cut = stop < len(rows) and used < self._left
        size = self._left - used if cut else 0
        taken = rows[:stop]
        if cut:
            row = rows[stop]
            place = row.select("rank", "start", "token_count").row(0)
            self.cut = self._cut(row, tokens_of(*place), size)
            taken = pl.concat([taken, self.cut.row_of(row)])
        self._left -= used + size
        self._leave_out(rows[stop + cut :])
        return taken

    def check(self, source: str) -> None:
        """Raise BuildError where the source has fewer training tokens than asked for."""
        if self._left:
            has = self._max_tokens - self._left
            raise BuildError(
                f"source '{source}': {self._max_tokens:,} training tokens are asked for, it has "
                f"{has:,}; lower `shards.max_tokens.{source}`, or give the source more input"
            )

    def _leave_out(self, rows: pl.DataFrame) -> None:
        sums = (len(rows), int(rows["char_count"].sum()), int(rows["token_count"].sum()))
        self.dropped["over_budget"] = _plus(self.dropped["over_budget"], *sums)

    def _cut(self, row: pl.DataFrame, document: Tokens, size: int) -> Cut:
        """What is left of a document; its text ends with the last whole character."""
        kept = np.append(document[: size - 1], document[-1])  # EOS
        whole, part = (self._tokenizer.decode(ids[:-1].tolist()) for ids in (document, kept))
        text = _common_start(whole, part)
        lost = int(row["char_count"][0]) - len(text)
        self.dropped["cut"] = _plus(self.dropped["cut"], 0, lost, len(document) - size)
        return Cut(size, len(text), len(text.encode("utf-8")), content_hash(text).hex())


def _common_start(left: str, right: str) -> str:
    """The part of a text that is certain; a character cut in two decodes to another one."""
    size = next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), None)
    return right if size is None else right[:size]


def _plus(amount: Dropped, documents: int, characters: int, tokens: int) -> Dropped:
    return Dropped(
        documents=amount.documents + documents,
        characters=amount.characters + characters,
        tokens=(amount.tokens or 0) + tokens,
    )
