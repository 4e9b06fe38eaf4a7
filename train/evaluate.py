"""Benchmark scores of a model, with lm-eval's prompts and metrics.

    RUN/eval/<task>.json, <task>.samples.jsonl     of a run
    RUN/eval/bos-apart/...                         the same asked in another way
    FOLDER.eval/...                                of a Hugging Face folder
    CACHE/eval/<model>-<key>/...                   of a baseline

One task at a time, each result written atomically: run the command again after a kill and finished
tasks are reused (`train.task_results`).
"""

import importlib.metadata
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.evaluation import EvalSettings
from configs.terminal import console
from shards.hashing import blake3_json
from train.candidates import Candidate
from train.task_results import chance_level, finished, headline, read_metrics, write_result

if TYPE_CHECKING:
    from train.tasks import TaskData

RESULT_FORMAT = 2
_PACKAGES = ("lm-eval", "torch", "tokenizers", "transformers", "datasets", "numpy")


def default_batch_tokens() -> int:
    """Tokens a forward pass where the user names none: what fills the device."""
    import torch

    return 65_536 if torch.cuda.is_available() else 4096


class Evaluation:
    """Scores one model on tasks; its weights are loaded when the first task needs them."""

    def __init__(
        self,
        candidate: Candidate,
        folder: Path,
        settings: EvalSettings,
        cache: Path,
        batch_tokens: int | None = None,
    ) -> None:
        """Take a model.

        Args:
            candidate: the model.
            folder: where the results are kept.
            settings: what determines the scores.
            cache: folder for the items that `datasets` prepares.
            batch_tokens: most tokens a forward pass; not part of the settings, it changes
                rounding alone. None for what fits the device.
        """
        self.candidate, self.folder, self.settings = candidate, folder, settings
        self._cache, self._batch_tokens = cache, batch_tokens

    def score(self, tasks: Sequence["TaskData"]) -> list[dict[str, Any]]:
        """The content of each task's result file; finished ones are reused."""
        return [self._task(items) for items in tasks]

    @cached_property
    def _lm(self) -> Any:
        with console.status(f"loading {self.candidate.name}"):
            return self.candidate.load(self.settings, self._batch_tokens or default_batch_tokens())

    def identity(self, items: "TaskData") -> dict[str, Any]:
        """All that determines a task's scores."""
        from train.tasks import task_config

        own = task_config(items.task).get("num_fewshot") or 0
        given = self.settings.num_fewshot
        settings = self.settings.model_copy(update={"num_fewshot": own if given is None else given})
        return {
            "format": RESULT_FORMAT,
            "task": items.task,
            "model": self.candidate.described(),
            "data": items.described(),
            "settings": settings.model_dump(),
            "lm_eval": importlib.metadata.version("lm-eval"),
        }

    def _task(self, items: "TaskData") -> dict[str, Any]:
        identity = self.identity(items)
        key, path = blake3_json(identity), self.folder / f"{items.task}.json"
        result = finished(path, key)
        if result is not None:
            console.print(f"{self.candidate.name}, {items.task}: reused {path}")
            return result
        limit = f", first {self.settings.limit} items" if self.settings.limit else ""
        console.print(f"{self.candidate.name}, {items.task}: {items.split} split{limit}")
        scores, samples = self._run(items, identity["settings"]["num_fewshot"])
        result = identity | scores | {"key": key}
        write_result(path, result, samples)
        return result

    def _run(
        self, items: "TaskData", num_fewshot: int
    ) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Scores of a task, and its samples."""
        from lm_eval import evaluator

        from train.tasks import build_task, task_manager

        task, lm, seed = items.task, self._lm, self.settings.seed
        lm.num_left_truncated = lm.num_windowed = 0
        # It would describe machine and repository after every task, for 2.6 s and with git's
        # complaint where the folder is none; `versions` below says what we keep.
        evaluator.add_env_info = lambda storage: None
        evaluator.get_git_commit_hash = lambda: None
        report = evaluator.simple_evaluate(
            model=lm,
            tasks=[build_task(items, num_fewshot, self._cache)],
            task_manager=task_manager(task),
            limit=self.settings.limit,
            bootstrap_iters=1000,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
        assert report is not None  # one process, rank 0
        metrics = read_metrics(report["results"][task], report["higher_is_better"][task])
        scores = {
            "parameters": lm.num_parameters(),
            "task_version": report["versions"][task],
            "items": {
                "in_split": report["n-samples"][task]["original"],
                "scored": report["n-samples"][task]["effective"],
                "left_truncated": lm.num_left_truncated,
                "longer_than_context": lm.num_windowed,
            },
            "metrics": metrics,
            "headline": headline(metrics),
            "chance": chance_level(report["samples"][task]),
            "versions": {name: importlib.metadata.version(name) for name in _PACKAGES},
        }
        return scores, report["samples"][task]


def variant(settings: EvalSettings) -> str:
    """How the items are asked where it is not the plain way: a folder's name, or nothing."""
    shots = settings.num_fewshot
    parts = {"bos": settings.bos, "apart": settings.apart, "bf16": settings.dtype == "bfloat16"}
    return "-".join([name for name, on in parts.items() if on] + [f"{shots}shot"] * bool(shots))


def baseline_folder(candidate: Candidate, settings: EvalSettings, cache: Path) -> Path:
    """Where a baseline's scores are kept: for all runs, under all that determines them."""
    key = blake3_json([candidate.described(), settings.model_dump()])[:16]
    return cache / "eval" / f"{candidate.name.replace('/', '--')}-{key}"
