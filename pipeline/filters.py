"""Filter profiles: which rules a source goes through, as datatrove filters; drops by reason.

Profiles are named because rules do not travel: what marks a bad web page (symbols, short lines,
repeated phrases) is how mathematics is written. Why each profile is as it is, and what it does to
real texts, is in docs/filters.md.
"""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import FineWebQualityFilter, URLFilter
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from tldextract import TLDExtract

from configs.build import Profile
from pipeline import gopher, language, modular, phrases, word_table, words
from pipeline.documents import DocumentFile, task_file
from pipeline.gopher import GopherQuality, GopherRepetition
from pipeline.language import LanguageFilter
from pipeline.word_table import WordCount, WordTable

MODULES = [sys.modules[__name__], gopher, language, modular, phrases, word_table, words]
"""The code that decides what a profile keeps."""
PROFILES: tuple[Profile, ...] = get_args(Profile)


class TextFilter(BaseFilter):
    """Drops what is too short, not made of letters, or holds data instead of words.

    Args:
        min_characters: shorter documents are dropped as `short`.
        min_letters: least share of letters among the characters that are not space.
        max_word_characters: a longer run without space (an encoded image) drops the document.
    """

    name = "text"

    def __init__(self, min_characters: int, min_letters: float, max_word_characters: int) -> None:
        super().__init__()
        self.min_characters, self.min_letters = min_characters, min_letters
        self.long_word = re.compile(rf"\S{{{max_word_characters + 1}}}")

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep the document, or the reason not to."""
        if len(doc.text) < self.min_characters:
            return False, "short"
        inked = "".join(doc.text.split())
        letters = sum(map(str.isalpha, inked))
        if letters < self.min_letters * len(inked):
            return False, "few_letters"
        if self.long_word.search(doc.text):
            return False, "long_word"
        return True


class AddressFilter(URLFilter):
    """datatrove's `URLFilter`, without a network; documents without an address pass.

    The lists of blocked domains come with datatrove. They take four seconds to read, and 800 MB.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)  # its built-in list

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep the document, or the reason not to."""
        verdict: bool | tuple[bool, str] = not doc.metadata["url"] or super().filter(doc)
        return verdict


def _web(table: WordTable) -> list[BaseFilter]:
    fineweb = FineWebQualityFilter(language=WordCount(table))
    # The language comes last, since it takes longest.
    return [GopherQuality(table), GopherRepetition(table), fineweb, LanguageFilter()]


def _crawl(table: WordTable) -> list[BaseFilter]:
    return [AddressFilter(), *_web(table)]


def _edu(table: WordTable) -> list[BaseFilter]:
    quality = GopherQuality(table, max_non_alpha_words_ratio=0.7)
    return [quality, _repeated_parts(table), LanguageFilter()]


def _encyclopedia(table: WordTable) -> list[BaseFilter]:
    quality = GopherQuality(table, min_doc_words=30, max_non_alpha_words_ratio=0.6)
    return [quality, _repeated_parts(table), LanguageFilter()]


def _books(table: WordTable) -> list[BaseFilter]:
    quality = GopherQuality(table, max_doc_words=None, max_non_alpha_words_ratio=0.7)
    return [quality, GopherRepetition(table), LanguageFilter()]


def _docs(table: WordTable) -> list[BaseFilter]:
    return [TextFilter(200, min_letters=0.6, max_word_characters=500), _repeated_parts(table)]


def _math(table: WordTable) -> list[BaseFilter]:
    return [TextFilter(100, min_letters=0.35, max_word_characters=1000)]


def _none(table: WordTable) -> list[BaseFilter]:
    return []


def _repeated_parts(table: WordTable) -> GopherRepetition:
    """Whole lines and paragraphs only: exercises and lists of parameters repeat phrases."""
    return GopherRepetition(table, top_n_grams=(), dup_n_grams=())


_RULES: dict[Profile, Callable[[WordTable], list[BaseFilter]]] = {
    "web": _web,
    "crawl": _crawl,
    "edu": _edu,
    "encyclopedia": _encyclopedia,
    "books": _books,
    "docs": _docs,
    "math": _math,
    "none": _none,
}


def rules(profile: Profile) -> list[BaseFilter]:
    """The filters of a profile, in order; fresh objects."""
    return _RULES[profile](WordTable(STOP_WORDS))


class ApplyProfile(PipelineStep):
    """Passes on what every rule of the profile keeps; the rest goes to a side file with reasons.

    datatrove's own exclusion writers keep one file a filter under final names; here one file a task
    holds everything a task drops, whole or absent.
    """

    type = "🔻 - FILTER"
    name = "profile"

    def __init__(self, profile: Profile, dropped: Path) -> None:
        super().__init__()
        self.filters, self.dropped = rules(profile), dropped

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Filter the documents of task `rank`."""
        with DocumentFile(task_file(self.dropped, rank)) as dropped:
            for doc in data:
                reason = doc.metadata["reason"] or first_reason(self.filters, doc)
                if reason is None:
                    yield doc
                else:
                    dropped.add(doc, reason)


def first_reason(filters: list[BaseFilter], doc: Document) -> str | None:
    """Why the first of the filters that drops the document does; None if all keep it."""
    for rule in filters:
        text = doc.text
        keep, reason = get_filter_result(rule.filter(doc))
        assert doc.text is text, f"{rule} edits text, which the funnel could not account for"
        if not keep:
            return reason or str(rule.name)
    return None
