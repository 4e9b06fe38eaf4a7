"""`tally generate`: same seed same text, alone or in a batch, within the model's context."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiny_run import make_run
from train.errors import TrainError
from train.generate import SamplingSettings, continue_texts, generate_run
from train.process import prepare_process
from train.subject import Subject, load_subject

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def subject(run_dir: Path) -> Subject:
    return load_subject(run_dir)


def test_same_seed_same_text(subject: Subject) -> None:
    settings = SamplingSettings(max_new_tokens=12)
    (first,) = continue_texts(subject, ["Return the"], settings)
    assert continue_texts(subject, ["Return the"], settings) == [first]
    assert continue_texts(subject, ["Return the"], settings, first=1) != [first]


def test_a_text_does_not_depend_on_its_neighbours(subject: Subject) -> None:
    settings = SamplingSettings(max_new_tokens=10)
    prompts = ["Return the", "Wrap a single paragraph of text, returning", "x"]
    together = continue_texts(subject, prompts, settings)
    assert together == [
        continue_texts(subject, [prompt], settings, first=number)[0]
        for number, prompt in enumerate(prompts)
    ]


def test_the_context_is_never_exceeded_and_the_end_is_told(subject: Subject) -> None:
    settings = SamplingSettings(max_new_tokens=500, temperature=0)
    (found,) = continue_texts(subject, ["Return the mean of the data. " * 40], settings)
    assert found["text"]
    assert found["ended_by"] in ("eos", "context")
    (short,) = continue_texts(subject, ["Return"], SamplingSettings(max_new_tokens=2))
    assert short["ended_by"] in ("eos", "length")


def test_without_prompts_held_out_beginnings_are_continued(run_dir: Path) -> None:
    result = generate_run(run_dir, [], SamplingSettings(max_new_tokens=4))
    assert [sample["source"] for sample in result["samples"]] == ["docs", "math"]
    assert all(sample["prompt"] for sample in result["samples"])
    assert json.loads((run_dir / "eval" / "generations.json").read_bytes()) == result


def test_while_an_evaluation_writes_there_nothing_is_generated(run_dir: Path) -> None:
    path = run_dir / "eval" / ".lock"
    path.parent.mkdir(exist_ok=True)
    code = (
        "import sys, pathlib, shards.lock\n"
        "with shards.lock.held(pathlib.Path(sys.argv[1]), 'x', 'y'): print(flush=True); input()"
    )
    command = [sys.executable, "-c", code, str(path)]
    with subprocess.Popen(command, stdin=-1, stdout=-1, cwd=ROOT) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(TrainError, match="another `tally generate` is writing it"):
            generate_run(run_dir, ["x"], SamplingSettings(max_new_tokens=1))
        other.communicate(b"\n")
    assert generate_run(run_dir, ["x"], SamplingSettings(max_new_tokens=1))["samples"]
