"""Models that can be scored: a run, a Hugging Face folder, a repository of the hub.

What identifies a model is known before its weights are loaded, so that finished scores are found
without loading it.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from configs.evaluation import EvalSettings, baselines
from shards.hashing import blake3_file
from train.errors import TrainError
from train.hf_custom import refuse_foreign_code
from train.hub_pins import commit_of
from train.subject import Subject


class Candidate(Protocol):
    """A model under test."""

    @property
    def name(self) -> str:
        """For tables."""

    def described(self) -> dict[str, Any]:
        """What identifies it, for result files."""

    def load(self, settings: EvalSettings, batch_tokens: int) -> Any:
        """An lm-eval model that counts what was cut: `num_left_truncated`, `num_windowed`."""


@dataclass(frozen=True)
class RunCandidate:
    """A checkpoint of a run, on our own model."""

    name: str
    subject: Subject

    def described(self) -> dict[str, Any]:
        """The checkpoint's facts."""
        return self.subject.described()

    def load(self, settings: EvalSettings, batch_tokens: int) -> Any:
        """The decoder behind our adapter."""
        import torch

        from train.lm_adapter import DecoderLM

        subject = self.subject
        return DecoderLM(
            subject.model.to(getattr(torch, settings.dtype)),
            subject.tokenizer,
            subject.eos_id,
            batch_tokens,
            bos_id=subject.first_id() if settings.bos else subject.bos_id,
            bos=settings.bos,
            apart=settings.apart,
            seed=settings.seed,
        )


@dataclass(frozen=True)
class HuggingFaceCandidate:
    """A folder or a repository, on lm-eval's `hf` model."""

    name: str
    source: str
    facts: dict[str, Any]
    commit: str | None = None
    ours: bool = False

    def described(self) -> dict[str, Any]:
        """The repository's commit, or the hashes of the folder's files."""
        return self.facts

    def load(self, settings: EvalSettings, batch_tokens: int) -> Any:
        """lm-eval's own model."""
        from train.hf_adapter import HuggingFaceLM

        return HuggingFaceLM(self.source, self.commit, self.ours, settings, batch_tokens)


def is_hugging_face(path: Path) -> bool:
    """Whether a directory holds a Hugging Face model."""
    return (path / "config.json").is_file() and not (path / "plan.json").is_file()


def folder_candidate(path: Path) -> HuggingFaceCandidate:
    """A Hugging Face folder."""
    kinds = (".json", ".safetensors", ".bin", ".model", ".txt", ".py")
    files = sorted(f for f in path.iterdir() if f.suffix in kinds and f.name != "export.json")
    facts: dict[str, Any] = {"files": {file.name: blake3_file(file) for file in files}}
    ours = path / "export.json"
    if ours.is_file():
        refuse_foreign_code(path)  # for what an export brings is run
        facts["exported"] = json.loads(ours.read_bytes())["model"]
    name = f"{path.parent.name}/{path.name}" if ours.is_file() else path.name
    return HuggingFaceCandidate(name, str(path), facts, ours=ours.is_file())


def baseline_candidates(names: Sequence[str], cache: Path) -> list[HuggingFaceCandidate]:
    """Models to compare with.

    Args:
        names: known names (`configs/eval/baselines.yaml`), repositories, or folders.
        cache: where commits are remembered.

    Raises:
        TrainError: no such name, or the hub does not answer.
    """
    return [_baseline(name, cache) for name in dict.fromkeys(names)]


def needs_hub(names: Sequence[str]) -> bool:
    """Whether a baseline is no local folder."""
    return any(not Path(name).is_dir() for name in names)


def _baseline(name: str, cache: Path) -> HuggingFaceCandidate:
    if Path(name).is_dir():
        if not is_hugging_face(Path(name)):
            raise TrainError(f"baseline {name}: no config.json there: no Hugging Face model")
        return folder_candidate(Path(name))
    repo = baselines().get(name, name)
    if "/" not in repo:
        raise TrainError(
            f"baseline {name}: neither a folder nor a known name; there are "
            f"{', '.join(baselines())}; others as OWNER/NAME"
        )
    try:
        commit = commit_of(repo, "model", cache)
    except TrainError as error:
        raise TrainError(
            f"baseline {name}: {error}; without a hub give a folder that holds the model"
        ) from None
    return HuggingFaceCandidate(name, repo, {"repo": repo, "commit": commit}, commit)
