"""What every threshold of ours keeps as it is, looser and stricter: of good texts, and of bad ones.

    TALLY_TESTDATA=/path/to/data python tests/benchmarks/bench_filter_defaults.py

Prints a line for each choice of docs/filters.md that is not datatrove's: the share of documents
kept by a profile with one threshold changed, on the texts that the threshold is there for.
"""

import re
from collections.abc import Iterator
from typing import Any

from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS

from pipeline.filters import TextFilter
from pipeline.gopher import GopherQuality, GopherRepetition
from pipeline.language import LanguageFilter
from pipeline.word_table import WordTable
from tests.benchmarks.bench_filters import LABELLED, kept, rows
from tests.benchmarks.corpus import data_folder

Rows = list[dict[str, Any]]
Case = tuple[str, list[BaseFilter], str]
"""What is changed, the rules with it, and the names of the texts."""
_PARTS = ("dup_line_frac", "dup_para_frac", "dup_line_char_frac", "dup_para_char_frac")
_UUENCODED = re.compile(r"(?m)^M[!-`]{60}$")
_SHORT = 200
"""Characters; below them, the Wikipedia dump has little but titles of redirects."""


def corpora() -> dict[str, Rows]:
    """The texts, by a name."""

    def of(*names: str, most: int = 1000) -> Rows:
        paths = (next((data_folder() / "corpora").glob(f"{name}.*")) for name in names)
        return [row for path in paths for row in rows(path, most)]

    wiki = of(*(f"wikipedia/enwiki_2021_part{k}" for k in range(4)), most=1500)
    posts, pages = of("noise/newsgroups_share", most=8000), of(LABELLED)
    return {
        "articles": [row for row in wiki if len(row["text"]) >= _SHORT],
        "redirects": [row for row in wiki if len(row["text"]) < _SHORT],
        "factbook": of("edu/cia_world_factbook"),
        "c4": of("c4/c4_en_first1000"),
        "edu": of("fineweb_edu/fineweb_edu_split"),
        "rust": of("edu/rust_book"),
        "d2l": of("edu/d2l_en"),
        "books": of("books/gutenberg_nltk17"),
        "planetmath": of("math/planetmath", most=2000)[::2],
        "omi": of("math/openmathinstruct2_sample"),
        "textbooks": of(*(f"math/openstax_{k}" for k in ("calculus", "prealgebra", "statistics"))),
        "chinese": of("wikipedia/zhwiki_small"),
        "newsgroups": posts[::10],
        "uuencoded": [row for row in posts if len(_UUENCODED.findall(row["text"])) >= 5],
        "good": [row for row in pages if row["quality_label"]],
        "bad": [row for row in pages if not row["quality_label"]],
    }


def repeated(table: WordTable, most: float | None = None) -> GopherRepetition:
    """Repeated lines and paragraphs: at Gopher's thresholds, or at one for all."""
    limits = {} if most is None else dict.fromkeys(_PARTS, most)
    return GopherRepetition(table, top_n_grams=(), dup_n_grams=(), **limits)


def cases(table: WordTable) -> Iterator[Case]:
    """One after the other; the default is among its neighbours."""
    last = LanguageFilter()
    for words, alpha in ((15, 0.6), (30, 0.6), (50, 0.6), (30, 0.5), (30, 0.7), (30, 0.8)):
        quality = GopherQuality(table, min_doc_words=words, max_non_alpha_words_ratio=alpha)
        texts = "articles redirects factbook good bad"
        yield f"encyclopedia {words} words {alpha}", [quality, repeated(table), last], texts
    for alpha in (0.6, 0.7, 0.8):
        quality = GopherQuality(table, max_doc_words=None, max_non_alpha_words_ratio=alpha)
        yield f"books {alpha}", [quality, GopherRepetition(table), last], "books textbooks bad"
    for rule in ([], [repeated(table)]):
        quality = GopherQuality(table, max_non_alpha_words_ratio=0.7)
        yield f"edu, repeated lines: {len(rule)}", [quality, *rule, last], "edu textbooks good bad"
    for characters, letters, word, most in (
        *((200, 0.6, 500, 0.5), (100, 0.6, 500, 0.5), (400, 0.6, 500, 0.5), (200, 0.4, 500, 0.5)),
        *((200, 0.7, 500, 0.5), (200, 0.6, 200, 0.5), (200, 0.6, 1000, 0.5)),
        *((200, 0.6, 500, 0.6), (200, 0.6, 500, None)),
    ):
        rules = [TextFilter(characters, letters, word), repeated(table, most)]
        texts = "rust d2l c4 newsgroups redirects uuencoded"
        yield f"docs {characters} {letters} {word} {most or 'Gopher'}", rules, texts
    for characters, letters, word in (
        *((100, 0.35, 1000), (50, 0.35, 1000), (200, 0.35, 1000), (100, 0.25, 1000)),
        *((100, 0.45, 1000), (100, 0.6, 1000), (100, 0.35, 500), (100, 0.35, 200)),
    ):
        texts = "planetmath omi textbooks redirects uuencoded"
        yield f"math {characters} {letters} {word}", [TextFilter(characters, letters, word)], texts
    for threshold in (0.5, 0.65, 0.8, 0.95):
        texts = "good bad edu c4 articles chinese"
        yield f"language {threshold}", [LanguageFilter(threshold=threshold)], texts


def main() -> None:
    """Print what every case keeps."""
    texts = corpora()
    print("; ".join(f"{name}: {len(found)}" for name, found in texts.items()))
    for name, rules, wanted in cases(WordTable(STOP_WORDS)):
        shares = {w: sum(kept(rules, texts[w])) / len(texts[w]) for w in wanted.split()}
        print(f"{name:32}", ", ".join(f"{w} {share:.1%}" for w, share in shares.items()))


if __name__ == "__main__":
    main()
