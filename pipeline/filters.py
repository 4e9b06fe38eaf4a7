"""Filter profiles: which rules a source goes through, as datatrove filters; drops by reason.

Profiles are named because rules do not travel: what marks a bad web page (symbols, short lines,
repeated phrases) is how mathematics is written. Why each profile is as it is, and what it does to
real texts, is in docs/filters.md.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS

from configs.text_sources import Edit, Profile, Source
from contamination.jit import is_compiled
from pipeline.addresses import AddressFilter
from pipeline.characters import ALPHABETIC, SPACE, codes, kinds_of_all
from pipeline.documents import DocumentFile, count, task_file
from pipeline.edits import C4Lines, CharacterLimits, with_edits
from pipeline.gopher import FineWebQuality, GopherQuality, GopherRepetition
from pipeline.language import LanguageFilter
from pipeline.shape_store import shape_store
from pipeline.task_report import tell
from pipeline.word_table import WordTable

FOLDERS = ("kept", "dropped", "edited")
"""What the stage writes: a file a task in each."""
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
        kinds = kinds_of_all()[codes(doc.text)]
        letters, spaces = (np.count_nonzero(kinds & kind) for kind in (ALPHABETIC, SPACE))
        if letters < self.min_letters * (len(kinds) - spaces):
            return False, "few_letters"
        if self.long_word.search(doc.text):
            return False, "long_word"
        return True


_PARTS = ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")


def _web(table: WordTable) -> list[BaseFilter]:
    return [GopherQuality(table), GopherRepetition(table), FineWebQuality(table), LanguageFilter()]


def _crawl(table: WordTable) -> list[BaseFilter]:
    return [AddressFilter(), *_web(table)]


def _c4(table: WordTable) -> list[BaseFilter]:
    return [C4Lines(whole_pages=True), LanguageFilter()]


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
    repeated = GopherRepetition(table, top_n_grams=(), dup_n_grams=(), **dict.fromkeys(_PARTS, 0.5))
    return [TextFilter(200, min_letters=0.6, max_word_characters=500), repeated]


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
    "c4": _c4,
    "edu": _edu,
    "encyclopedia": _encyclopedia,
    "books": _books,
    "docs": _docs,
    "math": _math,
    "none": _none,
}


PROFILE_EDITS: dict[Profile, tuple[Edit, ...]] = {"web": ("pii",), "crawl": ("pii",)}
"""Edits of sources that name none."""


def rules(profile: Profile) -> list[BaseFilter]:
    """The filters of a profile, in order; fresh objects."""
    return _RULES[profile](WordTable(STOP_WORDS))


def edits_of(source: Source) -> tuple[Edit, ...]:
    """The edits of a source, by its own word or its profile's."""
    return PROFILE_EDITS.get(source.profile, ()) if source.edits is None else source.edits


def limits_of(source: Source) -> CharacterLimits | None:
    """The source's limits of a document's length, if it has any."""
    least, most = source.min_characters, source.max_characters
    return None if least is None and most is None else CharacterLimits(least, most)


class ApplyProfile(PipelineStep):
    """Passes on what every rule of the profile keeps; the rest goes to a side file with reasons.

    Another side file gets the text before every edit of a document that is passed on, so that the
    funnel can count what was edited. A dropped document is kept there as it came.

    datatrove's own exclusion writers keep one file a filter under final names; here one file a task
    holds everything a task drops, whole or absent.

    Args:
        profile: names the rules.
        edits: rules that edit.
        dropped: folder for the documents that are not passed on.
        edited: folder for the texts before every edit.
        limits: of the length, applied before the rules.
    """

    type = "🔻 - FILTER"
    name = "profile"

    def __init__(
        self,
        profile: Profile,
        edits: tuple[Edit, ...],
        dropped: Path,
        edited: Path,
        limits: CharacterLimits | None = None,
    ) -> None:
        super().__init__()
        self.filters = [*([limits] if limits else []), *with_edits(rules(profile), edits)]
        self.dropped, self.edited = dropped, edited

    def run(self, data: DocumentsPipeline, rank: int = 0, world_size: int = 1) -> DocumentsPipeline:
        """Filter the documents of task `rank`."""
        dropped, edited = (task_file(folder, rank) for folder in (self.dropped, self.edited))
        store = shape_store() if any(isinstance(f, GopherQuality) for f in self.filters) else None
        if store:
            if not is_compiled(Path(__file__).parent):
                tell("the rules are compiled, once on this machine, for a minute or two")
            store.recall()
        with DocumentFile(dropped) as drops, DocumentFile(edited) as befores:
            for doc in data:
                text = doc.text
                reason, edits = judge(self.filters, doc)
                if reason is not None:
                    drops.add(replace(doc, text=text), reason)
                    continue
                for edit, before in edits:
                    befores.add(replace(doc, text=before), edit)
                yield doc
        if store:
            store.keep()


def recount(num_tasks: int, directory: Path) -> dict[str, Any]:
    """Documents and characters in every folder of the finished stage."""
    return {folder: count(directory / folder, num_tasks) for folder in FOLDERS}


class Judgement(NamedTuple):
    """What the rules make of a document."""

    reason: str | None
    """Why the first rule that drops it does; None if all keep it."""
    edits: list[tuple[str, str]]
    """The rules that edited it, in order, with the text that each one found."""


def judge(filters: list[BaseFilter], doc: Document) -> Judgement:
    """Put a document through rules, which may edit its text."""
    if doc.metadata.get("reason"):
        return Judgement(doc.metadata["reason"], [])  # a reader could not read it
    edits: list[tuple[str, str]] = []
    for rule in filters:
        before = doc.text
        keep, reason = get_filter_result(rule.filter(doc))
        if not keep:
            return Judgement(reason or str(rule.name), edits)
        if doc.text != before:
            edits.append((str(rule.name), before))
            if not doc.text:
                return Judgement(f"{rule.name}_left_nothing", edits)
    return Judgement(None, edits)
