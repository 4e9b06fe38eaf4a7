"""Executors: a build on Ray gives the bytes of a local one; what fails elsewhere is said here."""

import gzip
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from configs.build import BuildConfig
from configs.executor import RayConfig, SlurmConfig
from configs.loading import load
from pipeline.build import build
from pipeline.errors import BuildError
from pipeline.executor import LocalRunner, Runner, refuse_incomplete, worker_pool
from pipeline.ray_executor import ray_runner
from pipeline.slurm_executor import SlurmRunner
from pipeline.streams import tracked_lines
from pipeline.task_report import report_share, reporting, shown, tell
from tests.test_pipeline_kill import digests


class Work(PipelineStep):  # type: ignore[misc]
    """Writes its rank; fails where it is told to."""

    def __init__(self, folder: Path, fails: dict[int, type[Exception]]) -> None:
        super().__init__()
        self.folder, self.fails = folder, fails

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        tell(f"task {rank} waits")
        report_share(0.5)
        if rank in self.fails:
            raise self.fails[rank](f"task {rank} does not like it")
        (self.folder / str(rank)).write_text(f"{rank} of {world_size}")
        yield from ()


class Bar:
    """Counts what it is advanced by."""

    def __init__(self) -> None:
        self.done = 0.0

    def advance(self, n: float = 1) -> None:
        self.done += n


@pytest.fixture(scope="module")
def ray() -> Iterator[Runner]:
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'tallylm[ray]'")
    with ray_runner(RayConfig(), workers=2) as runner:
        yield runner


def run(runner: Runner, folder: Path, fails: dict[int, type[Exception]]) -> list[str]:
    """Run three tasks; returns what is there afterwards."""
    runner.run([Work(folder, fails)], 3, folder / "datatrove")
    return sorted(path.name for path in folder.iterdir() if path.is_file())


def test_tasks_that_fail_elsewhere_are_said_and_the_rest_is_kept(
    ray: Runner, tmp_path: Path
) -> None:
    with pytest.raises(BuildError, match=r"^task 1 does not like it$"):
        run(ray, tmp_path, {1: BuildError, 2: KeyError})
    assert [(tmp_path / name).exists() for name in "012"] == [True, False, False]
    with pytest.raises(BuildError, match=r"task 2 failed with KeyError.*its log is .*_00002.log"):
        refuse_incomplete(tmp_path / "datatrove", [2], "")
    with pytest.raises(BuildError, match=r"2 tasks ended without a word, task 0 first; look there"):
        refuse_incomplete(tmp_path / "datatrove", [0, 3], "look there")
    assert run(ray, tmp_path, {0: KeyError}) == ["0", "1", "2"]  # task 0 is not run again
    assert (tmp_path / "1").read_text() == "1 of 3"


def test_messages_and_progress_of_tasks_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    logs, bar = tmp_path / "datatrove", Bar()
    with worker_pool(2) as pool, shown(logs, [1.0, 2.0, 4.0], bar):
        run(LocalRunner(pool), tmp_path, {})
    assert bar.done == 7
    assert sorted(capsys.readouterr().out.splitlines()) == [f"task {i} waits" for i in range(3)]
    assert list((logs / "progress").iterdir()) == []
    again = Bar()
    with shown(logs, [1.0, 2.0, 4.0], again):
        pass
    assert again.done == 7
    assert capsys.readouterr().out == ""


def test_progress_moves_within_a_task(tmp_path: Path) -> None:
    logs, bar = tmp_path / "datatrove", Bar()
    (logs / "completions").mkdir(parents=True)
    (logs / "progress").mkdir()
    (logs / "progress" / "00001").write_text("0.25")
    with shown(logs, [1.0, 2.0, 4.0], bar):
        assert bar.done == 0.5
        (logs / "progress" / "00001").write_text("")  # as while it is being written
        (logs / "completions" / "00000").touch()
    assert bar.done == 1.0


def test_lines_of_a_packed_file_report_how_much_of_it_is_read(tmp_path: Path) -> None:
    path, logs = tmp_path / "lines.jsonl.gz", tmp_path / "datatrove"
    lines = [f"{i} {i * 7919}\n".encode() for i in range(200_000)]
    path.write_bytes(gzip.compress(b"".join(lines)))
    seen: list[float] = []
    with reporting(logs, 0), ExitStack() as stack:
        for number, line in enumerate(tracked_lines(str(path), stack, 1_000_000)):
            assert line == lines[number]
            if number in (0, 100_000):
                time.sleep(0.6)  # reports are half a second apart
            if number in (300, 100_300):
                seen.append(float((logs / "progress" / "00000").read_text()))
    assert 0 < seen[0] < 0.4 < seen[1] < 0.7


def test_slurm_says_where_to_start_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BuildError, match="'squeue' is not installed here; start the build on a lo"):
        run(SlurmRunner(SlurmConfig(), workers=-1), tmp_path, {})


def config_file(folder: Path) -> Path:
    for part in range(2):
        lines = [{"text": f"Text {i * 7} of part {part} has {i * 31} words."} for i in range(200)]
        text = "\n".join(map(json.dumps, lines))
        (folder / f"{part}.jsonl").write_text(text, encoding="utf-8")
    source = {"kind": "jsonl", "licence": "CC0-1.0", "paths": [str(folder / "*.jsonl")]}
    values: dict[str, Any] = {"name": "x", "sources": {"s": source}}
    values["tokenizer"] = {"vocab_size": 300}
    path = folder / "build.yaml"
    path.write_text(json.dumps(values), encoding="utf-8")  # JSON is YAML
    return path


@pytest.mark.slow
def test_a_build_on_ray_has_the_bytes_of_a_local_one(ray: Runner, tmp_path: Path) -> None:
    path = config_file(tmp_path)
    local = build(load(path, BuildConfig), tmp_path / "local")
    chosen = load(path, BuildConfig, ["executor.kind=ray"])
    assert chosen.model_dump() == load(path, BuildConfig).model_dump()
    on_ray = build(chosen, tmp_path / "ray", workers=2)
    assert local is not None
    assert on_ray is not None
    assert on_ray.manifest.dataset_id == local.manifest.dataset_id
    assert digests(on_ray.path) == digests(local.path)
    log = json.loads((tmp_path / "ray.work" / "build_log.json").read_text())
    assert log["executor"] == "ray"
