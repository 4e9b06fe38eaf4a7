"""Rules that edit: what they make of a text, and a funnel that balances to the token."""

import io
import json
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from configs.build import BuildConfig
from configs.text_sources import Edit, JsonlSource, Profile
from pipeline.build import Built, build
from pipeline.documents import document, read_rows, task_file
from pipeline.edits import C4Lines, PersonalData, with_edits
from pipeline.errors import BuildError
from pipeline.filters import ApplyProfile, Judgement, edits_of, judge, limits_of, rules
from pipeline.funnel import check_balance, funnel
from pipeline.funnel_sums import read_sums, sums, write_sums
from shards.hashing import content_hash
from shards.manifest import Dropped, Edited
from shards.reader import Dataset
from shards.views import funnel_table
from tests.helpers import byte_tokenizer

LINES = (
    "Home | About\nThe mill is old.\nIt is [3] closed!\n\nNo.\nPlease enable JavaScript in it.\n"
)
LEFT = "The mill is old.\nIt is  closed!"
MAIL = "Ask ann@mill.org or bob@mill.org at 52.230.7.59, not at 192.168.1.1."
MAILS = ("email@example.com", "firstname.lastname@example.org")


def judged(text: str, profile: Profile, *edits: Edit) -> tuple[Judgement, str]:
    doc = document("d", text, "f", 0)
    return judge(with_edits(rules(profile), edits), doc), doc.text


def test_lines_are_taken_out_as_c4_did() -> None:
    assert judged(LINES, "none", "c4_lines") == (Judgement(None, [("c4_lines", LINES)]), LEFT)
    assert judged(LEFT, "none", "c4_lines") == (Judgement(None, []), LEFT)  # nothing to edit
    gone = Judgement("c4_lines_left_nothing", [("c4_lines", "Menu")])
    assert judged("Menu", "none", "c4_lines") == (gone, "")


def test_the_profile_c4_drops_pages_too() -> None:
    english = " It stands in the middle of the town, and the people like it."
    page = "The mill is old.\n" + "\n".join(f"This is part {i}.{english}" for i in range(3))
    assert judged(page, "c4")[0] == Judgement(None, [])
    assert judged(LINES, "c4")[0].reason == "too_few_sentences"
    assert judged(page + "\nIt has a { in it.", "c4")[0].reason == "curly_bracket"


def test_personal_data_is_replaced_and_stays_replaced() -> None:
    judgement, text = judged(MAIL, "none", "pii")
    assert judgement == Judgement(None, [("pii", MAIL)])
    first = content_hash(MAIL)[0] % 2
    assert text.startswith(f"Ask {MAILS[first]} or {MAILS[1 - first]} at ")
    assert "52.230.7.59" not in text
    assert text.endswith(", not at 192.168.1.1.")
    assert judged(text, "none", "pii") == (Judgement(None, []), text)


def test_an_edit_depends_on_the_text_alone() -> None:
    texts = [f"Mail {i} goes to u{i}@a.org and v{i}@b.org." for i in range(40)]
    rule = PersonalData()

    def edited(text: str) -> str:
        doc = document("d", text, "f", 0)
        rule.filter(doc)
        return str(doc.text)

    wanted = {text: edited(text) for text in texts}
    assert {text: edited(text) for text in Random(1).sample(texts, 40)} == wanted
    assert {text.split()[4] for text in wanted.values()} == set(MAILS)  # in turn


def test_lines_go_before_the_rules_and_addresses_after() -> None:
    edits: tuple[Edit, ...] = ("pii", "c4_lines")
    names = [rule.name for rule in with_edits(rules("math"), edits)]
    assert names == ["c4_lines", "text", "pii"]


def test_edits_of_a_source_are_its_own_or_its_profiles() -> None:
    values = {"kind": "jsonl", "licence": "CC0", "paths": ["x"]}
    chosen = {
        (profile, edits): edits_of(
            JsonlSource.model_validate(values | {"profile": profile, "edits": edits})
        )
        for profile in ("web", "crawl", "edu", "none")
        for edits in (None, (), ("c4_lines",))
    }
    assert chosen == {
        (profile, edits): (("pii",) if profile in ("web", "crawl") else ())
        if edits is None
        else edits
        for profile, edits in chosen
    }
    with pytest.raises(ValueError, match="'c4_lines' or 'pii'"):
        JsonlSource.model_validate(values | {"edits": ["c4"]})


def test_dropped_documents_are_kept_as_they_came(tmp_path: Path) -> None:
    step = ApplyProfile("math", ("pii", "c4_lines"), tmp_path / "dropped", tmp_path / "edited")
    long = "The sum of the angles of the triangle is two right angles, says Euclid."
    texts = [LINES, f"Menu\n{long}\nWrite to ann@mill.org for a proof of it."]
    kept = list(step([document(str(i), text, "f", i) for i, text in enumerate(texts)]))
    without_menu = texts[1].removeprefix("Menu\n")
    assert [doc.id for doc in kept] == ["1"]
    assert kept[0].text == without_menu.replace(
        "ann@mill.org", MAILS[content_hash(without_menu)[0] % 2]
    )
    dropped = [(row["text"], row["reason"]) for row in read_rows(task_file(step.dropped, 0))]
    assert dropped == [(LINES, "short")]
    edited = [(row["text"], row["reason"]) for row in read_rows(task_file(step.edited, 0))]
    assert edited == [(texts[1], "c4_lines"), (without_menu, "pii")]


