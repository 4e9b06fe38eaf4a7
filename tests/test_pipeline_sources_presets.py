"""A shipped mix, built from a local hub whose repositories have the layout the presets name."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import zstandard
from huggingface_hub import close_session

from configs.build import BuildConfig
from configs.loading import load, parse_yaml
from configs.presets import PRESETS
from pipeline.build import build
from tests.hub_server import Hub, Repo, serve

MIXES = Path(__file__).parent.parent / "configs" / "mixes"
COMMIT = "c" * 40


def proof(name: str, i: int) -> str:
    lines = (f"Theorem {i}.{k} of {name} says that {i * 31 + k} divides it." for k in range(5))
    return "\n".join(lines)


def parquet(**columns: list[Any]) -> bytes:
    out = io.BytesIO()
    pl.DataFrame(columns).write_parquet(out)
    return out.getvalue()


def texts(name: str) -> list[str]:
    return [proof(name, i) for i in range(4)]


REPOS = {
    "open-web-math/open-web-math": {
        f"data/train-{n:05d}-of-00114-abc.parquet": parquet(
            url=["u"] * 4, text=texts(f"owm{n}"), date=["d"] * 4, metadata=["{}"] * 4
        )
        for n in range(2)
    },
    "HuggingFaceFW/fineweb-edu": {
        f"sample/10BT/{n:03d}_00000.parquet": parquet(
            text=texts(f"edu{n}"), id=[f"<urn:{n}:{i}>" for i in range(4)], url=["u"] * 4,
            score=[3.1] * 4, int_score=[3] * 4,
        )
        for n in range(2)
    },
    "AI-MO/NuminaMath-CoT": {
        "data/train-00000-of-00005.parquet": parquet(
            source=["aops"] * 4, problem=texts("problem"), solution=texts("solution"),
            messages=[[{"role": "user"}]] * 4,
        ),
        "data/test-00000-of-00001.parquet": parquet(problem=["held out"], solution=["held out"]),
    },
    "meta-math/MetaMathQA": {
        "default/train/0000.parquet": parquet(
            query=["1+1?"] * 1 + texts("q")[1:], response=texts("r"), type=["t"] * 4
        )
    },
    "EleutherAI/proof-pile-2": {
        "arxiv/train/arXiv_000.jsonl.zst": zstandard.compress(
            b"".join(json.dumps({"text": t, "meta": {}}).encode() + b"\n" for t in texts("arxiv"))
        )
    },
    "HuggingFaceTB/cosmopedia": {
        f"data/{folder}/train-00000-of-000{n}.parquet": parquet(
            prompt=["p"] * 4, text=texts(folder), text_token_length=[9] * 4
        )
        for n, folder in enumerate(("auto_math_text", "openstax", "stanford", "stories"), 10)
    },
    "allenai/ai2_arc": {
        f"{part}/{split}-00000-of-00001.parquet": parquet(
            id=[f"{part}_{split}_{i}" for i in range(4)],
            question=[f"Which {part} planet is number {i} of the {split} list?" for i in range(4)],
            choices=[{"text": ["a", "b"], "label": ["A", "B"]}] * 4, answerKey=["A"] * 4,
        )
        for part in ("ARC-Easy", "ARC-Challenge") for split in ("train", "test")
    },
}  # fmt: skip


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with serve() as running:
        presets = (parse_yaml(path.read_text("utf-8")) for path in PRESETS.glob("*.yaml"))
        names = dict.fromkeys((preset["revision"] for preset in presets), COMMIT)
        running.repos = {name: Repo({COMMIT: files}, names) for name, files in REPOS.items()}
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
        monkeypatch.delenv("HF_TOKEN", raising=False)
        close_session()
        yield running


def test_the_mix_of_shard_builds(server: Hub, tmp_path: Path) -> None:
    config = load(MIXES / "shard_54m.yaml", BuildConfig, ["tokenizer.vocab_size=400"])
    built = build(config, tmp_path / "out")
    assert built is not None
    read = {name: facts.funnel[0].documents_in for name, facts in built.manifest.sources.items()}
    assert read == {
        "openwebmath": 4, "fineweb_edu": 8, "numinamath": 4, "metamathqa": 4, "arxiv": 4,
        "cosmopedia": 12, "arc": 8,
    }  # fmt: skip
    assert {facts.pin["commit"] for facts in built.manifest.sources.values()} == {COMMIT}
    kept = pl.read_parquet(tmp_path / "out.work" / "extract-numinamath-*" / "documents/*.parquet")
    assert kept["text"][0] == proof("problem", 0) + "\n\n" + proof("solution", 0)
    asked = pl.read_parquet(tmp_path / "out.work" / "extract-arc-*" / "documents/*.parquet")
    assert asked["doc_id"][0] == "arc/ARC-Easy_train_0"
    assert not any("test" in name for name in asked["doc_id"])


def test_shipped_mixes_agree_with_each_other() -> None:
    """The anneal without ARC is the mix of the recipe but for it; l20's has its limits."""
    whole, anneal, l20 = (
        load(MIXES / f"{name}.yaml", BuildConfig)
        for name in ("shard_54m", "shard_anneal", "l20_edu")
    )
    assert set(whole.sources) == {*anneal.sources, "arc"}
    source = l20.sources["fineweb_edu"]
    assert (source.min_characters, source.max_characters) == (300, 50_000)
