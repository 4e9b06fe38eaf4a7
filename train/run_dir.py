"""The RUN directory: made once, and on resume shown to be the same run before anything is spent.

RUN/config.yaml       the resolved training config
RUN/plan.json         what every step reads (shards.plan), and where the datasets are
RUN/environment.json  packages, machine and commit of the last start
RUN/origin.json       with init_from: whose weights it began with
RUN/restarts.jsonl    a line per resume, with the steps it threw away
"""

import datetime
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from configs.loading import load
from configs.outputs import is_hidden, require_own, require_place
from configs.train import TrainConfig
from shards.atomic import write_text_atomic
from shards.lock import held
from shards.plan import Plan
from shards.plan_file import Earlier, earlier_plans, load_plan, save_plan
from shards.reader import Dataset
from shards.remote import absolute
from train.errors import TrainError
from train.origin import ORIGIN_NAME, check_origin, keep_origin
from train.planning import build_plan, open_datasets
from train.same_run import differences
from train.segments import check_segments
from train.zero import accumulation

CONFIG_NAME = "config.yaml"
PLAN_NAME = "plan.json"
RESTARTS_NAME = "restarts.jsonl"
STOP_NAME = "stop-requested"


def plan_run(config: TrainConfig, *, may_be_declared: bool = False) -> Plan:
    """The plan of a config, after checking that config, datasets and plan fit together.

    Args:
        config: the run.
        may_be_declared: reckon with declared sizes where a dataset is not built yet.

    Raises:
        TrainError, DatasetError: what does not fit, and what to change.
    """
    plan = build_plan(config.data, may_be_declared=may_be_declared)
    check_segments(config, plan)
    datasets = open_datasets(config.data, may_be_declared=may_be_declared)
    _check_model(config, datasets)
    check_origin(config, datasets)
    for name in datasets if config.validation else ():
        source = config.data.sources[name].source or name
        datasets[name].stream(source, config.validation.split)  # type: ignore[union-attr]
    return plan


def require_run_dir(run_dir: Path) -> None:
    """Refuse an output that cannot be made, or that holds other files and no run.

    Raises:
        ConfigError, TrainError: what is in the way.
    """
    require_place(run_dir)
    require_own(run_dir, "no run", CONFIG_NAME, TrainError, _is_leftover)


def _is_leftover(name: str) -> bool:
    """Whether a start that was killed may have left it: config.yaml comes last."""
    of_plan = name == PLAN_NAME or name.startswith("duplicates-")
    return of_plan or name in ("checkpoints", ORIGIN_NAME) or is_hidden(name)


def check_ranks(config: TrainConfig, plan: Plan, world_size: int) -> None:
    """Refuse a number of ranks that cannot share out every phase's batch.

    Raises:
        TrainError: which batch it is.
    """
    for phase in plan.phases:
        accumulation(phase.batch_windows, config.micro_batch, world_size)


def _check_model(config: TrainConfig, datasets: dict[str, Dataset]) -> None:
    model = config.model
    for phase in config.data.phases:
        seq_len = phase.seq_len or config.data.seq_len
        if seq_len > model.max_seq_len:
            raise TrainError(
                f"phase '{phase.name}': data.seq_len = {seq_len} is longer than model.max_seq_len "
                f"= {model.max_seq_len}; raise the model's or shorten the windows"
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
    """Create the RUN directory, or check that it holds this very run, but for appended phases.

    Raises:
        TrainError: it holds another run; says what differs.
    """
    exists = (run_dir / CONFIG_NAME).exists()
    earlier = _goes_on(run_dir, config, plan) if exists else ()
    run_dir.mkdir(parents=True, exist_ok=True)
    save_plan(plan, _dataset_paths(config), run_dir / PLAN_NAME, earlier)
    keep_origin(config, run_dir)
    write_text_atomic(run_dir / CONFIG_NAME, config_yaml(config))


def config_yaml(config: TrainConfig) -> str:
    """The resolved config as YAML that loads again."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def read_config(run_dir: Path) -> TrainConfig:
    """RUN/config.yaml."""
    return load(run_dir / CONFIG_NAME, TrainConfig)


def _dataset_paths(config: TrainConfig) -> dict[str, str]:
    return {name: absolute(ref.dataset) for name, ref in config.data.sources.items()}


def _goes_on(run_dir: Path, config: TrainConfig, plan: Plan) -> tuple[Earlier, ...]:
    """Check that the config goes on with this run; returns the plans it had before."""
    path = run_dir / PLAN_NAME
    old = load_plan(path)[0] if path.exists() else None
    lines = differences(read_config(run_dir), config, old, plan)
    if lines:
        raise TrainError(
            f"{run_dir} holds another run; resuming it with this config would mix two. "
            "It has / the config has:\n" + "\n".join(f"  {line}" for line in lines) + "\n"
            "Set these back to resume, or choose another output with -o. What may change is the "
            "plan, by phases after the old ones, and sources of theirs after the old ones"
        )
    if old is None:
        return ()
    before = earlier_plans(path)
    if old.plan_id == plan.plan_id:
        return before
    return (*before, Earlier(old.plan_id, len(old.phases), len(old.sources)))


@contextmanager
def exclusive(run_dir: Path) -> Iterator[None]:
    """Hold the run for this process; the lock goes when the process does, however it ends.

    Raises:
        TrainError: another process trains this run.
    """
    what = f"{run_dir}: another process is training this run"
    with held(run_dir / ".lock", what, "wait for it or stop it", TrainError):
        yield


def note_restart(run_dir: Path, line: dict[str, Any]) -> None:
    """Append a line with the time to RUN/restarts.jsonl."""
    line = {"time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")} | line
    with (run_dir / RESTARTS_NAME).open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
