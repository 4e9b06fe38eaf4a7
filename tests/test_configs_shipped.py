"""Every YAML file that is shipped loads."""

from pathlib import Path

import pytest

from configs.build import BuildConfig
from configs.loading import load
from configs.train import TrainConfig

CONFIGS = Path(__file__).parent.parent / "configs"
SCHEMAS: dict[str, type[BuildConfig] | type[TrainConfig]] = {"build.yaml": BuildConfig, "train.yaml": TrainConfig}


@pytest.mark.parametrize(
    "path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda p: str(p.relative_to(CONFIGS))
)
def test_it_loads(path: Path) -> None:
    assert load(path, SCHEMAS[path.name])
