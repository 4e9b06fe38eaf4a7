"""What `tally eval` does: the model and its baselines on the same tasks, then what follows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from configs.evaluation import EvalSettings, find_suite
from configs.terminal import console
from shards.atomic import remove_leftovers
from shards.cache import cache_directory
from shards.lock import held
from train.candidates import (
    Candidate,
    RunCandidate,
    baseline_candidates,
    folder_candidate,
    is_hugging_face,
    needs_hub,
)
from train.comparison import Scored, compare, write_comparison
from train.errors import TrainError
from train.tasks import TaskData
from train.tasks import needs_hub as tasks_at_hub


@dataclass(frozen=True)
class EvalRequest:
    """What the user asked for."""

    target: Path
    """A RUN directory or a Hugging Face folder."""
    tasks: tuple[str, ...]
    suite: str | None
    baselines: tuple[str, ...]
    settings: EvalSettings
    data: Path | None
    step: int | None
    batch_tokens: int | None
    audit: Path | None
    heldout: bool


def asks_hub(request: EvalRequest) -> bool:
    """Whether something is wanted that is not on this machine."""
    return needs_hub(request.baselines) or bool(
        tasks_at_hub(tasks_of(request.tasks, request.suite), request.data)
    )


def tasks_of(tasks: Sequence[str], suite: str | None) -> list[str]:
    """The tasks that are named, behind those of the suite."""
    of_suite = list(find_suite(suite).metrics) if suite else []
    return list(dict.fromkeys([*of_suite, *tasks]))


def run_eval(request: EvalRequest) -> None:
    """Score, compare, split by contamination, and print it all.

    Raises:
        TrainError: a mistake of the user's, or another process writes there; nothing was scored.
    """
    items = _find_items(request, cache_directory())
    candidate, top = _candidate(request)
    with held(
        top / ".lock",
        f"{top}: `tally generate` or another `tally eval` is writing it",
        "wait for it",
        TrainError,
    ):
        remove_leftovers(top, below=True)
        _run(request, items, candidate, top)


def _run(request: EvalRequest, items: list[TaskData], candidate: Candidate, top: Path) -> None:
    from train.evaluate import Evaluation, variant
    from train.groups import write_groups
    from train.results_tables import print_groups, print_scores

    cache, folder = cache_directory(), top / variant(request.settings)
    audit = _audit(request)
    rivals = baseline_candidates(request.baselines, cache)
    evaluation = Evaluation(candidate, folder, request.settings, cache, request.batch_tokens)
    results = evaluation.score(items)
    if isinstance(candidate, RunCandidate) and request.heldout:
        _score_heldout(request)
    if results:
        print_scores(results)
        print_groups(write_groups(tasks_of(request.tasks, request.suite), results, folder))
        own = Scored(candidate.name, candidate.described(), folder, results)
        _compare(request, own, top, rivals, items)
    if audit is not None and request.audit is not None and results:
        _split(request.audit, audit, candidate, folder, results)
    console.print(f"wrote {folder}")


def _find_items(request: EvalRequest, cache: Path) -> list[TaskData]:
    """Items of all tasks; everything that is missing is said at once."""
    from train.tasks import expand, find_data

    found, missing = [], []
    with console.status("looking for the benchmarks' items"):
        for task in expand(tasks_of(request.tasks, request.suite)):
            try:
                found.append(find_data(task, request.data, cache))
            except TrainError as error:
                missing.append((task, str(error)))
    if missing:
        rest = ",".join(items.task for items in found)
        way = f"\nwithout them: --tasks {rest}" if rest else ""
        raise TrainError("\n".join(message for _, message in missing) + way)
    return found


def _candidate(request: EvalRequest) -> tuple[Candidate, Path]:
    """The model, and the folder of its results."""
    target = request.target
    if is_hugging_face(target):
        if request.step is not None or request.audit is not None:
            raise TrainError(f"{target} is a Hugging Face folder: --step and --audit are for runs")
        return folder_candidate(target), target.parent / f"{target.name}.eval"
    if not (target / "plan.json").is_file():
        raise TrainError(
            f"{target}: neither a run of `tally train` (no plan.json) nor a Hugging Face folder "
            "(no config.json)"
        )
    from train.subject import load_subject

    return RunCandidate(target.name, load_subject(target, request.step)), target / "eval"


def _audit(request: EvalRequest) -> dict[str, Any] | None:
    if request.audit is None:
        return None
    from train.clean_scores import read_audit
    from train.run_data import run_datasets

    datasets = run_datasets(request.target).values()
    ids = sorted({dataset.manifest.dataset_id for dataset in datasets})
    return read_audit(request.audit, ids)


def _score_heldout(request: EvalRequest) -> None:
    from train.heldout import heldout_run
    from train.results_tables import print_heldout

    print_heldout(heldout_run(request.target, request.step, request.batch_tokens))


def _compare(
    request: EvalRequest,
    own: Scored,
    folder: Path,
    rivals: Sequence[Candidate],
    items: Sequence[TaskData],
) -> None:
    """Baselines on the same items, and the files of the comparison."""
    if not (rivals or request.suite):
        return
    from train.comparison_tables import comparison_table
    from train.evaluate import Evaluation, baseline_folder

    scored, cache, settings = [], cache_directory(), request.settings
    for rival in rivals:
        kept = baseline_folder(rival, settings, cache)
        evaluation = Evaluation(rival, kept, settings, cache, request.batch_tokens)
        scored.append(Scored(rival.name, rival.described(), kept, evaluation.score(items)))
    suite = find_suite(request.suite) if request.suite else None
    facts = compare(own, scored, settings, request.suite, suite)
    console.print(comparison_table(facts))
    for path in write_comparison(facts, folder):
        console.print(f"wrote {path}")


def _split(
    audit_folder: Path,
    audit: dict[str, Any],
    candidate: Candidate,
    folder: Path,
    results: Sequence[dict[str, Any]],
) -> None:
    from train.clean_scores import write_clean
    from train.results_tables import print_clean

    print_clean(write_clean(audit_folder, audit, candidate.described(), folder, results))
