"""Benchmark scores of a run, with lm-eval's prompts and metrics on our own model.

    RUN/eval/<task>.json            metrics with standard errors, settings, seeds, versions
    RUN/eval/<task>.samples.jsonl   every item: prompt, answers, log-probabilities, its score

One task at a time, each result written atomically and kept under a key of all that determines
it: run the command again after a kill and finished tasks are reused.
"""

import importlib.metadata
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3
from pydantic import NonNegativeInt, PositiveInt

from configs.base import Section
from configs.terminal import console
from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_file, blake3_json

if TYPE_CHECKING:  # torch takes a second to import
    from train.model import Decoder
    from train.tasks import TaskData

RESULT_FORMAT = 1
_PACKAGES = ("lm-eval", "torch", "tokenizers", "datasets", "numpy")


class EvalSettings(Section):
    """What determines a score besides the model and the items."""

    limit: PositiveInt | None = None
    """Only the first so many items of a task; None for all. Scores of a part are marked."""
    num_fewshot: NonNegativeInt = 0
    separator_first: bool = False
    """Put the document separator (EOS) before every context."""
    seed: NonNegativeInt = 1234
    """Of Python's, numpy's, torch's and the few-shot sampler's generators."""


@dataclass(frozen=True)
class Subject:
    """The model under test and what identifies it."""

    model: "Decoder"
    tokenizer: Any
    eos_id: int
    step: int
    weights_blake3: str
    tokenizer_blake3: str

    def described(self) -> dict[str, Any]:
        """For result files: which model this is."""
        return {
            "step": self.step,
            "parameters": self.model.num_parameters(),
            "weights_blake3": self.weights_blake3,
            "tokenizer_blake3": self.tokenizer_blake3,
        }


def load_subject(run_dir: Path, step: int | None = None) -> Subject:
    """The run's model on the best device, with its tokenizer.

    Raises:
        TrainError: no such checkpoint.
    """
    import torch

    from train.checkpoint import load_model
    from train.run_data import run_datasets

    model, found_step = load_model(run_dir, step)
    dataset = next(iter(run_datasets(run_dir).values()))
    facts = dataset.manifest.tokenizer
    fingerprint = weights_hash(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Subject(
        model=model.to(device).eval(),
        tokenizer=dataset.tokenizer(),
        eos_id=facts.eos_id,
        step=found_step,
        weights_blake3=fingerprint,
        tokenizer_blake3=facts.blake3,
    )


def weights_hash(model: "Decoder") -> str:
    """Hex BLAKE3 over the names and bytes of all weights: which model this is."""
    hasher = blake3()
    for name, tensor in sorted(model.state_dict().items()):
        hasher.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        hasher.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return hasher.hexdigest()


def evaluate_run(
    run_dir: Path,
    tasks: list[str],
    settings: EvalSettings,
    cache: Path,
    data: Path | None = None,
    step: int | None = None,
    batch_size: int = 16,
) -> list[dict[str, Any]]:
    """Score a run on tasks, reusing finished results.

    Args:
        run_dir: the RUN directory.
        tasks: names of lm-eval tasks.
        settings: what determines the scores.
        cache: folder for the benchmark wheel and its parquet files.
        data: folder with `<task>.jsonl` files that come before the wheel.
        step: which checkpoint; the newest by default.
        batch_size: rows a forward pass; not part of the settings, it changes rounding alone.

    Returns:
        The content of each task's result file.
    """
    from train.tasks import find_data

    items = [find_data(task, data, cache) for task in dict.fromkeys(tasks)]
    subject = load_subject(run_dir, step)
    return [
        _evaluate_task(run_dir / "eval", found, subject, settings, cache, batch_size)
        for found in items
    ]


def _evaluate_task(
    folder: Path,
    items: "TaskData",
    subject: Subject,
    settings: EvalSettings,
    cache: Path,
    batch_size: int,
) -> dict[str, Any]:
    task = items.task
    identity = {
        "format": RESULT_FORMAT,
        "task": task,
        "model": subject.described(),
        "data": items.described(),
        "settings": settings.model_dump(),
        "lm_eval": importlib.metadata.version("lm-eval"),
    }
    path = folder / f"{task}.json"
    finished = _finished(path, blake3_json(identity))
    if finished is not None:
        console.print(f"{task}: reused {path}")
        return finished
    scores = _score(items, subject, settings, cache, batch_size)
    result: dict[str, Any] = identity | scores
    samples = result.pop("samples")
    result["samples"] = _write_samples(folder / f"{task}.samples.jsonl", samples)
    result["key"] = blake3_json(identity)
    write_json_atomic(path, result)
    return result


def _finished(path: Path, key: str) -> dict[str, Any] | None:
    """A result of the same key whose samples are still what was written."""
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_bytes())
    if result.get("key") != key:
        return None
    samples = path.parent / result["samples"]["file"]
    intact = samples.exists() and blake3_file(samples) == result["samples"]["blake3"]
    return result if intact else None