def test_limits_of_length_come_before_the_rules(tmp_path: Path) -> None:
    values = {"kind": "jsonl", "licence": "CC0-1.0", "paths": ["x.jsonl"]}
    assert limits_of(JsonlSource.model_validate(values)) is None
    source = JsonlSource.model_validate(values | {"min_characters": 4, "max_characters": 6})
    dropped, edited = tmp_path / "dropped", tmp_path / "edited"
    step = ApplyProfile("none", (), dropped, edited, limits_of(source))
    texts = ["abc", "abcd", "abcdef", "äöüßxyz"]
    kept = list(step([document(str(i), text, "f", i) for i, text in enumerate(texts)]))
    assert [doc.text for doc in kept] == ["abcd", "abcdef", "äöüßxy"]
    assert [(row["text"], row["reason"]) for row in read_rows(task_file(dropped, 0))] == [
        ("abc", "short")
    ]
    assert [(row["text"], row["reason"]) for row in read_rows(task_file(edited, 0))] == [
        ("äöüßxyz", "max_characters")
    ]


def config_of(folder: Path) -> BuildConfig:
    texts = {
        "a": f"{LINES}Write to ann@mill.org.",
        "b": f"{LEFT}\nIt is the second of the mills.",
        "c": f"Menu\n{LEFT}\nIt is the second of the mills.",  # after the edit a copy of b
        "d": "Menu",
        "e": "",
    }
    lines = [json.dumps({"id": key, "text": text}) for key, text in texts.items()]
    for i, part in enumerate((lines[:2], lines[2:])):
        (folder / f"texts-{i}.jsonl").write_text("\n".join(part), encoding="utf-8")
    byte_tokenizer().save(str(folder / "bytes.json"))
    source = {
        "kind": "jsonl", "licence": "CC0", "paths": [str(folder / "texts-*.jsonl")], "id": "id",
        "edits": ["c4_lines", "pii"],
    }  # fmt: skip
    values: dict[str, Any] = {"name": "edited", "sources": {"s": source}}
    values["tokenizer"] = {"file": str(folder / "bytes.json")}
    values["split"] = {"val_fraction": 0}
    return BuildConfig.model_validate(values)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("edited")
    result = build(config_of(folder), folder / "out")
    assert result is not None
    return result


def test_a_build_counts_edits_to_the_token(built: Built) -> None:
    facts = built.manifest.sources["s"]
    assert facts.edits == ("c4_lines", "pii")
    read, filtered, dedup, pack = facts.funnel
    mail = MAILS[content_hash(f"{LEFT}\nWrite to ann@mill.org.")[0] % 2]
    grown = len(mail) - len("ann@mill.org")
    lines = len(LINES) - len(LEFT) - 1  # one line feed stays, before "Write"
    assert filtered.edited == {
        "c4_lines": Edited(
            documents=2,
            characters_removed=lines + 5,
            characters_added=0,
            tokens_removed=lines + 5,
            tokens_added=0,
        ),
        "pii": Edited(
            documents=1,
            characters_removed=0,
            characters_added=grown,
            tokens_removed=0,
            tokens_added=grown,
        ),
    }
    assert filtered.dropped == {
        "c4_lines_left_nothing": Dropped(documents=1, characters=4, tokens=5)
    }
    assert filtered.characters_out == filtered.characters_in - 4 - lines - 5 + grown
    assert filtered.tokens_out == (filtered.tokens_in or 0) - 5 - lines - 5 + grown
    assert (read.documents_in, read.tokens_in) == (5, (read.characters_in or 0) + 5)
    size = len(LEFT) + len("\nIt is the second of the mills.")
    assert dedup.dropped == {"exact": Dropped(documents=1, characters=size, tokens=size + 1)}
    assert pack.tokens_out == facts.splits["train"].tokens


def test_the_dataset_holds_the_text_after_editing(built: Built) -> None:
    dataset = Dataset.open(built.path)
    stream = dataset.stream("s")
    tokenizer = dataset.tokenizer()
    rows = list(stream.documents().iter_rows(named=True))
    assert [row["doc_id"] for row in rows] in (["a", "b"], ["a", "c"])  # b and c have one text
    for row in rows:
        start, stop = row["token_start"], row["token_start"] + row["token_count"]
        text = tokenizer.decode(stream.tokens(start, stop - 1).tolist())
        assert row["content_hash"] == content_hash(text)
        assert row["char_count"] == len(text)
        assert "Menu" not in text
        assert "ann@" not in text


def test_two_workers_give_the_same_bytes_and_the_same_page(built: Built) -> None:
    folder = built.path.parent
    two = build(config_of(folder), folder / "two", workers=2)
    assert two is not None
    assert two.manifest == built.manifest
    for path in sorted(built.path.rglob("*.*")):
        assert (two.path / path.relative_to(built.path)).read_bytes() == path.read_bytes()
    assert two.page.read_bytes() == built.page.read_bytes()


