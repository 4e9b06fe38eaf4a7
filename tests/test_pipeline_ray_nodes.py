"""A Ray cluster of three nodes, one of which dies in the middle: build and audit, same bytes."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from configs.audit import SENSITIVITIES
from configs.build import BuildConfig
from configs.executor import load_executor
from configs.loading import load
from contamination.audit import run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.elsewhere import ScanJob
from pipeline.audit_scan import scan_by
from pipeline.build import build
from tests.test_pipeline_kill import digests

pytestmark = pytest.mark.slow
SETTINGS = ["executor.kind=ray", "executor.ray.mem_per_cpu_gb=1"]
PARTS = 3


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Three nodes of one processor each; this process is connected to them."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'tallylm[ray]'")
    from ray.cluster_utils import Cluster

    size: dict[str, Any] = {"num_cpus": 1, "memory": 3 << 30, "object_store_memory": 100 << 20}
    cluster: Any = Cluster(initialize_head=True, head_node_args=size)
    for _ in range(2):
        cluster.add_node(**size)
    ray.init(cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@contextmanager
def a_node_dies(cluster: Any, when: Callable[[], bool]) -> Iterator[None]:
    """Kill the processes of a node as soon as `when` says so; it must come to that."""
    died = threading.Event()

    def watch() -> None:
        while not when():
            time.sleep(0.05)
        cluster.remove_node(max(cluster.worker_nodes, key=str), allow_graceful=False)
        died.set()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    yield
    assert died.is_set()


def write_texts(folder: Path) -> None:
    folder.mkdir()
    for part in range(PARTS):
        texts = [
            f"Bridge {i} of part {part} is {i * 31} metres long; it carries {i * 7} trains a day, "
            f"and the {part}-th river below it has {i % 13} islands with {i * i} trees."
            for i in range(2000)
        ]
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{part}.jsonl").write_text("\n".join(lines), encoding="utf-8")


def started(work: Path, stage: str) -> Callable[[], bool]:
    """Whether a task of the stage is running, and none is done."""
    return lambda: (
        any(work.glob(f"{stage}*/datatrove/messages"))
        or any(work.glob(f"{stage}*/datatrove/executor.json"))
    )


def test_a_build_survives_the_death_of_a_node(cluster: Any, tmp_path: Path) -> None:
    write_texts(tmp_path / "text")
    source = {"kind": "jsonl", "licence": "CC0-1.0", "paths": [str(tmp_path / "text" / "*.jsonl")]}
    values = {"name": "x", "sources": {"s": source}, "tokenizer": {"vocab_size": 400}}
    path = tmp_path / "build.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    local = build(load(path, BuildConfig), tmp_path / "local", workers=1)
    with a_node_dies(cluster, started(tmp_path / "ray.work", "extract")):
        on_ray = build(load(path, BuildConfig, SETTINGS), tmp_path / "ray")
    assert local is not None
    assert on_ray is not None
    assert digests(on_ray.path) == digests(local.path)


def test_an_audit_survives_the_death_of_a_node(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALLY_CACHE", str(tmp_path / "cache"))
    write_texts(tmp_path / "text")
    questions = [
        {"question": f"How long is bridge {i} of part {i % PARTS}, which carries {i * 7} trains?"}
        for i in range(40)
    ]
    items = tmp_path / "items.jsonl"
    items.write_text("\n".join(map(json.dumps, questions)), encoding="utf-8")
    sets = load_benchmarks([f"bridges={items}?question=question"])
    corpus = open_corpus(tmp_path / "text")
    rules = SENSITIVITIES["default"]
    local = run_audit(corpus, sets, rules, tmp_path / "scans", tmp_path / "other")
    job = ScanJob(str(tmp_path / "text"), "text", sets, (), tmp_path / "cache" / "audit")
    assert job.unscanned(corpus) == PARTS
    with a_node_dies(cluster, lambda: any((tmp_path / "cache").rglob("executor.json"))):
        scan_by(job, corpus, load_executor("ray", SETTINGS[1:]))
    assert job.unscanned(corpus) == 0
    assert not any((tmp_path / "cache" / "audit" / "runs").iterdir())
    after = run_audit(corpus, sets, rules, job.scans, job.cache)
    assert after.scanned.pieces == 0
    assert after.findings == local.findings
    assert after.totals == local.totals
