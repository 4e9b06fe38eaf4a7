"""Filter profiles: which rules a source goes through, as datatrove filters; drops by reason.

Profiles are named because rules do not travel: what marks a bad web page (symbols, short lines,
repeated phrases) is how mathematics is written.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter
from datatrove.pipeline.filters.base_filter import BaseFilter, get_filter_result
from datatrove.utils.word_tokenizers import WordTokenizer

from configs.build import Profile
from pipeline.documents import DocumentFile, task_file

_WORD = re.compile(
    r"\d+(?:[.,:]\d+)*"  # numbers and times
    r"|(?:[^\W\d_]\.){2,}"  # initials: U.S.
    r"|[^\W_]+(?:['’][^\W_]+)?"  # words
    r"|\.{2,}|-{2,}|_+|[^\w\s]"  # punctuation, one mark a word
)
_SENTENCE_END = re.compile(r"[.!?]+[\"')\]]*\s+")


class RegexWords(WordTokenizer):
    """Words by a regular expression, in place of the spaCy tokenizer datatrove loads by language.

    datatrove's word filters take a tokenizer object where they take a language. Like spaCy's, this
    one makes words of letters and digits, and of every punctuation mark. It differs where spaCy
    has tables for English: contractions and clitics stay whole ("don't" is one word, not "do" and
    "n't"), addresses and some abbreviations fall apart at their punctuation. So counts of words
    differ by a few per cent, and a document within that of a threshold may be decided the other
    way. It is 35 times as fast, and that is most of the time of these filters.
    """

    def word_tokenize(self, text: str) -> list[str]:
        """Words and punctuation marks in order."""
        return _WORD.findall(text)

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Spans of sentences, cut after end marks."""
        return list(_sentence_spans(text))

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences, stripped."""
        return [text[start:end].strip() for start, end in _sentence_spans(text)]


def _sentence_spans(text: str) -> Iterator[tuple[int, int]]:
    start = 0
    for end in (match.end() for match in _SENTENCE_END.finditer(text)):
        yield start, end
        start = end
    if start < len(text):
        yield start, len(text)


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


def rules(profile: Profile) -> list[BaseFilter]:
    """The filters of a profile, in order; fresh objects."""
    words = RegexWords()
    if profile == "web":
        return [GopherQualityFilter(language=words), GopherRepetitionFilter(language=words)]
    if profile == "docs":
        # Parameter lists repeat phrases, so only whole lines and paragraphs count as repetition.
        repeated = GopherRepetitionFilter(top_n_grams=(), dup_n_grams=(), language=words)
        return [TextFilter(200, min_letters=0.6, max_word_characters=500), repeated]
    if profile == "math":
        return [TextFilter(100, min_letters=0.35, max_word_characters=1000)]
    return []


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
                reason = doc.metadata["reason"] or self._reason(doc)
                if reason is None:
                    yield doc
                else:
                    dropped.add(doc, reason)

    def _reason(self, doc: Document) -> str | None:
        for rule in self.filters:
            text = doc.text
            keep, reason = get_filter_result(rule.filter(doc))
            assert doc.text is text, f"{rule} edits text, which the funnel could not account for"
            if not keep:
                return reason or str(rule.name)
        return None
