"""Filter profiles: what they drop, for which reason, and that nothing vanishes."""

from pathlib import Path

import pytest

from configs.build import Profile
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
    ],
)
def test_text_filter(text: str, verdict: object) -> None:
    rule = TextFilter(min_characters=10, min_letters=0.5, max_word_characters=20)
    assert rule.filter(document("d", text, "f", 0)) == verdict


def verdicts(profile: Profile, texts: list[str], folder: Path) -> tuple[list[str], dict[str, str]]:
    step = ApplyProfile(profile, folder)
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


def test_what_readers_marked_is_dropped_for_their_reason(tmp_path: Path) -> None:
    docs = [document("a", PROSE, "f", 0), document("b", "{", "f", 1, reason="invalid_json")]
    kept = list(ApplyProfile("none", tmp_path)(docs))
    assert [doc.id for doc in kept] == ["a"]
    (row,) = read_rows(task_file(tmp_path, 0))
    assert (row["doc_id"], row["reason"], row["text"]) == ("b", "invalid_json", "{")


def test_rules_are_fresh_objects() -> None:
    assert rules("web")[0] is not rules("web")[0]
    assert rules("none") == []
