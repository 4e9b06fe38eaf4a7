"""The model of a run, with its tokenizer and what identifies it."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from blake3 import blake3

from shards.reader import Dataset

if TYPE_CHECKING:  # torch takes a second to import
    from train.model import Decoder


_BOS_NAMES = ("<s>", "<|begin_of_text|>", "<bos>")


@dataclass(frozen=True)
class Subject:
    """The model under test and what identifies it."""

    model: "Decoder"
    tokenizer: Any
    eos_id: int
    bos_id: int | None
    """Began every document in training; None where nothing did."""
    step: int
    weights_blake3: str
    tokenizer_blake3: str

    def first_id(self) -> int:
        """What a BOS before every context is: the tokenizer's, or EOS where it has none."""
        named = (self.tokenizer.token_to_id(name) for name in _BOS_NAMES)
        return next((found for found in (self.bos_id, *named) if found is not None), self.eos_id)

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
    dataset = next(iter(run_datasets(run_dir, check=True).values()))
    facts = dataset.manifest.tokenizer
    fingerprint = weights_hash(model)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Subject(
        model=model.to(device).eval(),
        tokenizer=dataset.tokenizer(),
        eos_id=facts.eos_id,
        bos_id=_bos_id(dataset),
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


def _bos_id(dataset: Dataset) -> int | None:
    """The token that stands before every document, as the dataset was built."""
    token = (dataset.manifest.config.get("tokenizer") or {}).get("bos_token")
    return None if token is None else dataset.tokenizer().token_to_id(token)
