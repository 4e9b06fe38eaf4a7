"""A run that goes on from another model's weights: what `tally import` wrote, checked and taken.

The run keeps RUN/origin.json, so that ledger and card can say what its tokens came on top of.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from configs.train import TrainConfig
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file
from shards.reader import Dataset
from train.checkpoint import MODEL_FILE
from train.errors import TrainError

if TYPE_CHECKING:
    from torch import Tensor

ORIGIN_NAME, TOKENIZER_NAME = "origin.json", "tokenizer.json"
_FREE = {"init_std", "dropout", "max_seq_len"}
"""Settings of the model that do not change what its weights mean."""


def check_origin(config: TrainConfig, datasets: Mapping[str, Dataset]) -> None:
    """Refuse weights that do not fit the model, or a dataset tokenized by another tokenizer.

    Raises:
        TrainError: what differs.
    """
    if config.init_from is None:
        return
    folder = Path(config.init_from)
    origin = read_origin(folder)
    ours = config.model.model_dump(mode="json", exclude=_FREE)
    differing = [
        f"model.{name} = {value}, there {origin['config'].get(name)}"
        for name, value in ours.items()
        if value != origin["config"].get(name)
    ]
    if differing:
        raise TrainError(
            f"init_from: the weights in {folder} are of another model: {'; '.join(differing)}; "
            f"extend {folder / 'start.yaml'}, which has their shape"
        )
    path = folder / TOKENIZER_NAME
    for name, dataset in datasets.items() if path.is_file() else ():
        if not _same_ids(path, dataset):
            raise TrainError(
                f"init_from: source {name} was tokenized by another tokenizer than that of the "
                f"weights, so ids mean other text; build the dataset with tokenizer.file={path}"
            )


def _same_ids(path: Path, dataset: Dataset) -> bool:
    if blake3_file(path) == dataset.manifest.tokenizer.blake3:
        return True
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(path)).get_vocab()
    return bool(ours == dataset.tokenizer().get_vocab())


def read_origin(folder: Path) -> dict[str, Any]:
    """origin.json of an import.

    Raises:
        TrainError: there is none.
    """
    try:
        origin: dict[str, Any] = json.loads((folder / ORIGIN_NAME).read_bytes())
    except OSError:
        raise TrainError(
            f"init_from: no {ORIGIN_NAME} in {folder}; make it: tally import MODEL -o {folder}"
        ) from None
    return origin


def origin_weights(folder: Path) -> "dict[str, Tensor]":
    """The weights, float32 under our names.

    Raises:
        TrainError: they are not those that were written.
    """
    from safetensors.torch import load_file

    path = folder / MODEL_FILE
    if not path.is_file() or blake3_file(path) != read_origin(folder)["weights_blake3"]:
        raise TrainError(f"{path}: not what `tally import` wrote (BLAKE3); import the model again")
    return load_file(path)


def keep_origin(config: TrainConfig, run_dir: Path) -> None:
    """Write RUN/origin.json, where the run has an origin."""
    if config.init_from is not None:
        write_json_atomic(run_dir / ORIGIN_NAME, read_origin(Path(config.init_from)))