def _score(
    items: "TaskData", subject: Subject, settings: EvalSettings, cache: Path, batch_size: int
) -> dict[str, Any]:
    from lm_eval import simple_evaluate

    from train.lm_adapter import DecoderLM
    from train.tasks import build_task, task_manager

    task = items.task

    adapter = DecoderLM(
        subject.model, subject.tokenizer, subject.eos_id, batch_size, settings.separator_first
    )
    console.print(
        f"{task}: {items.split} split" + (f", first {settings.limit}" if settings.limit else "")
    )
    report = simple_evaluate(
        model=adapter,
        tasks=[build_task(items, settings.num_fewshot, cache)],
        task_manager=task_manager(task),
        limit=settings.limit,
        bootstrap_iters=1000,
        random_seed=settings.seed,
        numpy_random_seed=settings.seed,
        torch_random_seed=settings.seed,
        fewshot_random_seed=settings.seed,
    )
    assert report is not None  # one process, rank 0
    metrics = read_metrics(report["results"][task], report["higher_is_better"][task])
    return {
        "task_version": report["versions"][task],
        "items": {
            "in_split": report["n-samples"][task]["original"],
            "scored": report["n-samples"][task]["effective"],
            "left_truncated": adapter.num_left_truncated,
            "longer_than_context": adapter.num_windowed,
        },
        "metrics": metrics,
        "headline": headline(metrics),
        "chance": chance_level(report["samples"][task]),
        "batch_size": batch_size,
        "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        "samples": report["samples"][task],
    }


def read_metrics(row: dict[str, Any], higher: dict[str, bool]) -> dict[str, dict[str, Any]]:
    """lm-eval's flat `acc,none` and `acc_stderr,none` as one entry a metric."""
    metrics: dict[str, dict[str, Any]] = {}
    for key, value in row.items():
        name, _, filter_name = key.partition(",")
        if not filter_name or name.endswith("_stderr"):
            continue
        stderr = row.get(f"{name}_stderr,{filter_name}")
        metrics[name if filter_name == "none" else f"{name}:{filter_name}"] = {
            "value": value,
            "stderr": stderr if isinstance(stderr, float) else None,
            "higher_is_better": higher.get(name),
        }
    return metrics


def headline(metrics: dict[str, dict[str, Any]]) -> str:
    """The metric that stands for a task: the first present of the published rule."""
    for name in ("acc_norm", "acc", "exact_match", "f1", "perplexity"):
        if name in metrics:
            return name
    return next(iter(metrics))


def chance_level(samples: list[dict[str, Any]]) -> float | None:
    """Expected accuracy of guessing; None where a task is no choice among answers."""
    if any(len(sample["arguments"]) < 2 for sample in samples):
        return None
    return sum(1 / len(sample["arguments"]) for sample in samples) / len(samples)


def _write_samples(path: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    from lm_eval.utils import handle_non_serializable

    with atomic_write(path, "w") as file:
        for sample in samples:
            line = json.dumps(sample, default=handle_non_serializable, ensure_ascii=False)
            file.write(line + "\n")
    return {"file": path.name, "items": len(samples), "blake3": blake3_file(path)}
