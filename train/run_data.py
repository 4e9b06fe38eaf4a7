"""What a RUN directory read: its plan and the datasets behind it, checked to be the same ones."""

import os
from collections.abc import Mapping
from pathlib import Path

from configs.terminal import console, human_bytes
from shards.manifest import ShardFacts
from shards.plan import Plan
from shards.plan_file import load_plan
from shards.reader import Dataset
from shards.remote import is_remote
from train.errors import TrainError


def run_plan(run_dir: Path) -> Plan:
    """RUN/plan.json."""
    return load_plan(run_dir / "plan.json")[0]


def run_datasets(run_dir: Path, *, check: bool = False) -> dict[str, Dataset]:
    """The dataset of every source of the plan, by the source's name in the mixture.

    Args:
        run_dir: the RUN directory.
        check: verify the checksum of every file when it is first read.

    Raises:
        TrainError: a dataset has moved, or is another one now.
    """
    plan, addresses = load_plan(run_dir / "plan.json")
    opened: dict[str, Dataset] = {}
    found = {}
    for source in plan.sources:
        address = addresses[source.name]
        if address not in opened:
            opened[address] = Dataset.open(address, check=check)
        dataset = opened[address]
        if dataset.manifest.dataset_id != source.dataset_id:
            raise TrainError(
                f"{run_dir}/plan.json: source {source.name} was trained on dataset "
                f"{source.dataset_id}, but {address} is {dataset.manifest.dataset_id} now; "
                "put the old dataset back, or train a new run"
            )
        found[source.name] = dataset
    return found


def announce_remote(datasets: Mapping[str, Dataset]) -> None:
    """Say where shards come from that are not here yet: the first steps will wait for them."""
    for address, dataset in {d.address: d for d in datasets.values()}.items():
        if is_remote(address):
            console.print(f"{address}: shards are fetched on first use, to {dataset.path}")


def verify_shards(plan: Plan, datasets: Mapping[str, Dataset], heldout: str | None) -> None:
    """Verify the checksums of all token files the run reads; called on all ranks.

    The ranks of a machine, as the launcher numbers them, each take their share.

    Args:
        plan: the plan of the run.
        datasets: of every source, by its name in the mixture.
        heldout: the split that is measured during the run, if any.

    Raises:
        DatasetError: a file is missing or not what the manifest says; names it.
    """
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    local_size = int(next((os.environ[k] for k in _LOCAL_SIZES if k in os.environ), "1"))
    used = [
        (datasets[source.name], shard)
        for source in plan.sources
        for split in dict.fromkeys([source.split, heldout or source.split])
        for shard in _shards(datasets[source.name], source.source, split)
    ]
    if local_rank == 0:
        size = human_bytes(sum(shard.bytes for _, shard in used))
        console.print(f"verifying the checksums of {len(used)} shards, {size}")
    for dataset, shard in used[local_rank::local_size]:
        dataset.files.prove(shard.path)


_LOCAL_SIZES = ("LOCAL_SIZE", "LOCAL_WORLD_SIZE")  # of DeepSpeed's launcher, of torchrun


def _shards(dataset: Dataset, source: str, split: str) -> tuple[ShardFacts, ...]:
    return dataset.stream(source, split).facts.shards
