"""Benchmarks from lm-eval: a task's own documents, questions and targets, by its own code.

The task's YAML says what is asked (doc_to_text), what is right (doc_to_target) and what may be
chosen (doc_to_choice). Of the prompt, options and a passage that the document holds in columns of
their own are taken out, so that they are not mistaken for the question.
"""

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contamination.errors import AuditError
from contamination.items import Benchmark, Item

if TYPE_CHECKING:
    from lm_eval.api.task import Task

_SAMPLES = re.compile(r"(.+)\.samples|samples_(.+?)(?:_\d{4}-\d\d-\d\dT.*)?")
_PASSAGES = ("passage", "context", "support", "article", "story")
_LETTERS = re.compile(r"\(?[A-Ja-j1-9]\)?\.?")


def task_of_samples(path: Path) -> str | None:
    """The task that a file of logged samples is of, by its name; None for any other name.

    `tally eval` calls them `TASK.samples.jsonl`, lm-eval `samples_TASK_TIME.jsonl`.
    """
    found = _SAMPLES.fullmatch(path.stem)
    return found and (found[1] or found[2])


def load(spec: str) -> list[Benchmark]:
    """The tasks of a name (task, group or tag) or of a YAML file.

    Raises:
        AuditError: no such task, or its documents cannot be had.
    """
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    path = Path(spec)
    is_file = path.suffix in (".yaml", ".yml")
    if is_file and not path.is_file():
        raise AuditError(f"lm-eval:{spec}: no such file")
    try:
        tasks = _tasks_of_file(path.resolve()) if is_file else _tasks(spec)
    except KeyError as error:
        raise AuditError(
            f"lm-eval:{spec}: {error.args[0]}; `lm-eval ls tasks` lists them"
        ) from None
    except (OSError, ValueError, ConnectionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise AuditError(f"lm-eval:{spec}: its documents cannot be had: {reason}") from None
    return [_benchmark(name, task) for name, task in tasks.items()]


def _tasks(spec: str) -> dict[str, Any]:
    from lm_eval.tasks import TaskManager

    return dict(TaskManager().load([spec])["tasks"])


def _tasks_of_file(path: Path) -> dict[str, Any]:
    """Without lm-eval's own 14,000 tasks, whose index takes 8 seconds, unless it is a group."""
    from lm_eval.tasks import TaskManager

    is_group = re.search(r"^group:", path.read_text(encoding="utf-8"), re.MULTILINE) is not None
    manager = TaskManager(include_path=str(path.parent), include_defaults=is_group)
    return dict(manager.load([str(path)])["tasks"])


def _benchmark(name: str, task: "Task") -> Benchmark:
    split = task.config.test_split if task.has_test_docs() else task.config.validation_split
    items = tuple(_item(task, doc, str(number)) for number, doc in enumerate(task.eval_docs))
    origin = f"lm-eval task {name}, version {task.VERSION}"
    return Benchmark(name, str(split), origin, items)


def _item(task: Any, doc: dict[str, Any], identity: str) -> Item:
    choices = _choices(task, doc)
    text, target = task.doc_to_text(doc), task.doc_to_target(doc)
    if isinstance(text, int):  # the choices are questions, and the target goes on from them
        return Item(identity, f"{task.doc_to_choice(doc)[text]} {target}", "", choices)
    if isinstance(target, list):
        target = target[0] if target else ""
    if isinstance(target, int) or (str(target) in _labels(choices)):
        position = target if isinstance(target, int) else _labels(choices).index(str(target))
        target = choices[position] if 0 <= position < len(choices) else ""
    passage = _passage(doc, text)
    question = _without(text.replace(passage, " ") if passage else text, choices)
    return Item(identity, question, str(target).strip(), choices, passage)


def _labels(choices: tuple[str, ...]) -> list[str]:
    return [chr(ord("A") + k) for k in range(len(choices))]


def _choices(task: Any, doc: dict[str, Any]) -> tuple[str, ...]:
    """The options as texts; where the task names them by letters, those of the document."""
    if task.config.doc_to_choice is None:
        return ()
    choices = tuple(str(choice).strip() for choice in task.doc_to_choice(doc))
    if not all(_LETTERS.fullmatch(choice) for choice in choices):
        return choices
    own = doc.get("choices", doc.get("options", doc.get("endings")))
    own = own.get("text") if isinstance(own, dict) else own
    return tuple(map(str, own)) if isinstance(own, list) and len(own) == len(choices) else choices


def _passage(doc: dict[str, Any], text: str) -> str:
    """A column with a passage that stands in the prompt and is not all of it."""
    for name in _PASSAGES:
        value = doc.get(name)
        if isinstance(value, str) and value.strip() in text and len(value) < 0.9 * len(text):
            return value.strip()
    return ""


def _without(text: str, choices: tuple[str, ...]) -> str:
    """A prompt without its lines of options and without the "Answer:" at its end."""
    lines = text.rstrip().split("\n")
    options = {choice.strip() for choice in choices}
    kept = [line for line in lines if re.sub(r"^\(?\w[).:]\s*", "", line.strip()) not in options]
    question = "\n".join(kept if any(line.strip() for line in kept) else lines)
    return re.sub(r"\n?\s*(Answer|A):\s*$", "", question).strip().removeprefix("Question:").strip()
