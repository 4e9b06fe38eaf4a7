"""Gopher's quality and repetition rules: datatrove's decisions at many times its speed.

Thresholds, reasons and the order of the rules are those of datatrove's classes, from which these
derive; what is new is how the words are found and counted. A test holds both side by side.
"""

import numpy as np
from datatrove.data import Document
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates

from pipeline.phrases import repeated_phrases, top_phrases
from pipeline.word_table import ALPHABETIC, SYMBOL, Words, WordTable

Verdict = bool | tuple[bool, str]


class GopherQuality(GopherQualityFilter):
    """datatrove's `GopherQualityFilter`, by its own thresholds.

    Args:
        table: the words; shared with other rules, so that a text is cut once.
        thresholds: as the base class takes them.
    """

    def __init__(self, table: WordTable, **thresholds: float | None) -> None:
        super().__init__(**thresholds)
        self.table = table

    def filter(self, doc: Document) -> Verdict:
        """Whether to keep the document, or the reason not to."""
        words = self.table.words(doc.text)
        reason = self._by_words(words) or self._by_marks(doc.text, len(words.hash))
        reason = reason or self._by_lines(doc.text) or self._by_kinds(words)
        return (False, reason) if reason else True

    def _by_words(self, words: Words) -> str | None:
        lengths = words.length[words.flags & SYMBOL == 0]
        if self.min_doc_words and len(lengths) < self.min_doc_words:
            return "gopher_short_doc"
        if self.max_doc_words and len(lengths) > self.max_doc_words:
            return "gopher_long_doc"
        mean = float(lengths.sum()) / len(lengths) if len(lengths) else np.nan
        if self.min_avg_word_length and mean < self.min_avg_word_length:
            return "gopher_below_avg_threshold"
        if self.max_avg_word_length and mean > self.max_avg_word_length:
            return "gopher_above_avg_threshold"
        return None

    def _by_marks(self, text: str, words: int) -> str | None:
        most = self.max_symbol_word_ratio
        if most and text.count("#") / words > most:
            return "gopher_too_many_hashes"
        if most and (text.count("...") + text.count("…")) / words > most:
            return "gopher_too_many_ellipsis"
        return None

    def _by_lines(self, text: str) -> str | None:
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
        if self.max_bullet_lines_ratio and bullets / len(lines) > self.max_bullet_lines_ratio:
            return "gopher_too_many_bullets"
        open_ends = sum(line.rstrip().endswith(("...", "…")) for line in lines)
        if self.max_ellipsis_lines_ratio and open_ends / len(lines) > self.max_ellipsis_lines_ratio:
            return "gopher_too_many_end_ellipsis"
        return None

    def _by_kinds(self, words: Words) -> str | None:
        alphabetic = int(np.count_nonzero(words.flags & ALPHABETIC))
        least = self.max_non_alpha_words_ratio  # datatrove's name; it is the least share
        if least and alphabetic / len(words.hash) < least:
            return "gopher_below_alpha_threshold"
        if self.min_stop_words and words.stop_words < self.min_stop_words:
            return "gopher_enough_stop_words"
        return None


class GopherRepetition(GopherRepetitionFilter):
    """datatrove's `GopherRepetitionFilter`, by its own thresholds.

    Args:
        table: the words; shared with other rules, so that a text is cut once.
        thresholds: as the base class takes them.
    """

    def __init__(
        self, table: WordTable, **thresholds: float | tuple[tuple[int, float], ...] | None
    ) -> None:
        super().__init__(**thresholds)
        self.table = table

    def filter(self, doc: Document) -> Verdict:
        """Whether to keep the document, or the reason not to."""
        if not doc.text:
            return False, "empty"
        reason = self._by_parts(doc.text) or self._by_phrases(doc.text)
        return (False, reason) if reason else True

    def _by_parts(self, text: str) -> str | None:
        kinds = (
            (
                "para",
                self.paragraph_exp.split(text.strip()),
                self.dup_para_frac,
                self.dup_para_char_frac,
            ),
            ("line", self._line_splitter.split(text), self.dup_line_frac, self.dup_line_char_frac),
        )
        for kind, parts, most, most_characters in kinds:
            repeated, characters = find_duplicates(parts)
            if most and repeated / len(parts) > most:
                return f"dup_{kind}_frac"
            if most_characters and characters / len(text) > most_characters:
                return f"dup_{kind}_char_frac"
        return None

    def _by_phrases(self, text: str) -> str | None:
        if not self.top_n_grams and not self.dup_n_grams:
            return None
        words = self.table.words(text)
        rules = (
            ("top_{}_gram", self.top_n_grams, top_phrases),
            ("duplicated_{}_n_grams", self.dup_n_grams, repeated_phrases),
        )
        for reason, limits, count in rules:
            characters = count(words, max((n for n, _ in limits), default=0))
            for n, most in limits:
                if characters[n] / len(text) > most:
                    return reason.format(n)
        return None
