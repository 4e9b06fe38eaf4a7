"""Gopher's and FineWeb's rules: datatrove's decisions at many times its speed.

Thresholds, reasons and the order of the rules are those of datatrove's classes, from which these
derive; what is new is how the words are found and counted. A test holds both side by side.
"""

import math

from datatrove.data import Document
from datatrove.pipeline.filters import (
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)

from pipeline.lines import Lines
from pipeline.phrases import repeated_phrases, top_phrases
from pipeline.word_table import Words, WordTable

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
        words, lines = self.table.words(doc.text), self.table.lines(doc.text)
        reason = self._by_words(words) or self._by_marks(lines, len(words.hash))
        reason = reason or self._by_lines(lines) or self._by_kinds(words)
        return (False, reason) if reason else True

    def _by_words(self, words: Words) -> str | None:
        if self.min_doc_words and words.plain < self.min_doc_words:
            return "gopher_short_doc"
        if self.max_doc_words and words.plain > self.max_doc_words:
            return "gopher_long_doc"
        mean = words.characters / words.plain if words.plain else math.nan
        if self.min_avg_word_length and mean < self.min_avg_word_length:
            return "gopher_below_avg_threshold"
        if self.max_avg_word_length and mean > self.max_avg_word_length:
            return "gopher_above_avg_threshold"
        return None

    def _by_marks(self, lines: Lines, words: int) -> str | None:
        most = self.max_symbol_word_ratio
        if most and lines.hashes / words > most:
            return "gopher_too_many_hashes"
        if most and lines.ellipses / words > most:
            return "gopher_too_many_ellipsis"
        return None

    def _by_lines(self, lines: Lines) -> str | None:
        most = self.max_bullet_lines_ratio
        if most and lines.bullets / lines.lines > most:
            return "gopher_too_many_bullets"
        most = self.max_ellipsis_lines_ratio
        if most and lines.open_ends / lines.lines > most:
            return "gopher_too_many_end_ellipsis"
        return None

    def _by_kinds(self, words: Words) -> str | None:
        least = self.max_non_alpha_words_ratio  # datatrove's name; it is the least share
        if least and words.alphabetic / len(words.hash) < least:
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
        lines = self.table.lines(text)
        limits = (
            ("dup_para_frac", lines.repeated_paragraphs / lines.paragraphs, self.dup_para_frac),
            (
                "dup_para_char_frac",
                lines.repeated_paragraph_characters / len(text),
                self.dup_para_char_frac,
            ),
            ("dup_line_frac", lines.repeated_rows / lines.rows, self.dup_line_frac),
            (
                "dup_line_char_frac",
                lines.repeated_row_characters / len(text),
                self.dup_line_char_frac,
            ),
        )
        return next((reason for reason, share, most in limits if most and share > most), None)

    def _by_phrases(self, text: str) -> str | None:
        if not self.top_n_grams and not self.dup_n_grams:
            return None
        words = self.table.words(text)
        rules = (
            ("top_{}_gram", self.top_n_grams, top_phrases),
            ("duplicated_{}_n_grams", self.dup_n_grams, repeated_phrases),
        )
        for reason, limits, count in rules:
            sizes = [n for n, _ in limits]
            if not sizes:
                continue
            characters = count(words, min(sizes), max(sizes))
            for n, most in limits:
                if characters[n - min(sizes)] / len(text) > most:
                    return reason.format(n)
        return None


class FineWebQuality(FineWebQualityFilter):
    """datatrove's `FineWebQualityFilter`, by its own thresholds for lines of its own length.

    Args:
        table: the words and lines; shared with other rules.
    """

    def __init__(self, table: WordTable) -> None:
        super().__init__()
        self.table = table

    def filter(self, doc: Document) -> Verdict:
        """Whether to keep the document, or the reason not to."""
        reason = self._by_lines(doc.text)
        return (False, reason) if reason else True

    def _by_lines(self, text: str) -> str | None:
        lines = self.table.lines(text)
        if not lines.inked:
            return "empty"
        if lines.ended / lines.inked < self.line_punct_thr:
            return "line_punct_ratio"
        if lines.short / lines.inked > self.short_line_threshold:
            return "short_line_ratio"
        inked = len(text) - lines.newlines
        if lines.repeated_inked_characters / inked > self.char_duplicates_ratio:
            return "char_dup_ratio"
        if lines.newlines / len(self.table.words(text).hash) > self.new_line_ratio:
            return "list_ratio"
        return None
