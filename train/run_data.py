"""What a RUN directory read: its plan and the datasets behind it, checked to be the same ones."""

from pathlib import Path

from shards.plan import Plan, load_plan
from shards.reader import Dataset
from train.errors import TrainError


def run_plan(run_dir: Path) -> Plan:
    """RUN/plan.json."""
    return load_plan(run_dir / "plan.json")[0]


def run_datasets(run_dir: Path) -> dict[str, Dataset]:
    """The dataset of every source of the plan, by the source's name in the mixture.

    Raises:
        TrainError: a dataset has moved, or is another one now.
    """
    plan, directories = load_plan(run_dir / "plan.json")
    opened: dict[Path, Dataset] = {}
    found = {}
    for source in plan.sources:
        path = directories[source.name]
        dataset = opened.setdefault(path, Dataset.open(path))
        if dataset.manifest.dataset_id != source.dataset_id:
            raise TrainError(
                f"{run_dir}/plan.json: source {source.name} was trained on dataset "
                f"{source.dataset_id}, but {path} is {dataset.manifest.dataset_id} now; "
                "put the old dataset back, or train a new run"
            )
        found[source.name] = dataset
    return found
