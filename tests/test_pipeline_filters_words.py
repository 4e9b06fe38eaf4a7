"""Words, phrases and languages: equal to spaCy's, datatrove's and py3langid's own."""

import os
import re
from functools import cache
from pathlib import Path
from random import Random

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.base_filter import BaseFilter
from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
from datatrove.pipeline.filters.gopher_repetition_filter import (
    find_all_duplicate,
    find_duplicates,
    find_top_duplicate,
    get_n_grams,
)
from datatrove.utils.text import TERMINAL_PUNCTUATION
from hypothesis import given, settings
from hypothesis import strategies as st
from py3langid.langid import MODEL_FILE, LanguageIdentifier

from pipeline.ascii_patterns import ascii_form
from pipeline.characters import codes
from pipeline.documents import document
from pipeline.errors import BuildError
from pipeline.gopher import FineWebQuality, GopherQuality, GopherRepetition
from pipeline.language import LONGEST, LanguageFilter, identifier, require_half_precision
from pipeline.phrases import repeated_phrases, top_phrases
from pipeline.shape_store import ShapeStore
from pipeline.shapes import Shapes, hashes_of
from pipeline.word_table import WordTable
from pipeline.words import MAX_CHUNK, EnglishWords, _rules
from tests.benchmarks.bench_filters import rows

SOUP = (
    *(
        "the",
        "of",
        "and",
        "can't",
        "won't",
        "U.S.",
        "e.g.",
        "a.m.",
        "10a.m.",
        "don’t",
        "snake_case",
    ),
    *(
        "3.14",
        "$5",
        "10km",
        "x**2",
        "#tag",
        "...",
        "…",
        "—",
        "--",
        "•",
        "-",
        ":)",
        "(xD",
        "'s",
        "dogs'",
    ),
    *(
        "http://a.org/b?c=1",
        "me@b.org",
        "well-known",
        "and/or",
        "naïve",
        "中文",
        "𝛼",
        "\u200b",
        "\x1c",
    ),
    *(
        " ",
        "  ",
        "\n",
        "\n\n",
        "\t",
        ". ",
        "! ",
        "? ",
        ", ",
        '"',
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        "!!!",
    ),
)
TEXTS = st.lists(st.sampled_from(SOUP) | st.text(max_size=5), max_size=60).map("".join)
REPEATING = st.lists(st.sampled_from(["a", "b", "ab", "c.", "\n"]), max_size=60).map(" ".join)


def test_words_and_sentences() -> None:
    words = EnglishWords()
    assert words.word_tokenize("Don't pay $1,234.50 at 10:30... the U.S. e.g. «naïve» 3rd.") == [
        "Do", "n't", "pay", "$", "1,234.50", "at", "10:30", "...", "the", "U.S.", "e.g.", "«",
        "naïve", "»", "3rd", ".",
    ]  # fmt: skip
    assert words.sent_tokenize("One. Two!  (Three?) four") == ["One.", "Two!", "(Three?)", "four"]
    assert words.word_tokenize("") == words.sent_tokenize(" \n") == []


def test_long_chunks_are_cut_in_pieces() -> None:
    assert EnglishWords().word_tokenize("x" * (MAX_CHUNK + 1)) == ["x" * MAX_CHUNK, "x"]


@settings(deadline=None, max_examples=300)
@given(TEXTS)
def test_words_and_sentences_are_those_of_spacy(text: str) -> None:
    pytest.importorskip("spacy")
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    theirs, ours = load_word_tokenizer("eng"), EnglishWords()
    assert ours.word_tokenize(text) == theirs.word_tokenize(text)
    assert ours.span_tokenize(text) == theirs.span_tokenize(text)


@settings(deadline=None, max_examples=200)
@given(REPEATING | TEXTS, st.integers(1, 10))
def test_repeated_phrases_are_those_of_datatrove(text: str, n: int) -> None:
    words, measured = EnglishWords().word_tokenize(text), WordTable(STOP_WORDS).words(text)
    n_grams = get_n_grams(words, n)
    assert top_phrases(measured, n, n) == [find_top_duplicate(n_grams) if n_grams else 0]
    assert repeated_phrases(measured, n, n) == [find_all_duplicate(words, n)]


LETTERS = "dogs Dogs DOGS McBean abcs iPhone NASAs naïve caf km PM US a I s he won Mr don em etc"
PARTS = (
    *f"{LETTERS} cannot 7 10 1999 2,000 ... 's ’s n't :// :) --".split(),
    *"'’\"“”‘.,;:!?()[]{}/-–—_@#$%&*+=<>|~^°²•…",
)
CHUNKS = st.lists(st.sampled_from(PARTS), min_size=1, max_size=7).map("".join)


@settings(deadline=None, max_examples=400)
@given(st.lists(CHUNKS, max_size=5).map(" ".join))
def test_cutting_by_shapes_is_cutting_by_the_rules(text: str) -> None:
    words = EnglishWords().word_tokenize(text)
    measured = WordTable(STOP_WORDS).words(text)
    assert measured.length.tolist() == list(map(len, words))
    assert measured.hash.tolist() == hashes_of(words).tolist()


