"""Benchmarks of the registry, the hub and lm-eval: rows of the real shapes -> items."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from huggingface_hub import close_session

from contamination.benchmarks import load_benchmarks
from contamination.errors import AuditError
from contamination.fields import to_item
from contamination.items import Item
from contamination.lm_eval_tasks import task_of_samples
from contamination.registry import map_of_task, registered
from tests.hub_server import Hub, Repo, serve

TESTDATA = os.environ.get("TALLY_TESTDATA")
LISTED = {"text": ["sun", "moon"], "label": ["A", "B"]}

# One row of each set, with the columns of the hub's files, and its item.
ROWS: dict[str, tuple[dict[str, Any], Item]] = {
    "arc_easy": (
        {"id": "M1", "question": "Why?", "choices": LISTED, "answerKey": "B"},
        Item("M1", "Why?", "moon", ("sun", "moon")),
    ),
    "arc_challenge": (
        {"id": "N", "question": "Why?",
         "choices": {**LISTED, "label": ["1", "2"]}, "answerKey": "1"},
        Item("N", "Why?", "sun", ("sun", "moon")),
    ),
    "hellaswag": (
        {"ind": 24, "ctx": "A man sits. he", "endings": ["runs.", "sleeps."], "label": "1"},
        Item("0", "A man sits. he", "sleeps.", ("runs.", "sleeps.")),
    ),
    "lambada": ({"text": "He read the signs"}, Item("0", "He read the", "signs")),
    "piqa": (
        {"goal": "open a jar", "sol1": "twist", "sol2": "bite", "label": 0},
        Item("0", "open a jar", "twist", ("twist", "bite")),
    ),
    "winogrande": (
        {"sentence": "Ann met Eve so _ left.", "option1": "Ann", "option2": "Eve", "answer": "2"},
        Item("0", "Ann met Eve so Eve left.", "", ("Ann", "Eve")),
    ),
    "copa": (
        {"premise": "It rained.", "choice1": "dry", "choice2": "wet", "label": 1},
        Item("0", "It rained.", "wet", ("dry", "wet")),
    ),
    "boolq": (
        {"question": "is it", "passage": "It is.", "answer": True},
        Item("0", "is it", "yes", (), "It is."),
    ),
    "wsc273": (
        {"text": "They feared it.", "options": ["a", "b"], "label": 0},
        Item("0", "They feared it.", "", ("a", "b")),
    ),
    "truthfulqa": (
        {"question": "q?", "best_answer": "r", "correct_answers": ["r"],
         "incorrect_answers": ["w"]},
        Item("0", "q?", "r", ("r", "w")),
    ),
    "openbookqa": (
        {"id": "8-1", "question_stem": "stem", "choices": LISTED, "answerKey": "A"},
        Item("8-1", "stem", "sun", ("sun", "moon")),
    ),
    "aqua_rat": (
        {"question": "q", "options": ["A)1", "B)2"], "rationale": "r", "correct": "B"},
        Item("0", "q", "B)2", ("A)1", "B)2")),
    ),
    "commonsense_qa": (
        {"id": "x", "question": "q", "question_concept": "c", "choices": LISTED, "answerKey": "B"},
        Item("x", "q", "moon", ("sun", "moon")),
    ),
    "sciq": (
        {"question": "q", "correct_answer": "r", "distractor1": "1", "distractor2": "2",
         "distractor3": "3", "support": "s"},
        Item("0", "q", "r", ("r", "1", "2", "3"), "s"),
    ),
    "social_i_qa": (
        {"context": "Ann ran.", "question": "Why?", "answerA": "a", "answerB": "b", "answerC": "c",
         "label": "3"},
        Item("0", "Ann ran. Why?", "c", ("a", "b", "c")),
    ),
    "gsm8k": (
        {"question": "2+3?", "answer": "2+3=<<2+3=5>>5\n#### 5"}, Item("0", "2+3?", "2+3=5\n#### 5")
    ),
    "math": ({"problem": "p", "level": "1", "solution": "s"}, Item("0", "p", "s")),
    "mmlu": (
        {"question": "This question refers to the following information.\nWe hold\nWho?",
         "subject": "history", "choices": ["a", "b"], "answer": 1},
        Item("0", "Who?", "b", ("a", "b"),
             "This question refers to the following information.\nWe hold"),
    ),
    "humaneval": (
        {"task_id": "HumanEval/0", "prompt": "def f():", "canonical_solution": " pass"},
        Item("HumanEval/0", "def f():", " pass"),
    ),
    "mbpp": ({"task_id": 11, "text": "Write f.", "code": "f = 1"}, Item("11", "Write f.", "f = 1")),
    "triviaqa": (
        {"question_id": "tc_1", "question": "Who?", "answer": {"value": "Ann", "aliases": []}},
        Item("tc_1", "Who?", "Ann"),
    ),
    "nq_open": ({"question": "when", "answer": ["1972", "in 1972"]}, Item("0", "when", "1972")),
    "squad": (
        {"id": "5", "context": "c", "question": "q", "answers": {"text": ["a"]}},
        Item("5", "q", "a", (), "c"),
    ),
    "drop": (
        {"query_id": "d", "passage": "p", "question": "q", "answers_spans": {"spans": ["7"]}},
        Item("d", "q", "7", (), "p"),
    ),
}  # fmt: skip


def test_every_registered_set_has_a_case() -> None:
    assert ROWS.keys() == registered().keys()


@pytest.mark.parametrize("name", ROWS)
def test_rows_of_the_hubs_shape_become_items(name: str) -> None:
    row, item = ROWS[name]
    assert to_item(row, registered()[name].fields, {"question"}, name, 0) == item


def parquet(rows: list[dict[str, Any]]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(rows).write_parquet(out)
    return out.getvalue()


ARC, MATH = "allenai/ai2_arc", "EleutherAI/hendrycks_math"
BRANCH = "refs/convert/parquet"
OLD, NEW = "1" * 40, "2" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    file = "ARC-Easy/test/0000.parquet"
    other = ROWS["arc_easy"][0] | {"id": "M2", "question": "Where?"}
    commits = {OLD: {file: parquet([ROWS["arc_easy"][0]])}, NEW: {file: parquet([other])}}
    problems = {
        f"{name}/test/0000.parquet": parquet([{"problem": f"p of {name}", "solution": "s"}])
        for name in ("algebra", "geometry")
    }
    with serve() as server:
        server.repos[ARC] = Repo(commits, {BRANCH: OLD})
        server.repos[MATH] = Repo({OLD: problems}, {BRANCH: OLD})
        monkeypatch.setenv("HF_ENDPOINT", server.endpoint)
        monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
        close_session()
        yield server
        close_session()


def test_a_set_of_the_hub_is_pinned_to_its_commit(hub: Hub) -> None:
    (first,) = load_benchmarks(["hub:arc_easy"])
    assert first.items == (ROWS["arc_easy"][1],)
    assert first.split == "test"
    assert first.origin == f"{ARC}@{OLD} ARC-Easy"
    hub.repos[ARC].names[BRANCH] = NEW
    asked = len(hub.requests)
    assert load_benchmarks(["hub:arc_easy"])[0].origin == first.origin
    assert len(hub.requests) == asked  # the pin and the file are remembered
    (moved,) = load_benchmarks([f"hub:arc_easy@{NEW}"])
    assert [item.id for item in moved.items] == ["M2"]


def test_a_set_of_several_files_names_items_by_subject(hub: Hub) -> None:
    (benchmark,) = load_benchmarks(["hub:math"])
    assert [item.id for item in benchmark.items] == ["algebra/0", "geometry/0"]


def test_what_the_hub_refuses_is_said(hub: Hub) -> None:
    with pytest.raises(AuditError, match=r"hub:piqa: ybisk/piqa: .*olmo:NAME or NAME=FILE"):
        load_benchmarks(["hub:piqa"])
    with pytest.raises(AuditError, match="did you mean hub:boolq"):
        load_benchmarks(["hub:boolqa"])
    hub.repos[ARC].commits[OLD] = {"README.md": b""}
    with pytest.raises(AuditError, match="no file ARC-Easy/test"):
        load_benchmarks(["hub:arc_easy"])


YAML = """task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
output_type: {output_type}
doc_to_text: "{text}"
doc_to_target: "{target}"
{choices}
metric_list: [{{metric: {metric}}}]
"""


def lm_eval_task(folder: Path, rows: list[dict[str, Any]], **parts: str) -> str:
    data = folder / f"{parts['name']}.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    usual = {"choices": "", "output_type": "multiple_choice", "metric": "acc", "data": str(data)}
    path = folder / f"{parts['name']}.yaml"
    path.write_text(YAML.format(**(usual | parts)))
    return f"lm-eval:{path}"


def test_tasks_of_lm_eval_are_read_by_their_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with_options = lm_eval_task(
        tmp_path,
        [{"question": "What shines?", "choices": ["sun", "stone"], "answer": 0}],
        name="options",
        text=r"{{question}}\nA. {{choices[0]}}\nB. {{choices[1]}}\nAnswer:",
        target="answer",
        choices='doc_to_choice: ["A", "B"]',
    )
    about_passage = lm_eval_task(
        tmp_path,
        [{"passage": "The moon shines by borrowed light.", "question": "Does it?", "gold": "no"}],
        name="about",
        text=r"{{passage}}\nQuestion: {{question}}\nAnswer:",
        target="{{gold}}",
        output_type="generate_until",
        metric="exact_match",
    )
    first, second = load_benchmarks([with_options, about_passage])
    assert (first.name, first.split) == ("options", "test")
    assert first.items == (Item("0", "What shines?", "sun", ("sun", "stone")),)
    passage = "The moon shines by borrowed light."
    assert second.items == (Item("0", "Does it?", "no", (), passage),)


def test_a_task_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="no_such_task"):
        load_benchmarks(["lm-eval:no_such_task"])
    with pytest.raises(AuditError, match="no such file"):
        load_benchmarks([f"lm-eval:{tmp_path}/none.yaml"])


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("arc_easy.samples.jsonl", "arc_easy"),
        ("samples_arc_easy.jsonl", "arc_easy"),
        ("samples_arc_easy_2026-01-02T03-04-05.678.jsonl", "arc_easy"),
        ("samples_mmlu_1976-12.jsonl", "mmlu_1976-12"),
        ("results.jsonl", None),
        ("samples_.jsonl", None),
    ],
)
def test_a_file_of_samples_tells_its_task(name: str, task: str | None) -> None:
    assert task_of_samples(Path("somewhere") / name) == task


def test_logged_samples_are_the_items_that_were_scored(tmp_path: Path) -> None:
    rows = [
        {"doc_id": 7, "doc": ROWS["arc_easy"][0], "filter": name, "acc": 1.0}
        for name in ("none", "strict")
    ]
    path = tmp_path / "samples_arc_easy_2026-01-02T03-04-05.678.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (benchmark,) = load_benchmarks([f"samples:{path}"])
    assert (benchmark.name, benchmark.split) == ("arc_easy", "samples")
    assert benchmark.items == (Item("7", "Why?", "moon", ("sun", "moon")),)
    path.rename(tmp_path / "samples_arc_easy.jsonl")
    assert load_benchmarks([f"samples:{tmp_path}/samples_arc_easy.jsonl"])[0].name == "arc_easy"

    own = tmp_path / "riddles.samples.jsonl"
    own.write_text(json.dumps({"doc_id": 0, "doc": {"riddle": "who?", "gold": "I"}}) + "\n")
    (mapped,) = load_benchmarks([f"samples:{own}?question=riddle&answer=gold"])
    assert mapped.items == (Item("0", "who?", "I"),)
    with pytest.raises(AuditError, match="it has: riddle, gold"):
        load_benchmarks([f"samples:{own}"])
    with pytest.raises(AuditError, match="is called samples_TASK_TIME"):
        load_benchmarks([f"samples:{tmp_path}/other.jsonl"])


def test_subjects_of_a_task_share_its_map() -> None:
    assert map_of_task("mmlu_world_religions") == registered()["mmlu"].fields
    assert map_of_task("social_iqa") == registered()["social_i_qa"].fields
    assert map_of_task("unheard_of") is None


def test_csv_with_letters_lists_and_numbered_choices(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('q,one,two,key\n"Which, then?",sun,moon,B\n')
    (first,) = load_benchmarks([f"a={path}?question=q&choices=one,two&answer=key&labels=letters"])
    assert first.items == (Item("0", "Which, then?", "moon", ("sun", "moon")),)
    path.write_text("q,one,two,key\nWhich?,sun,moon,2\n")
    (second,) = load_benchmarks([f"a={path}?question=q&choices=one,two&answer=key&first=1"])
    assert second.items[0].answer == "moon"
    with pytest.raises(AuditError, match="none of the labels"):
        load_benchmarks([f"a={path}?question=q&choices=one,two&answer=key&labels=letters"])


LOCAL = {
    "arc_easy.jsonl": ("", 2376), "boolq.jsonl": ("", 3270), "mmlu.jsonl.gz": ("", 14042),
    "aqua_rat.jsonl": ("", 254), "truthfulqa.jsonl": ("?answer=best_answer", 817),
    "social_iqa.jsonl": ("?question=context+question", 1954),
    "wsc273.jsonl": ("?question=text", 273),
    "winogrande.jsonl": ("?question=sentence&rule=fill_blank", 1267),
    "extra/drop_1000.jsonl": ("?passage=passage", 1000),
    "extra/human_eval.jsonl": ("?question=prompt&answer=canonical_solution", 164),
    "orig/TruthfulQA.csv.gz": ("?question=Question&answer=Best%20Answer", 817),
}  # fmt: skip


@pytest.mark.skipif(not TESTDATA, reason="TALLY_TESTDATA is not set: no real sets")
@pytest.mark.parametrize("name", LOCAL)
def test_real_files_are_read_whole(name: str) -> None:
    query, size = LOCAL[name]
    (benchmark,) = load_benchmarks([f"x={TESTDATA}/benchmarks/{name}{query}"])
    assert len(benchmark.items) == size
    assert sum(len(item.question) > 10 for item in benchmark.items) > 0.99 * size
