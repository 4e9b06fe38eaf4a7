"""Every YAML file that is shipped loads, and presets can be named and changed."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from configs.build import BuildConfig
from configs.errors import ConfigError
from configs.evaluation import baselines, suites
from configs.experiment import ExperimentConfig
from configs.loading import load
from configs.model import ModelConfig
from configs.sizes import sizes
from configs.text_sources import HubSource
from configs.train import TrainConfig

CONFIGS = Path(__file__).parent.parent / "configs"
SCHEMAS: dict[str, type[BaseModel]] = {
    **{"build.yaml": BuildConfig, "mixes": BuildConfig},
    **{"train.yaml": TrainConfig, "recipes": TrainConfig, "tiny": TrainConfig},
    "experiments": ExperimentConfig,
}
MOVING = {"cosmopedia", "arxiv", "metamathqa"}
"""Presets of repositories of which no lasting commit is known: the first build pins them."""
PRESETS = sorted((CONFIGS / "sources").glob("*.yaml"))
TABLES = {CONFIGS / name for name in ("eval/suites.yaml", "eval/baselines.yaml", "sizes.yaml")}
OTHERS = sorted(set(CONFIGS.rglob("*.yaml")) - set(PRESETS) - TABLES)


@pytest.mark.parametrize("path", OTHERS, ids=lambda p: str(p.relative_to(CONFIGS)))
def test_it_loads(path: Path) -> None:
    schema = SCHEMAS.get(path.parent.name) or SCHEMAS[path.name]
    assert load(path, schema)


def test_suites_and_baselines_are_those_of_the_published_cards() -> None:
    assert {name: len(suite.metrics) for name, suite in suites().items()} == {
        "l20": 6,
        "tinylm": 4,
        "mtlm1": 12,
    }
    assert len(baselines()) == 7


@pytest.mark.parametrize("name", sizes())
def test_a_size_is_a_model_of_that_size(name: str) -> None:
    size = sizes()[name]
    given = {"vocab_size": 49152, "max_seq_len": size.seq_len}
    model = ModelConfig.model_validate(size.model | given)
    millions = float(name[:-1]) * (1000 if name[-1] == "b" else 1)
    attention = 2 * model.head_dim * (model.num_heads + model.num_kv_heads)
    matrices = model.d_model * (attention + 3 * model.ffn_dim) * model.num_layers
    vocabulary = {"3m": 8192, "15m": 32000}.get(name, 49152) * model.d_model
    assert (matrices + vocabulary) / 1e6 == pytest.approx(millions, rel=0.35)


def with_source(folder: Path, source: str, *overrides: str) -> HubSource:
    path = folder / "build.yaml"
    path.write_text(f"name: x\nsources: {{s: {source}}}\n", encoding="utf-8")
    found = load(path, BuildConfig, overrides).sources["s"]
    assert isinstance(found, HubSource)
    return found


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_a_preset_says_everything_that_matters(path: Path, tmp_path: Path) -> None:
    found = with_source(tmp_path, f"{{preset: {path.stem}}}")
    assert {"licence", "profile", "repo", "revision", "files", "format", "text"} <= (
        found.model_fields_set
    )
    is_commit = re.fullmatch("[0-9a-f]{40}", found.revision) is not None
    assert is_commit == (path.stem not in MOVING)
    assert "Columns: " in path.read_text("utf-8")


def test_a_preset_can_be_changed_and_must_exist(tmp_path: Path) -> None:
    found = with_source(tmp_path, "{preset: c4_en, max_files: 2}", "sources.s.revision=v1")
    assert (found.repo, found.max_files, found.revision) == ("allenai/c4", 2, "v1")
    with pytest.raises(ConfigError, match="source 's': no preset 'c4en'; there is c4_en"):
        with_source(tmp_path, "{preset: c4en}")
    with pytest.raises(ConfigError, match="revison: unknown key; did you mean 'revision'"):
        with_source(tmp_path, "{preset: c4_en, revison: v1}")
