"""The result of one task: how lm-eval's report is read, kept, and found again.

    <task>.json            metrics with standard errors, settings, seeds, versions
    <task>.samples.jsonl   every item: prompt, answers, log-probabilities, its score

A result is kept under a key of all that determines it; a key that fits means nothing to do.
"""

import json
from pathlib import Path
from typing import Any

from shards.atomic import atomic_write, write_json_atomic
from shards.hashing import blake3_file


def finished(path: Path, key: str) -> dict[str, Any] | None:
    """A result of the same key whose samples are still what was written."""
    if not path.exists():
        return None
    result: dict[str, Any] = json.loads(path.read_bytes())
    if result.get("key") != key:
        return None
    samples = path.parent / result["samples"]["file"]
    intact = samples.exists() and blake3_file(samples) == result["samples"]["blake3"]
    return result if intact else None


def write_result(path: Path, result: dict[str, Any], samples: list[dict[str, Any]]) -> None:
    """Write a task's samples, then its result, which names them."""
    result["samples"] = _write_samples(path.with_suffix(".samples.jsonl"), samples)
    write_json_atomic(path, result)


def _write_samples(path: Path, samples: list[dict[str, Any]]) -> dict[str, Any]:
    from lm_eval.utils import handle_non_serializable

    with atomic_write(path, "w") as file:
        for sample in samples:
            line = json.dumps(sample, default=handle_non_serializable, ensure_ascii=False)
            file.write(line + "\n")
    return {"file": path.name, "items": len(samples), "blake3": blake3_file(path)}


def read_samples(folder: Path, result: dict[str, Any]) -> list[dict[str, Any]]:
    """The samples that a result names."""
    path = folder / result["samples"]["file"]
    with path.open(encoding="utf-8") as file:  # `splitlines` would also cut at U+2028
        return [json.loads(line) for line in file]


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
        found = [metric for metric in metrics if metric.partition(":")[0] == name]
        if found:
            return found[0]
    return next(iter(metrics))


def chance_level(samples: list[dict[str, Any]]) -> float | None:
    """Expected accuracy of guessing; None where a task is no choice among answers."""
    if any(len(sample["arguments"]) < 2 for sample in samples):
        return None
    return sum(1 / len(sample["arguments"]) for sample in samples) / len(samples)
