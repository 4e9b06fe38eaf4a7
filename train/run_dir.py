"""The RUN directory: made once, and on resume shown to be the same run before anything is spent.

RUN/config.yaml       the resolved training config
RUN/plan.json         what every step reads (shards.plan), and where the datasets are
RUN/environment.json  packages, machine and commit of the last start
RUN/restarts.jsonl    a line per resume, with the steps it threw away
"""

import datetime
import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from configs.loading import load
from configs.train import TrainConfig
from shards.atomic import write_text_atomic
from shards.plan import Plan, load_plan, save_plan
from shards.reader import Dataset
from train.errors import TrainError
from train.planning import build_plan, open_datasets
from train.schedule import check_schedule
from train.zero import accumulation, refuse_unsound

CONFIG_NAME = "config.yaml"
PLAN_NAME = "plan.json"
RESTARTS_NAME = "restarts.jsonl"
STOP_NAME = "stop-requested"

# Settings that change where or how often something happens, never what is computed.
_FREE = ("name", "micro_batch", "checkpoint", "validation", "loader", "launch")


def plan_run(config: TrainConfig, *, may_be_declared: bool = False) -> Plan:
    """The plan of a config, after checking that config, datasets and plan fit together.

    Args:
        config: the run.
        may_be_declared: reckon with declared sizes where a dataset is not built yet.

    Raises:
        TrainError, DatasetError: what does not fit, and what to change.
    """
    refuse_unsound(config)
    plan = build_plan(config.data, may_be_declared=may_be_declared)
    check_schedule(config.schedule, plan.num_steps)
    datasets = open_datasets(config.data, may_be_declared=may_be_declared)
    _check_model(config, datasets)
    for name in datasets if config.validation else ():
        source = config.data.sources[name].source or name
        datasets[name].stream(source, config.validation.split)  # type: ignore[union-attr]
    return plan


def check_ranks(config: TrainConfig, plan: Plan, world_size: int) -> None:
    """Refuse a number of ranks that cannot share out every phase's batch.

    Raises:
        TrainError: which batch it is.
    """
    for phase in plan.phases:
        accumulation(phase.batch_windows, config.micro_batch, world_size)


def _check_model(config: TrainConfig, datasets: dict[str, Dataset]) -> None:
    model = config.model
    if config.data.seq_len > model.max_seq_len:
        raise TrainError(
            f"data.seq_len = {config.data.seq_len} is longer than model.max_seq_len = "
            f"{model.max_seq_len}; raise the model's or shorten the windows"
        )
    tokenizers = {name: dataset.manifest.tokenizer for name, dataset in datasets.items()}
    if len({tokenizer.blake3 for tokenizer in tokenizers.values()}) > 1:
        raise TrainError(
            f"sources {', '.join(tokenizers)} were tokenized by different tokenizers, so their "
            "ids mean different text; build them with one tokenizer"
        )
    vocab_size = max((tokenizer.vocab_size for tokenizer in tokenizers.values()), default=0)
    if vocab_size > model.vocab_size:
        raise TrainError(
            f"model.vocab_size = {model.vocab_size} but the tokenizer has {vocab_size} ids; "
            f"set model.vocab_size to {vocab_size} or more"
        )


def prepare(run_dir: Path, config: TrainConfig, plan: Plan) -> None:
    """Create the RUN directory, or check that it holds this very run.

    Raises:
        TrainError: it holds another run; says what differs.
    """
    if (run_dir / CONFIG_NAME).exists():
        _check_same(run_dir, config, plan)
    run_dir.mkdir(parents=True, exist_ok=True)
    save_plan(plan, _dataset_paths(config), run_dir / PLAN_NAME)
    write_text_atomic(run_dir / CONFIG_NAME, config_yaml(config))


def config_yaml(config: TrainConfig) -> str:
    """The resolved config as YAML that loads again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_config(run_dir: Path) -> TrainConfig:
    """RUN/config.yaml."""
    return load(run_dir / CONFIG_NAME, TrainConfig)


def _dataset_paths(config: TrainConfig) -> dict[str, str]:
    return {name: str(Path(ref.dataset).resolve()) for name, ref in config.data.sources.items()}


def _check_same(run_dir: Path, config: TrainConfig, plan: Plan) -> None:
    differences = _differences(_meaning(read_config(run_dir)), _meaning(config))
    if (run_dir / PLAN_NAME).exists():
        old, _ = load_plan(run_dir / PLAN_NAME)
        if old.plan_id != plan.plan_id and not differences:
            differences = _differences(old.to_json(), plan.to_json())
    if differences:
        raise TrainError(
            f"{run_dir} holds another run; resuming it with this config would mix two. "
            "It has / the config has:\n" + "\n".join(f"  {line}" for line in differences) + "\n"
            "Set these back to resume, or choose another output with -o"
        )


def _meaning(config: TrainConfig) -> dict[str, Any]:
    values = config.model_dump(mode="json", exclude=set(_FREE))
    for source in values["data"]["sources"].values():
        del source["dataset"]  # a path; the plan holds the dataset's id
    return values


def _differences(old: Any, new: Any, where: str = "") -> list[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = list(dict.fromkeys([*old, *new]))
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{where}.{k}")]
    if isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [d for i, (a, b) in pairs for d in _differences(a, b, f"{where}.{i}")]
    return [] if old == new else [f"{where.lstrip('.')}: {old} / {new}"]


@contextmanager
def exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the run for this process; the lock goes when the process does, however it ends.

    Raises:
        TrainError: another process trains this run.
    """
    with (run_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrainError(
                f"{run_dir}: another process is training this run; wait for it or stop it"
            ) from None
        yield


def note_restart(run_dir: Path, line: dict[str, Any]) -> None:
    """Append a line with the time to RUN/restarts.jsonl."""
    line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")} | line
    with (run_dir / RESTARTS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
