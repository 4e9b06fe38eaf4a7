"""English words as spaCy cuts them, about a hundred times as fast.

datatrove's word rules count the words of spaCy's English tokenizer. That one cuts a text at white
space and every chunk by itself: punctuation off both ends, then inside, contractions by a table.
So a chunk's words depend on nothing but the chunk, and a text has few new ones: here they are cut
once, by the patterns and the table of the installed spaCy, and remembered.

Where words differ from spaCy's: chunks of over 1,000 characters are cut in pieces first, since the
patterns take quadratic time; and spaCy can join two chunks into one exception (": )"), which no
rule here notices.
"""

import json
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

from blake3 import blake3
from datatrove.utils.word_tokenizers import WordTokenizer

from pipeline.ascii_patterns import ascii_form
from shards.atomic import write_json_atomic
from shards.cache import cache_directory

MAX_CHUNK = 1000
"""Longer chunks are cut in pieces of as many characters before anything else."""
_REMEMBERED = 400_000
_ORTH = 65
"""spaCy's key of a token's text in its exception table (`spacy.symbols.ORTH`)."""
_PLAIN = re.compile(r"""(["(]?)([A-Za-z]*[a-z]{2})([.,;:!?)"]?)""")  # the most common chunks
_RUNS = re.compile(r"\S+|\s+")


class Marks:
    """spaCy's patterns for what comes off a chunk, and for where it is cut inside."""

    def __init__(self, prefix: str, suffix: str, infix: str) -> None:
        self.prefix = re.compile(prefix).match  # every alternative begins with "^"
        self.suffix = re.compile(suffix).search
        self.infix = re.compile(infix).finditer


class EnglishRules:
    """The patterns and the table of spaCy's English tokenizer."""

    def __init__(self) -> None:
        rules = _rules()
        patterns = [rules[name] for name in ("prefix", "suffix", "infix")]
        self._all, self._ascii = Marks(*patterns), Marks(*map(ascii_form, patterns))
        self.url = re.compile(rules["url"]).match
        self.end_marks: frozenset[str] = frozenset(rules["end_marks"])
        self.special: dict[str, list[str]] = rules["special"]
        # Exceptions that the patterns would take apart are looked for again in the cut words.
        self.fragile = {
            "".join(words): (tuple(self._cut(chunk, {})), words)
            for chunk, words in self.special.items()
            if self._all.prefix(chunk) or self._all.suffix(chunk) or any(self._all.infix(chunk))
        }
        self.fragile_starts = {cut[0] for cut, _ in self.fragile.values()}
        self.longest = max(map(len, self.fragile))

    def words(self, chunk: str) -> list[str]:
        """The words of a chunk without white space."""
        if chunk in self.special:
            return self.special[chunk]
        if chunk.isascii() and (chunk.isalpha() or chunk.isdigit()):
            return [chunk]
        plain = _PLAIN.fullmatch(chunk)
        if plain:
            head, core, tail = plain.groups()
            if self.special.keys().isdisjoint((core, head + core, core + tail)):
                return [word for word in (head, core, tail) if word]
        words = self._cut(chunk, self.special)
        return self._joined(words) if len(words) > 1 else words

    def _cut(self, chunk: str, special: dict[str, list[str]]) -> list[str]:
        before: list[str] = []
        after: list[str] = []
        marks = self._ascii if chunk.isascii() else self._all
        core = self._strip(chunk, marks, special, before, after)
        return before + self._inside(core, marks, special) + after[::-1]

    def _strip(
        self,
        core: str,
        marks: Marks,
        special: dict[str, list[str]],
        before: list[str],
        after: list[str],
    ) -> str:
        """Takes one mark off either end, in spaCy's order, until nothing comes off."""
        size = 0
        while core and len(core) != size and core not in special:
            size = len(core)
            head = self._length(marks.prefix(core))
            if head and core[head:] in special:
                before.append(core[:head])
                return core[head:]
            tail = self._length(marks.suffix(core[head:]))
            if tail and core[:-tail] in special:
                after.append(core[-tail:])
                return core[:-tail]
            if head:
                before.append(core[:head])
            if tail:
                after.append(core[-tail:])
            core = core[head : len(core) - tail]
        return core

    @staticmethod
    def _length(match: re.Match[str] | None) -> int:
        return match.end() - match.start() if match else 0

    def _inside(self, core: str, marks: Marks, special: dict[str, list[str]]) -> list[str]:
        if not core or core in special:
            return list(special.get(core, ()))
        if "." in core and self.url(core):  # no address is without
            return [core]
        words, start = [], 0
        for match in marks.infix(core):
            if match.start() == 0:  # spaCy leaves a mark at the start to what follows it
                continue
            words += [core[start : match.start()], match.group()]
            start = match.end()
        return [word for word in (*words, core[start:]) if word]

    def _joined(self, words: list[str]) -> list[str]:
        """Puts back the exceptions that were taken apart, the longest first."""
        if self.fragile_starts.isdisjoint(words):
            return words
        found = sorted(self._fragile_spans(words), key=lambda span: (span[0] - span[1], span[0]))
        taken: set[int] = set()
        replaced = dict[int, tuple[int, list[str]]]()
        for start, end, whole in found:
            if start not in taken and end - 1 not in taken:
                replaced[start] = (end, whole)
            taken.update(range(start, end))
        return list(_replace(words, replaced)) if replaced else words

    def _fragile_spans(self, words: list[str]) -> Iterator[tuple[int, int, list[str]]]:
        for start in range(len(words)):
            if words[start] not in self.fragile_starts:
                continue
            text = ""
            for end in range(start + 1, len(words) + 1):
                text += words[end - 1]
                if len(text) > self.longest:
                    break
                cut, whole = self.fragile.get(text, ((), []))
                if cut == tuple(words[start:end]):
                    yield start, end, whole


