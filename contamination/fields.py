"""Field maps: which columns of a benchmark's rows are the question, answer, choices and passage.

A map is data: `sets.yaml` has one for every registered set, and a user writes one on the command
line. In a column, ``a.b`` reaches into an object, ``a+b`` joins two columns with a space, and
``a,b`` (choices only) makes a list of columns.
"""

import re
from collections.abc import Callable
from typing import Any, Literal

from configs.base import Section
from contamination.errors import AuditError
from contamination.items import Item

Row = dict[str, Any]
Rule = Literal["fill_blank", "last_word", "cut_passage", "cut_scaffold", "cut_calculator"]


class FieldMap(Section):
    """Columns of a row, and how its answer is written."""

    question: str = "question"
    """The question's column; it must be there."""
    answer: str | None = None
    """The answer's column: text, a list of right texts (the first is taken), true or false, the
    position of the right choice, or its label."""
    choices: str | None = None
    """A column with a list, or columns with a comma between them."""
    passage: str | None = None
    """The column of a text that the question is about."""
    id: str | None = None
    """The column of a name that no other row has; without one, rows are numbered."""
    labels: str | None = None
    """Where answers are labels: the column of the choices' labels, or `letters` for A, B, C."""
    first: int | None = None
    """Where answers are positions: the number of the first choice. 0 is taken for numbers; a
    position that is written as text ("2") is only taken for one where this is set."""
    rule: Rule | None = None
    """What else this set needs; see `contamination.fields.RULES`."""


DEFAULT = FieldMap(answer="answer", choices="choices", passage="passage", id="id")
"""For a file without a map: columns are called as the fields are."""


def to_item(row: Row, fields: FieldMap, given: set[str], where: str, number: int | str) -> Item:
    """The item of a row.

    Args:
        row: its columns.
        fields: where the fields are.
        given: fields whose column must be there; of the others it may be missing.
        where: file and row, for messages.
        number: the item's id where the map has none.

    Raises:
        AuditError: a missing column, or an answer that is no choice.
    """
    needed = given | {"question"}
    values = {
        name: _value(row, getattr(fields, name), name in needed, where)
        for name in ("question", "answer", "passage", "id")
    }
    choices = _choices(row, fields, "choices" in needed, where)
    item = Item(
        str(number if values["id"] is None else values["id"]),
        str(values["question"]),
        _answer(values["answer"], choices, _labels(row, fields, choices, where), fields, where),
        choices,
        str(values["passage"] or ""),
    )
    return RULES[fields.rule](item) if fields.rule else item


def _choices(row: Row, fields: FieldMap, needed: bool, where: str) -> tuple[str, ...]:
    columns = (fields.choices or "").split(",")
    found = [_value(row, column, needed, where) for column in columns if column]
    if len(found) == 1 and isinstance(found[0], (list, tuple)):
        return tuple(str(choice) for choice in found[0])
    # A list among several columns is spliced in: "right,distractors".
    spliced = [part for value in found for part in (value if isinstance(value, list) else [value])]
    return tuple(str(value) for value in spliced if value is not None)


def _labels(row: Row, fields: FieldMap, choices: tuple[str, ...], where: str) -> list[str]:
    if fields.labels == "letters":
        return [chr(ord("A") + k) for k in range(len(choices))]
    found = _value(row, fields.labels, True, where) if fields.labels else []
    return [str(label) for label in found]


def _answer(
    answer: Any, choices: tuple[str, ...], labels: list[str], fields: FieldMap, where: str
) -> str:
    if isinstance(answer, bool):
        return "yes" if answer else "no"
    if isinstance(answer, list):
        answer = answer[0] if answer else None
    if answer is None:
        return ""
    if labels:
        if str(answer) not in labels:
            raise AuditError(f"{where}: answer '{answer}' is none of the labels {labels}")
        return choices[labels.index(str(answer))]
    written = isinstance(answer, str) and fields.first is not None and answer.isdigit()
    if choices and (isinstance(answer, int) or written):
        position = int(answer) - (fields.first or 0)
        if not 0 <= position < len(choices):
            raise AuditError(f"{where}: answer {answer} is no position in {len(choices)} choices")
        return choices[position]
    return str(answer)


def _value(row: Row, column: str | None, needed: bool, where: str) -> Any:
    if column is None:
        return None
    if "+" in column:
        return " ".join(str(_value(row, part, needed, where)) for part in column.split("+"))
    value: Any = row
    for key in column.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    if value is None and needed:
        known = ", ".join(str(key) for key in row)
        raise AuditError(f"{where}: no column '{column}' (it has: {known}); map it: ?field=COLUMN")
    return value


def _fill_blank(item: Item) -> Item:
    """WinoGrande: the sentence with the right word in its blank; no answer beside it."""
    return Item(item.id, item.question.replace("_", item.answer), "", item.choices, item.passage)


def _last_word(item: Item) -> Item:
    """LAMBADA: the last word is asked for."""
    question, _, answer = item.question.rstrip().rpartition(" ")
    return Item(item.id, question, answer, item.choices, item.passage)


def _cut_passage(item: Item) -> Item:
    """MMLU's history questions quote a document first; that part is the passage."""
    if not item.question.startswith("This question refers to the following information"):
        return item
    passage, _, question = item.question.rpartition("\n")
    return Item(item.id, question, item.answer, item.choices, passage)


def _cut_scaffold(item: Item) -> Item:
    """Prompts of requests: without "Question:" before and "Answer:" behind."""
    question = item.question.removeprefix("Question: ").removesuffix("\nAnswer:")
    return Item(item.id, question, item.answer, item.choices, item.passage)


def _cut_calculator(item: Item) -> Item:
    """GSM8K: without the calculator's notes, <<16-3-4=9>>."""
    answer = re.sub(r"<<.*?>>", "", item.answer)
    return Item(item.id, item.question, answer, item.choices, item.passage)


RULES: dict[Rule, Callable[[Item], Item]] = {
    "fill_blank": _fill_blank,
    "last_word": _last_word,
    "cut_passage": _cut_passage,
    "cut_scaffold": _cut_scaffold,
    "cut_calculator": _cut_calculator,
}
