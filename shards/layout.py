"""How windows lie in a stream of T tokens, and what n of them add up to.

Two layouts. *Windows* overlap by one token: window i reads tokens [iL, iL + L] and predicts all but
the first, so W = (T - 1) // L windows predict every token after the first exactly once, but for
fewer than L at the end. *Rows* are disjoint runs of L + 1 tokens read straight through the stream,
over its end into its beginning, as recipes do that store their tokens in rows: row i reads tokens
[i(L + 1), i(L + 1) + L] modulo T. The first token of a row is read but not predicted, so
where T is no multiple of L + 1 a second pass predicts what the first one left out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Layout:
    """Windows or rows of `seq_len` targets in a stream of `tokens` tokens."""

    tokens: int
    seq_len: int
    rows: bool = False

    @property
    def stride(self) -> int:
        """Tokens from the beginning of one window to that of the next."""
        return self.seq_len + 1 if self.rows else self.seq_len

    @property
    def windows(self) -> int:
        """Whole windows in one pass over the stream."""
        return self.tokens // self.stride if self.rows else max(self.tokens - 1, 0) // self.seq_len

    @property
    def windows_per_epoch(self) -> Fraction:
        """Windows read in one epoch; rows go on over the end of the stream."""
        return Fraction(self.tokens, self.stride) if self.rows else Fraction(self.windows)

    @property
    def available_targets(self) -> int:
        """Targets that reading on and on would reach."""
        if not self.rows:
            return self.windows * self.seq_len
        return self.tokens - (self.tokens // self.stride if self._starts_repeat else 0)

    def unique_targets(self, n: int) -> int:
        """Distinct targets among the first `n` windows read, in any order within an epoch."""
        if not self.rows:
            return min(n, self.windows) * self.seq_len
        passes, position = divmod(n * self.stride, self.tokens)
        if passes == 0:
            return n * self.seq_len
        if self._starts_repeat:
            return self.available_targets
        if passes > 1:
            return self.tokens
        # In the second pass: beginnings of rows of the first one are still to come from here on.
        return self.tokens - (-(-self.tokens // self.stride) - -(-position // self.stride))

    def carried(self, before: "Layout", ordinal: int) -> int:
        """Where reading straight on in these windows begins after `ordinal` windows of `before`.

        At the first window that begins where the others ended or later, over the end of the stream
        where there is none.
        """
        if self.rows:
            return -(-ordinal * before.stride // self.stride)
        epoch, window = divmod(ordinal, before.windows)
        behind = -(-window * before.seq_len // self.seq_len)
        return epoch * self.windows + min(behind, self.windows)

    def pieces(self, window: int) -> list[tuple[int, int]]:
        """Ranges [start, stop) of the stream that a window reads; two where a row wraps."""
        start = window * self.stride % self.tokens
        stop = start + self.seq_len + 1
        if stop <= self.tokens:
            return [(start, stop)]
        return [(start, self.tokens), (0, stop - self.tokens)]

    def holding(self, start: int, stop: int, limit: int) -> Iterator[tuple[int, int]]:
        """Windows with targets in tokens [start, stop) of the stream.

        A row that goes over the end of the stream is met twice where it holds targets of the range
        on both sides.

        Args:
            start: first token.
            stop: one past the last.
            limit: yield windows below this number; rows are numbered on over all passes.

        Yields:
            The window, and how many of its targets lie in the range.
        """
        shift = 0
        while (first := max(start + shift - 1, 0) // self.stride) < limit:
            last = min((stop + shift - 1) // self.stride, limit - 1)
            for window in range(first, last + 1):
                low = max(start + shift, window * self.stride + 1)
                high = min(stop + shift, window * self.stride + self.seq_len + 1)
                if high > low:
                    yield window, high - low
            if not self.rows:
                return
            shift += self.tokens

    @property
    def _starts_repeat(self) -> bool:
        return self.tokens % self.stride == 0


def reachable_targets(layouts: Sequence[Layout]) -> int:
    """Targets that reading on and on, in windows or rows of all these lengths, would reach."""
    if len(layouts) == 1 or not layouts[0].rows:
        return max(layout.available_targets for layout in layouts)
    if all(layout.tokens % layout.stride == 0 for layout in layouts):
        return layouts[0].tokens - layouts[0].tokens // math.lcm(*(la.stride for la in layouts))
    return layouts[0].tokens