def _replace(words: list[str], replaced: dict[int, tuple[int, list[str]]]) -> Iterator[str]:
    position = 0
    while position < len(words):
        end, new = replaced.get(position, (position + 1, words[position : position + 1]))
        yield from new
        position = end


def _rules() -> dict[str, Any]:
    """Patterns, table and end marks of spaCy: two seconds to ask for, so they are kept on disk."""
    path = cache_directory() / "words" / f"spacy-{spacy_digest()}.json"
    try:
        kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        kept = _asked_rules()
        write_json_atomic(path, kept)
    return kept


def spacy_digest() -> str:
    """Changes with what the rules are written in."""
    found = find_spec("spacy")
    assert found is not None
    assert found.origin is not None
    folder = Path(found.origin).parent / "lang"
    files = sorted([*folder.glob("*.py"), *folder.glob("en/*.py")])
    contents = b"".join(file.read_bytes() for file in files)
    return f"{version('spacy')}-{blake3(contents).hexdigest()[:16]}"


def _asked_rules() -> dict[str, Any]:
    import spacy
    from spacy.pipeline import Sentencizer

    rules: Any = spacy.blank("en").tokenizer
    special = {
        chunk: [token[_ORTH] for token in rules.rules[chunk]]
        for chunk in sorted(rules.rules)
        if not any(map(str.isspace, chunk))
    }
    return {
        "prefix": rules.prefix_search.__self__.pattern,
        "suffix": rules.suffix_search.__self__.pattern,
        "infix": rules.infix_finditer.__self__.pattern,
        "url": rules.url_match.__self__.pattern,
        "end_marks": sorted(Sentencizer().punct_chars),
        "special": special,
    }


@cache
def english() -> EnglishRules:
    """The rules, read once a process."""
    return EnglishRules()


def chunks(text: str) -> list[str]:
    """The text cut at white space, and long chunks in pieces."""
    parts = text.split()
    if max(map(len, parts), default=0) > MAX_CHUNK:
        step = MAX_CHUNK
        parts = [p[i : i + step] for p in parts for i in range(0, len(p), step)]
    return parts


class _Memo(dict[str, list[str]]):
    """The words of every chunk seen, cut when first asked for."""

    def __missing__(self, chunk: str) -> list[str]:
        if len(self) >= _REMEMBERED:
            self.clear()
        words = self[chunk] = english().words(chunk)
        return words


class EnglishWords(WordTokenizer):
    """spaCy's English words and sentences, for datatrove's filters in the place of a language."""

    def __init__(self) -> None:
        super().__init__("en")
        self._memo = _Memo()

    def word_tokenize(self, text: str) -> list[str]:
        """Words and punctuation marks in order."""
        return list(chain.from_iterable(map(self._memo.__getitem__, chunks(text))))

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        """Where sentences start and end: a sentence starts behind an end mark, at what is no mark.

        White space between, one blank excepted, counts as the start of the next sentence; spaCy
        makes a word of it.
        """
        marks, starts, ends, end, ended = english().end_marks, [0], list[int](), 0, False
        for word, position in self._positions(text):
            if word in marks:
                ended = True
            elif ended and not all(unicodedata.category(c).startswith("P") for c in word):
                starts.append(position)
                ends.append(end)
                ended = False
            end = position + len(word)
        return list(zip(starts, [*ends, end], strict=True)) if text else []

    def sent_tokenize(self, text: str) -> list[str]:
        """Sentences, stripped, without empty ones."""
        sentences = (text[start:end].strip() for start, end in self.span_tokenize(text))
        return [sentence for sentence in sentences if sentence]

    def _positions(self, text: str) -> Iterator[tuple[str, int]]:
        for match in _RUNS.finditer(text):
            run, position = match.group(), match.start()
            if run.isspace():
                skipped = position > 0 and run.startswith(
                    " "
                )  # that one belongs to the word before
                if len(run) > skipped:
                    yield run[skipped:], position + skipped
                continue
            for chunk in chunks(run):
                for word in self._memo[chunk]:
                    yield word, position
                    position += len(word)
