"""Filter profiles: what they drop, for which reason, and that nothing vanishes."""

from pathlib import Path
from random import Random

import pytest

from configs.text_sources import Profile
from pipeline.addresses import AddressFilter, HashedLines, hashes_of_lines
from pipeline.documents import document, read_rows, task_file
from pipeline.filters import ApplyProfile, TextFilter, rules

PROSE = (
    "The little town lies at the foot of the mountain, and most of the people who live there have "
    "worked in the mill for as long as they can remember. In summer they walk along the river with "
    "their children; in winter the road is closed for weeks, so that letters come late. Nobody "
    "seems to mind that very much, because there is always something to do in the house."
)
MATHS = "Return $\\sum_{i=0}^n a_i x^i = 0$ where $a_i \\in R$; see [1]_, eq. (3.2), x**2 - 1 == 0."


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("a" * 9, (False, "short")),
        ("1234567890 + ab", (False, "few_letters")),
        ("word " + "x" * 21, (False, "long_word")),
        ("word " + "x" * 20, True),
        ("日本語 \u3000\u00a0 abcde 123456", True),  # 8 of 14
        ("日本語 \u3000\u00a0 abcd 12345678", (False, "few_letters")),  # 7 of 15
    ],
)
def test_text_filter(text: str, verdict: object) -> None:
    rule = TextFilter(min_characters=10, min_letters=0.5, max_word_characters=20)
    assert rule.filter(document("d", text, "f", 0)) == verdict


def verdicts(profile: Profile, texts: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    step = ApplyProfile(profile, (), folder, folder / "edited")
    docs = [document(str(i), text, "f", i) for i, text in enumerate(texts)]
    kept = [doc.id for doc in step(docs)]
    dropped = {row["doc_id"]: row["reason"] for row in read_rows(task_file(folder, 0))}
    assert len(kept) + len(dropped) == len(texts)
    return kept, dropped


def test_web_profile_keeps_prose_and_says_why_not(tmp_path: Path) -> None:
    said_often = "The mill is closed, said the people in the town to me that day. " * 9
    numbers = PROSE[:200] + " 12 345, 6789; 10:30 (11) 12/13" * 9
    kept, dropped = verdicts(
        "web", [PROSE, "Too short to be a page.", "# " * 60 + PROSE, said_often, numbers], tmp_path
    )
    assert kept == ["0"]
    assert dropped == {
        "1": "gopher_short_doc",
        "2": "gopher_too_many_hashes",
        "3": "top_4_gram",
        "4": "gopher_below_alpha_threshold",
    }


def test_profiles_treat_mathematics_differently(tmp_path: Path) -> None:
    assert verdicts("math", [MATHS * 2], tmp_path / "m")[0] == ["0"]
    assert verdicts("docs", [MATHS * 3], tmp_path / "d")[1] == {"0": "few_letters"}
    assert verdicts("none", ["x"], tmp_path / "n")[0] == ["0"]
    repeated = "\n".join(["same line of a list of parameters"] * 9)
    assert verdicts("docs", [repeated], tmp_path / "r")[1] == {"0": "dup_line_frac"}
    third = "\n".join(f"{k % 6}. a line of a list of parameters" for k in range(9))
    assert verdicts("docs", [third], tmp_path / "t")[0] == ["0"]


def test_profiles_of_good_sources_are_more_patient(tmp_path: Path) -> None:
    dates = PROSE + " (1904, 1905, 1906; 1907, 1908, 1909; 1910, 1911.)"
    article = "The mill in the town was built by the people who live there, and it is closed."
    article = (
        article + " It has not been open since the summer of the year that came after the war."
    )
    texts = [PROSE, dates, article]
    assert verdicts("web", texts, tmp_path / "w")[1] == {
        "1": "gopher_below_alpha_threshold",
        "2": "gopher_short_doc",
    }
    assert verdicts("edu", texts, tmp_path / "e")[1] == {"2": "gopher_short_doc"}
    assert verdicts("encyclopedia", texts, tmp_path / "n")[0] == ["0", "1", "2"]


def test_books_may_be_long(tmp_path: Path) -> None:
    fresh = Random(0)
    words = PROSE.split()
    book = " ".join(" ".join(fresh.sample(words, 60)) for _ in range(2000))
    assert verdicts("web", [book], tmp_path / "w")[1] == {"0": "gopher_long_doc"}
    assert verdicts("books", [book], tmp_path / "b")[0] == ["0"]


def test_other_languages_are_dropped(tmp_path: Path) -> None:
    german = (
        "Die Mühle am Fluss ist seit dem Sommer geschlossen, und niemand im Ort weiß, wie lange. "
        "The people of the town have to go to the next one. Man sagt, dass der Besitzer krank ist, "
        "dass er in die Stadt gezogen sei, und dass ein anderer das Haus kaufen wolle; im Winter "
        "lag der Schnee so hoch, dass die Kinder nicht in die Schule gehen konnten, und die Alten "
        "erzählten am Ofen von der Zeit, als hier noch drei Mühlen standen und Arbeit für alle war."
    )
    for profile in ("web", "edu", "encyclopedia", "books"):
        assert verdicts(profile, [german], tmp_path / profile)[1] == {"0": "language"}


def test_hashed_lines_hold_what_datatrove_reads() -> None:
    lines = HashedLines(hashes_of_lines([b"# b.org\n", b" a.org \n", b"z.org\r\n", b"#c.org"]))
    names = ("a.org", "b.org", "c.org", "z.org", "", "zz.org")
    assert [name for name in names if name in lines] == ["a.org", "z.org"]


@pytest.mark.slow  # hashes 4.6 million domains the first time: ten seconds
def test_crawl_drops_by_address() -> None:
    rule = AddressFilter()
    verdict = {
        url: rule.filter(document("d", PROSE, "f", 0, url=url))
        for url in (
            None,
            "https://en.wikipedia.org/wiki/Mill",
            "https://a.org/xxx-porn-sex/1",
            "http://www.sex.com",
        )
    }
    assert verdict[None] is True
    assert verdict["https://en.wikipedia.org/wiki/Mill"] is True
    assert verdict["https://a.org/xxx-porn-sex/1"] == (False, "hard_blacklisted")
    assert verdict["http://www.sex.com"] == (False, "domain")


def test_what_readers_marked_is_dropped_for_their_reason(tmp_path: Path) -> None:
    docs = [document("a", PROSE, "f", 0), document("b", "{", "f", 1, reason="invalid_json")]
    kept = list(ApplyProfile("none", (), tmp_path, tmp_path / "edited")(docs))
    assert [doc.id for doc in kept] == ["a"]
    (row,) = read_rows(task_file(tmp_path, 0))
    assert (row["doc_id"], row["reason"], row["text"]) == ("b", "invalid_json", "{")


def test_rules_are_fresh_objects() -> None:
    assert rules("web")[0] is not rules("web")[0]
    assert rules("none") == []
