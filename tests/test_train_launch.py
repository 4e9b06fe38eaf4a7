"""What is said and written before the ranks start: compiler, machines, Slurm's script."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from configs.train import EngineConfig, LaunchConfig
from tests.test_train_run import ONE_THREAD, ROOT, Bench, metrics, weights
from train.errors import OutOfMemoryError, TrainError
from train.launch import (
    Place,
    accelerators,
    announce_compile,
    choose_place,
    read_hostfile,
)
from train.memory import memory_explained
from train.slurm import script


def test_compiling_needs_a_compiler(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    announce_compile(EngineConfig(compile=False))
    with pytest.raises(TrainError, match=r"no C\+\+ compiler"):
        announce_compile(EngineConfig(compile=True))
    compiler = tmp_path / "c++"
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    announce_compile(EngineConfig(compile=True))
    assert "compiles the model" in capsys.readouterr().out


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("launch"))


def test_hostfile_gives_the_ranks(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# ours\nworker-1 slots=8\n\nworker-2 slots=4  # half\n")
    assert read_hostfile(path) == {"worker-1": 8, "worker-2": 4}
    assert choose_place(LaunchConfig(), None, None, path) == Place(12, True, path)
    with pytest.raises(TrainError, match="its slots are the ranks"):
        choose_place(LaunchConfig(), 2, None, path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a slots=2\na slots=2\n", "line 2: expected `HOST slots=GPUS`, each host once"),
        ("a 2\n", "line 1: expected"),
        ("# nobody\n", "names no machine"),
        (None, "no such hostfile"),
    ],
)
def test_wrong_hostfiles_are_refused(tmp_path: Path, text: str | None, message: str) -> None:
    path = tmp_path / "hosts"
    if text is not None:
        path.write_text(text)
    with pytest.raises(TrainError, match=message):
        read_hostfile(path)


def test_a_run_on_a_hostfile_of_this_machine(bench: Bench, tmp_path: Path) -> None:
    (tmp_path / "hosts").write_text("localhost slots=2\n")
    arguments = ("--hostfile", str(tmp_path / "hosts"), "--stop-after", "3")
    output = bench.train(tmp_path / "run", *arguments, "launch.device=cpu", "trackers=[csv]")
    assert "starting 2 ranks on the CPU, machines of" in output
    handed_on = (tmp_path / "run" / "hosts.env").read_text().splitlines()
    assert {"DS_ACCELERATOR=cpu", "OMP_NUM_THREADS=1"} < set(handed_on)
    assert len(metrics(tmp_path / "run")) == 3
    assert len((tmp_path / "run" / "metrics.csv").read_text().splitlines()) == 4
    explained = pytest.raises(OutOfMemoryError, match="memory of a rank by the plan")
    with explained, memory_explained(tmp_path / "run"):
        torch.empty(1 << 60, dtype=torch.uint8)


def one_of_two(rank: int) -> dict[str, str]:
    """What torchrun gives a rank."""
    values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "LOCAL_WORLD_SIZE": 2}
    values |= {"MASTER_PORT": 29433}
    return {name: str(value) for name, value in values.items()} | {"MASTER_ADDR": "127.0.0.1"}


def test_ranks_that_torchrun_started_start_no_others(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.test_train_run.ONE_THREAD", os.environ | one_of_two(0))
    said = bench.train(tmp_path / "run", "--ranks", "2", "--dry-run", expect=2)
    assert "--ranks, --dry-run: RANK and WORLD_SIZE are set, so this is one rank of" in said
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_torchrun(bench: Bench, tmp_path: Path) -> None:
    """The bits of a run that DeepSpeed's launcher started; stopped and gone on with."""
    bench.train(tmp_path / "ours", "--ranks", "2", "--stop-after", "40")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2"]
    command += ["--master-port", "29434", *bench.command(tmp_path / "run")[1:]]
    for steps in ("20", "40", "40"):
        said = subprocess.run(
            [*command, "--stop-after", steps, "launch.device=cpu", "checkpoint.every_steps=20"],
            cwd=ROOT,
            env=ONE_THREAD,
            capture_output=True,
            text=True,
        )
        assert said.returncode == 0, said.stderr
    assert "40 of 240 steps are done already" in said.stdout
    assert weights(tmp_path / "run", 40) == weights(tmp_path / "ours", 40)
    ledgers = [(tmp_path / name / "ledger.jsonl").read_bytes() for name in ("run", "ours")]
    assert ledgers[0] == ledgers[1]


def test_slurm_script(tmp_path: Path) -> None:
    values = {
        "ranks": 4,
        "slurm": {"nodes": 2, "time": "8:00:00", "sbatch_args": {"account": "mine"}},
    }
    lines = script("a", tmp_path, LaunchConfig.model_validate(values)).splitlines()
    directives = {line for line in lines if line.startswith("#SBATCH")}
    assert directives >= {
        "#SBATCH --job-name=a",
        "#SBATCH --nodes=2",
        "#SBATCH --ntasks-per-node=4",
        "#SBATCH --gpus-per-node=4",
        "#SBATCH --time=8:00:00",
        "#SBATCH --account=mine",
        "#SBATCH --signal=TERM@120",
        "#SBATCH --requeue",
    }
    assert f"if [ $code -eq 75 ] && [ ! -e {tmp_path}/stop-requested ]; then" in lines
    on_cpus = script("a", tmp_path, LaunchConfig.model_validate(values | {"device": "cpu"}))
    assert "gpus-per-node" not in on_cpus
    assert "DS_ACCELERATOR=cpu" in on_cpus


def test_slurm_script_is_shown_and_nothing_written(bench: Bench, tmp_path: Path) -> None:
    output = bench.train(tmp_path / "run", "--slurm", "--dry-run", "launch.ranks=2")
    assert f"-m train worker {tmp_path / 'run'}" in output
    assert not (tmp_path / "run").exists()
    output = bench.train(tmp_path / "run", "--slurm", "--ranks", "2", expect=2)
    assert "--slurm takes its ranks from launch.ranks" in output


def test_the_gpus_that_are_shown_are_those_that_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 2,7")
    assert accelerators(Place(2, on_gpus=True)) == [5, 2]
    assert accelerators(Place(2, on_gpus=False)) == [0, 1]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-8932f937")
    with pytest.raises(TrainError, match="knows GPUs by number only"):
        accelerators(Place(1, on_gpus=True))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert accelerators(Place(2, on_gpus=True)) == [0, 1]