@settings(deadline=None, max_examples=300)
@given(TEXTS, st.sampled_from(["\n", "\n\n", "\r\n", " \n \n", "\u2028"]))
def test_lines_are_those_of_python(text: str, between: str) -> None:
    text = text + between + text.upper() + between + text
    counts = WordTable(STOP_WORDS).lines(text)
    lines, rows = text.splitlines(), re.split("\n+", text)
    inked = [line for line in text.split("\n") if line.strip()]
    paragraphs = re.split(r"\n{2,}", text.strip())
    assert counts == (
        *(text.count("\n"), text.count("#"), text.count("...") + text.count("…")),
        *(len(lines), sum(line.lstrip().startswith(("•", "-")) for line in lines)),
        sum(line.rstrip().endswith(("...", "…")) for line in lines),
        *(len(paragraphs), *find_duplicates(paragraphs), len(rows), *find_duplicates(rows)),
        *(len(inked), sum(line.endswith(tuple(TERMINAL_PUNCTUATION)) for line in inked)),
        *(sum(len(line) <= 30 for line in inked), find_duplicates(inked)[1]),
    )


def test_run_together_words_count_as_repeated() -> None:
    measured = WordTable(STOP_WORDS).words("ab c x a bc")
    assert repeated_phrases(measured, 1, 2) == [0, 3]  # "abc" again, cut otherwise
    assert top_phrases(measured, 1, 2) == [2, 4]  # "ab" and "ab c", the first of equals


def test_shapes_are_forgotten_and_learned_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "(Dogs), 10km/h of the “café” at $5... and a.m."
    first = WordTable(STOP_WORDS).words(text)
    expected = first.hash.tolist(), first.length.tolist(), first[2:]
    monkeypatch.setattr("pipeline.shapes._REMEMBERED", 3)
    table = WordTable(STOP_WORDS)
    for number in range(20):
        table.words(f"x{number}y of {number}:z")
        again = table.words(text)
        assert (again.hash.tolist(), again.length.tolist(), again[2:]) == expected
    assert expected[2] == (10, 29, 8, 3)


def pairs() -> list[tuple[BaseFilter, BaseFilter]]:
    """Our rules and datatrove's; without spaCy, both on our words."""
    try:
        import spacy  # noqa: F401

        language: object = "eng"
    except ImportError:
        language = EnglishWords()
    table = WordTable(STOP_WORDS)
    line_rules = {"top_n_grams": (), "dup_n_grams": ()}
    lenient = {"min_doc_words": 3, "max_non_alpha_words_ratio": 0.5, "min_stop_words": 1}
    c4 = {"filter_no_terminal_punct": False}
    return [
        (GopherQuality(table), GopherQualityFilter(language=language)),
        (GopherQuality(table, **lenient), GopherQualityFilter(language=language, **lenient)),
        (GopherRepetition(table), GopherRepetitionFilter(language=language)),
        (
            GopherRepetition(table, **line_rules),
            GopherRepetitionFilter(language=language, **line_rules),
        ),
        (FineWebQuality(table), FineWebQualityFilter(language=language)),
        (C4QualityFilter(language=EnglishWords(), **c4), C4QualityFilter(language=language, **c4)),
    ]


def outcome(rule: BaseFilter, text: str) -> object:
    doc = Document(text=text, id="")
    try:
        return rule.filter(doc), doc.text
    except ZeroDivisionError as error:  # datatrove's rules on texts without a word
        return repr(error)


@settings(deadline=None, max_examples=150)
@given((TEXTS | REPEATING).map(lambda text: text * 3))
def test_rules_decide_as_datatrove_does(text: str) -> None:
    for ours, theirs in pairs():
        assert outcome(ours, text) == outcome(theirs, text), type(theirs)


needs_texts = pytest.mark.skipif(
    "TALLY_TESTDATA" not in os.environ, reason="set TALLY_TESTDATA to the folder of real texts"
)


def real_texts(each: int) -> list[str]:
    folder = Path(os.environ["TALLY_TESTDATA"]) / "corpora"
    files = [p for p in sorted(folder.glob("*/*.jsonl*")) if "zhwiki" not in p.name]
    return [row["text"][:6_000] for path in files for row in rows(path, each)]


@needs_texts
def test_rules_decide_as_datatrove_does_on_real_texts() -> None:
    texts = real_texts(4)
    assert len(texts) > 100
    rules = pairs()
    for text in texts:  # one after the other, since datatrove remembers the words of five
        for ours, theirs in rules:
            assert outcome(ours, text) == outcome(theirs, text), type(theirs)


@cache
def original() -> LanguageIdentifier:
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


@settings(deadline=None, max_examples=60)
@given(TEXTS)
def test_languages_are_those_of_py3langid(text: str) -> None:
    language, confidence = identifier().classify(text)
    their_language, their_confidence = original().classify(text)
    assert (language, confidence) == (their_language, pytest.approx(their_confidence, abs=1e-4))


