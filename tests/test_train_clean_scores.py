"""Scores split by an audit: an item planted in the training text is the contaminated one."""

import json
from pathlib import Path

import pytest

from configs.audit import SENSITIVITIES
from configs.evaluation import EvalSettings
from contamination.audit import run_audit
from contamination.benchmarks import load_benchmarks
from contamination.corpus import open_corpus
from contamination.write import write_reports
from tests.tiny_run import make_run
from train.candidates import RunCandidate
from train.clean_scores import read_audit, write_clean
from train.errors import TrainError
from train.evaluate import Evaluation
from train.process import prepare_process
from train.run_data import run_datasets
from train.subject import load_subject
from train.tasks import find_data

PLANTED = (
    "Note that tabs and spaces are both treated as whitespace, but they are not equal: the lines",
    "are considered to have no common leading whitespace.",
)  # of the docstring of textwrap.dedent


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


def test_scores_are_split_by_the_audits_findings(run_dir: Path, tmp_path: Path) -> None:
    rows = [
        {"premise": f"A {word} of the quiet village took {word} boats over the wide cold river.",
         "choice1": "They reached the other side before evening came.", "question": "effect",
         "choice2": "The mountain was sold to a travelling circus.", "idx": i, "label": 0}
        for i, word in enumerate(("baker", "smith", "tailor"))
    ]  # fmt: skip
    rows.append(rows[0] | {"premise": PLANTED[0], "choice1": PLANTED[1], "idx": 3})
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    candidate, folder = RunCandidate("tiny", load_subject(run_dir)), run_dir / "eval"
    data = find_data("copa", tmp_path, tmp_path / "cache")
    results = Evaluation(candidate, folder, EvalSettings(), tmp_path / "cache").score([data])
    audit_of(run_dir, tmp_path)
    ids = [d.manifest.dataset_id for d in run_datasets(run_dir).values()]
    audit = read_audit(tmp_path / "audit", ids)
    (row,) = write_clean(tmp_path / "audit", audit, candidate.described(), folder, results)
    assert (row["all"]["n"], row["clean"]["n"], row["dirty"]["n"]) == (4, 3, 1)
    samples = [json.loads(line) for line in (folder / "copa.samples.jsonl").open()]
    assert row["dirty"]["mean"] == samples[3]["acc"]
    assert row["clean"]["mean"] == pytest.approx(sum(s["acc"] for s in samples[:3]) / 3)
    written = json.loads((folder / "clean.json").read_bytes())
    assert written["scores"] == [row]
    assert written["samples"] == {"copa": results[0]["samples"]["blake3"]}
    with pytest.raises(TrainError, match="give the audit of that dataset"):
        read_audit(tmp_path / "audit", ["of another dataset"])
    with pytest.raises(TrainError, match="no such file"):
        read_audit(tmp_path, ids)


def audit_of(run_dir: Path, tmp_path: Path) -> None:
    """Compare the run's dataset with the items that were scored."""
    result = run_audit(
        open_corpus(str(run_dir.parent / "dataset")),
        load_benchmarks([f"samples:{run_dir / 'eval' / 'copa.samples.jsonl'}"]),
        SENSITIVITIES["default"],
        tmp_path / "scans",
        tmp_path,
        1,
    )
    write_reports(result, tmp_path / "audit", "tiny", 0.0)
