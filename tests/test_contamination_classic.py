"""Contamination as five papers define it, on hand-made cases with worked-out values."""

import numpy as np
import pytest

from contamination.classic import (
    Values,
    classic_facts,
    gram_words,
    judge_characters,
    judge_words,
    parse_names,
)
from contamination.classic_characters import character_index, match_characters, substrings
from contamination.classic_words import match_words, no_matches, word_index
from contamination.corpus import batch_of
from contamination.errors import AuditError
from contamination.items import Benchmark, Item

W = [f"w{k}" for k in range(40)]


def text(*parts: object) -> str:
    """Words: an int is that word, a pair is a range, a string is itself."""
    out: list[str] = []
    for part in parts:
        if isinstance(part, tuple):
            out += W[part[0] : part[1]]
        else:
            out.append(W[part] if isinstance(part, int) else str(part))
    return " ".join(out)


def value(name: str, question: str, *documents: str, answer: str = "", passage: str = "") -> float:
    benchmark = Benchmark("made", "test", "", (Item("0", question, answer, (), passage),))
    index = word_index([benchmark])
    found = no_matches(index)
    for document in documents:
        found.merge(match_words(batch_of([document.encode()]), index))
    (values,) = judge_words(parse_names(name), index, found, [1])
    return float(values.values[0])


def test_gpt3_takes_the_fifth_percentile_of_lengths_within_8_and_13() -> None:
    assert gram_words(np.array([3, 4, 100])) == 8
    assert gram_words(np.array([50] * 10)) == 13
    assert gram_words(np.array([10] * 99 + [30])) == 10


def test_gpt3_needs_a_run_of_its_n() -> None:
    question = text((0, 20))  # N is 13
    assert value("gpt3", question, text("x", (2, 15), "y")) == 1
    assert value("gpt3", question, text((2, 14), "y", (14, 20))) == 0
    assert value("gpt3", question, text((2, 9)), text((9, 15))) == 0  # never over two documents
    assert value("gpt3", question, text((2, 15)).upper().replace(" ", ",\n")) == 1
    assert np.isnan(value("gpt3", text((0, 7)), text((0, 7))))
    # The example is passage, question and answer.
    assert value("gpt3", text((6, 12)), text((1, 14)), passage=text((0, 6)), answer=text((12, 20)))


def test_palm_counts_the_8_grams_of_a_field() -> None:
    question = text((0, 17))  # ten 8-grams
    assert value("palm", question, text((0, 13), "x")) == pytest.approx(0.6)
    assert value("palm", question, text((0, 14), "x")) == pytest.approx(0.7)
    assert value("palm", question, text((0, 10)), text((8, 17))) == pytest.approx(0.5)
    # Grams from the question into the answer are of neither; the best field counts.
    both = text((0, 25))
    assert value("palm", text((0, 17)), both, answer=text((17, 25))) == 1
    assert value("palm", text((0, 17)), text((17, 25)), answer=text((17, 25))) == 1


def test_llama3_counts_words_in_8_grams() -> None:
    question = text((0, 20))
    assert value("llama3", question, text((0, 8), "x", (9, 16))) == pytest.approx(8 / 20)
    assert value("llama3", question, text((0, 8)), text((6, 14))) == pytest.approx(14 / 20)
    assert value("llama3", question, "nothing") == 0


def test_llama2_skips_four_words_after_the_first_ten() -> None:
    question = text((0, 30))
    eleven, ten = text((0, 11), "x"), text((0, 10), "x")
    assert value("llama2", question, eleven) == pytest.approx(11 / 30)
    assert value("llama2", question, ten) == 0  # more than ten are needed
    # A difference, then a word that matches: twelve words, the difference among them.
    assert value("llama2", question, text((0, 10), "x", 11)) == pytest.approx(12 / 30)
    # Never at the end.
    assert value("llama2", question, text((0, 12), "x", "y")) == pytest.approx(12 / 30)
    # Not among the first ten: the later run of eleven counts alone.
    assert value("llama2", question, text((0, 5), "x", (6, 17))) == pytest.approx(11 / 30)
    # Four differences are skipped, the fifth is not.
    four = text((0, 10), "x", 11, "x", 13, "x", 15, "x", (17, 20))
    assert value("llama2", question, four) == pytest.approx(20 / 30)
    five = text((0, 10), "x", 11, "x", 13, "x", 15, "x", 17, "x", 19)
    assert value("llama2", question, five) == pytest.approx(18 / 30)


def test_gpt4_samples_three_places_of_letters_and_digits() -> None:
    long = "".join(f"Word {k:03d}, " for k in range(60))
    found = substrings(long, "made/0")
    assert found == substrings(long, "made/0")
    assert 1 <= len(found) <= 3
    kept = long.replace(" ", "").replace(",", "")
    assert all(len(part) == 50 and part in kept for part in found)
    assert substrings("It is so; \u00e9t\u00e9 and 4 more!", "k") == ["Itisso\u00e9t\u00e9and4more"]
    assert substrings("Too short?", "k") == []


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("... Why do leaves\n turn (red) in autumn -- ever?", 1),
        ("Why do leaves turn red in autum", 0),
        ("why do leaves turn red in autumn", 0),  # case stays
        ("Why do leaves turn bright red in autumn", 0),
    ],
)
def test_gpt4_finds_substrings_whatever_the_spaces(document: str, expected: int) -> None:
    items = Item("0", "Why do leaves turn red in autumn?", "cold"), Item("1", "Why?", "because")
    index = character_index([Benchmark("made", "test", "", items)])
    found = match_characters(batch_of([b"first", document.encode(), b"\xff\xe2"]), index)
    values = judge_characters(index, found, 2).values
    assert values[0] == expected
    assert np.isnan(values[1])  # too short to be looked for


def test_gpt4_needs_fifty_characters_in_one_place() -> None:
    question = " ".join(f"number{k}" for k in range(10, 22))
    index = character_index([Benchmark("made", "test", "", (Item("0", question, ""),))])
    part = substrings(question, "made/0")[0]
    assert match_characters(batch_of([part.encode()]), index).any()
    assert not match_characters(batch_of([part[:-1].encode(), part[1:].encode()]), index).any()


def test_facts_count_what_reaches_the_threshold() -> None:
    benchmark = Benchmark("made", "test", "", tuple(Item(str(k), "q", "") for k in range(4)))
    values = Values("palm", np.array([0.7, 0.5, 0.0, np.nan], np.float32))
    facts = classic_facts([values], [benchmark])["palm"]
    assert facts["benchmarks"]["made"] == {
        "items": 4,
        "dirty_items": 1,
        "share": 0.25,
        "mean_value": 0.4,
        "too_short_items": 1,
    }
    assert "8-grams" in facts["rule"]


def test_names_are_checked() -> None:
    assert parse_names("llama3, gpt3") == ("gpt3", "llama3")
    assert len(parse_names("all")) == 5
    with pytest.raises(AuditError, match="--also gpt5: no such definition"):
        parse_names("gpt5")