def test_the_terminal_shows_edits(built: Built) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(funnel_table({"s": built.manifest.sources["s"].funnel}))
    shown = console.export_text()
    assert "filter: edited by c4_lines" in shown
    assert "(2)" in shown


Case = tuple[list[tuple[int, int]], int, str]
"""Sizes of a document before every edit, its last characters, the stage it ends in; the third edit
is one of the decontamination."""
SIZES = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=3)
ENDS = ["read", "filter", "dedup", "decontaminate", "pack"]
CASES = st.lists(
    st.tuples(SIZES, st.integers(0, 50), st.sampled_from(ENDS)),
    min_size=1,
    max_size=8,
)


def frames(cases: list[Case]) -> tuple[pl.DataFrame, pl.DataFrame, tuple[int, int]]:
    """Rows, edits (of documents that passed the filters), and what was read."""
    rows, edits, read = [], [], 0
    for i, (befores, characters, stage) in enumerate(cases):
        befores = befores[: {"pack": 3, "decontaminate": 2, "dedup": 2}.get(stage, 0)]
        row = {"doc_id": f"d{i}", "stage": stage, "reason": stage}
        rows.append(row | {"characters": characters, "tokens": characters + 1})
        for k, (size, tokens) in enumerate(befores):
            edit = row | {"reason": f"e{k}", "characters": size, "tokens": tokens}
            edits.append(edit | {"stage": "filter" if k < 2 else "decontaminate"})
        read += befores[0][0] if befores else characters
    kinds = {
        "doc_id": pl.String, "stage": pl.String, "reason": pl.String,
        "characters": pl.Int64, "tokens": pl.Int64,
    }  # fmt: skip
    return pl.DataFrame(rows, kinds), pl.DataFrame(edits, kinds), (len(cases), read)


def of_task(folder: Path, rows: pl.DataFrame, edits: pl.DataFrame) -> Path:
    """The file that a task leaves of its documents."""
    files = [folder / name for name in ("rows.parquet", "edits.parquet")]
    for frame, file in zip((rows, edits), files, strict=True):
        frame.write_parquet(file)
    made = folder / f"{len(list(folder.iterdir()))}.json"
    write_sums(made, *files)
    return made


@settings(max_examples=60, deadline=None)
@given(CASES, st.integers(0, 99))
def test_every_funnel_balances_and_every_flaw_shows(cases: list[Case], flaw: int) -> None:
    rows, edits, read = frames(cases)
    stages = funnel(sums(rows, edits), revising=("decontaminate",))
    check_balance("s", stages, read)
    # Task by task it is the same.
    odd = pl.col("doc_id").str.slice(1).cast(pl.Int64) % 2 == 1
    with TemporaryDirectory() as made:
        tasks = [
            of_task(Path(made), *(f.filter(half) for f in (rows, edits))) for half in (odd, ~odd)
        ]
        assert funnel(read_sums(tasks), revising=("decontaminate",)) == stages
    out = rows.filter(pl.col("stage") == "pack")
    assert stages[-1].tokens_out == out["tokens"].sum()
    assert stages[0].characters_in == read[1]
    if not len(edits):
        return
    # The size before the first edit is off by one, or a text of an edited document is gone.
    first = edits.with_row_index().unique("doc_id", keep="first", maintain_order=True)["index"]
    wrong = pl.int_range(pl.len()) == first[flaw % len(first)]
    damaged = edits.with_columns(characters=pl.col("characters") + wrong.cast(pl.Int64))
    with pytest.raises(BuildError, match="does not balance"):
        check_balance("s", funnel(sums(rows, damaged), revising=("decontaminate",)), read)


def test_a_wrong_count_of_an_edit_is_found() -> None:
    rows, edits, read = frames([([(30, 9), (20, 8)], 10, "pack"), ([], 5, "pack")])
    stages = funnel(sums(rows, edits), revising=("decontaminate",))
    check_balance("s", stages, read)
    edited = stages[1].edited
    assert {name: (e.characters_removed, e.tokens_added) for name, e in edited.items()} == {
        "e0": (10, 0),
        "e1": (10, 3),
    }
    for field in ("characters_removed", "characters_added", "tokens_removed", "tokens_added"):
        wrong = edited["e0"].model_copy(update={field: getattr(edited["e0"], field) + 1})
        bad = stages[1].model_copy(update={"edited": edited | {"e0": wrong}})
        with pytest.raises(BuildError, match="stage 'filter' got"):
            check_balance("s", (stages[0], bad, *stages[2:]), read)
    without_last = rows.filter(pl.col("doc_id") != "d0")
    with pytest.raises(BuildError, match="does not balance"):
        check_balance("s", funnel(sums(without_last, edits), revising=("decontaminate",)), read)


def test_c4_lines_has_the_rules_of_datatrove() -> None:
    rule = C4Lines()
    assert (rule.min_num_sentences, rule.min_words_per_line, rule.max_word_length) == (-1, 3, 1000)
    assert rule.filter_policy
    assert rule.filter_javascript
