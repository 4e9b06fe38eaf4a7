"""Rules that edit the text of a document, as datatrove's: C4's lines, addresses of people.

An edit looks at one document alone: what it makes of a text depends on that text and nothing else,
so neither the order of documents nor a restart changes a byte.
"""

from collections.abc import Callable, Iterable
from functools import partial

from datatrove.data import Document
from datatrove.pipeline.filters import C4QualityFilter
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.formatters import PIIFormatter

from configs.text_sources import Edit
from pipeline.words import EnglishWords
from shards.hashing import content_hash


class C4Lines(C4QualityFilter):
    """Takes out lines as C4 did, by datatrove's rules.

    Gone are lines without an end mark, of fewer than three words, with a word of over 1,000
    characters, about JavaScript or cookies, and citations as `[3]`. Blank lines go with them.

    Args:
        whole_pages: also drop documents as C4 did: by `lorem_ipsum`, a `curly_bracket`, or
            `too_few_sentences` left, fewer than five.
    """

    name = "c4_lines"

    def __init__(self, whole_pages: bool = False) -> None:
        super().__init__(
            min_num_sentences=5 if whole_pages else -1,
            filter_lorem_ipsum=whole_pages,
            filter_curly_bracket=whole_pages,
            language=EnglishWords(),  # spaCy's sentences
        )


class PersonalData(BaseFilter):
    """Puts example addresses in the place of mail addresses and of public IPv4 addresses.

    datatrove's formatter takes its replacements in turn, from document to document; here a hash of
    the text says which comes first. It also replaces its own replacements; here they stay, so that
    text which went through it (FineWeb) is not edited again.
    """

    name = "pii"

    def __init__(self) -> None:
        super().__init__()
        self.formatter = PIIFormatter()
        self.replacers = (self.formatter.emails_replacer, self.formatter.ip_replacer)
        for replacer in self.replacers:
            replacer.validator = partial(_is_real, replacer.replacements, replacer.validator)

    def filter(self, doc: Document) -> bool:
        """Edit the document; all are kept."""
        first = int.from_bytes(content_hash(doc.text)[:8], "little")
        for replacer in self.replacers:
            replacer._replace_i = first % len(replacer.replacements)
        doc.text = self.formatter.format(doc.text)
        return True


def _is_real(
    replacements: tuple[str, ...], validator: Callable[[str], bool] | None, found: str
) -> bool:
    return found not in replacements and (validator is None or validator(found))


class CharacterLimits(BaseFilter):
    """Drops what is shorter than the one number as `short`, cuts what is longer at the other.

    Args:
        least: characters of the shortest document that is kept.
        most: characters after which a document is cut.
    """

    name = "max_characters"

    def __init__(self, least: int | None, most: int | None) -> None:
        super().__init__()
        self.least, self.most = least or 0, most

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """Whether to keep the document, or the reason not to."""
        if len(doc.text) < self.least:
            return False, "short"
        doc.text = doc.text[: self.most]
        return True


def with_edits(rules: list[BaseFilter], edits: Iterable[Edit]) -> list[BaseFilter]:
    """The rules of a profile with the edits in their places.

    Lines are taken out first, so that the rules judge the text that is left. Addresses come last:
    no rule minds them, and what is dropped needs no edit.
    """
    first = [C4Lines()] if "c4_lines" in edits else []
    last = [PersonalData()] if "pii" in edits else []
    return [*first, *rules, *last]