def test_state_of_the_automaton_depends_on_few_bytes() -> None:
    model = original()
    moves = np.array(model.tk_nextmove).reshape(-1, 256)
    rows = np.array(model.tk_row)
    states, steps = np.zeros(1, np.int64), 0
    reached = np.zeros(len(rows), bool)
    reached[0] = True
    while len(states):  # breadth first: a state's depth is the length of what it remembers
        states = np.unique(moves[rows[states]])
        states = states[~reached[states]]
        reached[states] = True
        steps += 1
    assert steps - 1 <= LONGEST


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("The mill is closed, said the people of the town, and nobody knows for how long.", True),
        ("THE MILL IS CLOSED, SAID THE PEOPLE OF THE TOWN, AND NOBODY KNOWS FOR HOW LONG.", True),
        ("Die Mühle ist geschlossen, sagen die Leute im Ort, und niemand weiß, wie lange.", False),
        ("Le moulin est fermé, disent les gens du village, et personne ne sait pourquoi.", False),
        ("磨坊关门了，镇上的人说，没有人知道要关多久。", False),
        ("", False),
    ],
)
def test_language_filter(text: str, kept: bool) -> None:
    verdict = LanguageFilter().filter(document("d", text, "f", 0))
    assert verdict == (True if kept else (False, "language"))


def _learn(shapes: Shapes, chunks: list[str]) -> None:
    ends = np.cumsum([len(chunk) for chunk in chunks])
    shapes.learn(codes("".join(chunks)), ends, hashes_of(chunks), len(chunks))


def test_shapes_are_shared_between_processes(tmp_path: Path) -> None:
    path, first, second = tmp_path / "shapes.npz", Shapes(), Shapes()
    texts = [f"({chr(0x4E00 + number)})-x" for number in range(3000)]
    _learn(first, texts[:2500])
    ShapeStore(path, first).keep()
    other = ShapeStore(path, second)
    other.recall()
    assert second.number == 2500
    assert not second.lacks(hashes_of(texts[:2500])).any()
    _learn(second, texts[2500:])
    other.keep()  # too few to be worth it
    third = Shapes()
    ShapeStore(path, third).recall()
    assert third.number == 2500
    kept, learned = third.known(), first.known()
    assert kept.keys.tolist() == learned.keys.tolist()
    assert kept.sizes.tolist() == learned.sizes.tolist()
    assert kept.entries.tolist() == learned.entries.tolist()


def test_what_two_processes_learn_at_a_time_is_all_kept(tmp_path: Path) -> None:
    path, texts = tmp_path / "shapes.npz", [f"<{chr(0x4E00 + number)}>" for number in range(6000)]
    tables = [Shapes(), Shapes()]
    stores = [ShapeStore(path, shapes) for shapes in tables]
    for store in stores:
        store.recall()
    for shapes, part in zip(tables, (texts[:3500], texts[2500:]), strict=True):
        _learn(shapes, part)
    for store in stores:
        store.keep()
    everything = Shapes()
    ShapeStore(path, everything).recall()
    assert everything.number == 6000


@pytest.mark.parametrize("damage", [b"", b"no archive", None])
def test_a_damaged_file_of_shapes_is_written_anew(tmp_path: Path, damage: bytes | None) -> None:
    path, texts = tmp_path / "shapes.npz", [f"<{chr(0x4E00 + number)}>" for number in range(2500)]
    shapes = Shapes()
    _learn(shapes, texts)
    ShapeStore(path, shapes).keep()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    nothing = Shapes()
    ShapeStore(path, nothing).recall()
    assert nothing.number == 0
    ShapeStore(path, shapes).keep()
    assert path.read_bytes() == whole


def test_patterns_for_ascii_find_the_same_in_it() -> None:
    rules, chooser = _rules(), Random(5)
    signs = "aqQZ09.,-+*^'\"()[]{}<>=/:;$%#&_!?~`|\\@km"
    texts = ["".join(chooser.choices(signs, k=chooser.randint(1, 12))) for _ in range(3000)]
    for name in ("prefix", "suffix", "infix"):
        whole, short = re.compile(rules[name]), re.compile(ascii_form(rules[name]))
        assert len(short.pattern) < len(whole.pattern) / 10
        for text in texts:
            found = [[m.span() for m in p.finditer(text)] for p in (whole, short)]
            assert found[0] == found[1], (name, text)


def test_an_alternative_that_needs_another_script_is_left_out() -> None:
    pattern = r"é$|,$|\u00a7$|[xé]$|[éà]$|(?<=[0-9é])(?:km|км)$|\.\.+$"
    assert ascii_form(pattern) == r"[,x]$|(?<=[0123456789])(?:km|км)$|\.\.+$"


def test_a_processor_without_float16_is_refused() -> None:
    require_half_precision({"f16c": True}, None)
    require_half_precision({"neon": True}, None)
    with pytest.raises(BuildError, match="no F16C instructions"):
        require_half_precision({"f16c": False}, None)


def test_nor_is_code_made_for_one() -> None:
    require_half_precision({"f16c": True}, "+sse4.2,+f16c")
    require_half_precision({"neon": True}, "")
    for chosen in ("", "+sse4.2,-f16c"):
        with pytest.raises(BuildError, match="NUMBA_CPU_NAME=generic, leaves out; unset"):
            require_half_precision({"f16c": True}, chosen)
