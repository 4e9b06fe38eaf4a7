"""Training speed: our trainer, a HuggingFace Trainer, and plain torch in the manner of nanoGPT.

    python tests/benchmarks/bench_train.py [ours] [plain] [plain_malloc] [hf] [overhead]

The same Llama model, global batch, micro-batch, optimizer, clipping and precision (float32), two
threads, one process, each in an interpreter of its own, one after the other; medians over steps
after the first few, timed on the wall: run it alone on the machine.

- ours: `tally train`, from `metrics.jsonl`: checkpoint, ledger, metrics and loader as always;
- hf: `transformers.Trainer` on `LlamaForCausalLM` from the same shape, rows from memory;
- plain: our decoder's blocks with nanoGPT's loop: random offsets, all logits, clip, fused AdamW;
- plain_malloc: the same with the trainer's settings of glibc's allocator (`train.launch`);
- overhead: what the trainer adds to a step (reading, digests, ledger, metrics, adding up).
"""

import json
import os
import statistics
import string
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml

from configs.model import ModelConfig
from tests.helpers import make_dataset
from train.model import Decoder

VOCABULARY, SEQ_LEN, MICRO, ACCUMULATION, STEPS, WARM = 8192, 256, 4, 2, 24, 4
TOKENS_A_STEP = SEQ_LEN * MICRO * ACCUMULATION
MODEL = {
    "vocab_size": VOCABULARY,
    "num_layers": 6,
    "d_model": 256,
    "num_heads": 8,
    "num_kv_heads": 4,
    "head_dim": 32,
    "ffn_dim": 704,
    "max_seq_len": SEQ_LEN,
}
ROOT = Path(__file__).parent.parent.parent


def tokens() -> "np.ndarray[tuple[int], np.dtype[np.uint16]]":
    """Random letters, as the dataset of `ours` has them."""
    return np.random.default_rng(0).integers(97, 123, 1_000_000, dtype=np.uint16)


def report(name: str, seconds: list[float]) -> None:
    median = statistics.median(seconds[WARM:])
    print(f"{name:12s} {TOKENS_A_STEP / median:8.0f} tokens/s  {median * 1e3:7.1f} ms a step")


def ours(folder: Path) -> Path:
    """The trainer as a user starts it; returns the RUN directory."""
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list(string.ascii_lowercase), 999)) for _ in range(1000)]
    make_dataset(folder / "dataset", {"s": texts}, {"s": ["held out"]})
    values: dict[str, Any] = {
        "name": "bench",
        "data": {
            "seq_len": SEQ_LEN,
            "sources": {"s": {"dataset": str(folder / "dataset")}},
            "phases": [
                {
                    "name": "pretrain",
                    "length": f"{STEPS} steps",
                    "global_batch_tokens": TOKENS_A_STEP,
                    "weights": {"s": 1},
                }
            ],
        },
        "model": MODEL,
        "optimizer": {"lr": 1e-3},
        "schedule": {"shape": "cosine", "warmup_steps": 4},
        "micro_batch": MICRO,
        "checkpoint": {"every_steps": STEPS},
        "loader": {"verify": "off"},
        "launch": {"device": "cpu", "ranks": 1},
    }
    (folder / "train.yaml").write_text(yaml.safe_dump(values))
    command = [sys.executable, "-m", "train", "train", str(folder / "train.yaml")]
    subprocess.run([*command, "-o", str(folder / "run")], cwd=ROOT, check=True, capture_output=True)
    return folder / "run"


def measure_ours() -> None:
    with tempfile.TemporaryDirectory() as name:
        lines = (ours(Path(name)) / "metrics.jsonl").read_text().splitlines()
    report("ours", [json.loads(line)["step_s"] for line in lines])


def measure_plain() -> None:
    data, rng = tokens(), np.random.default_rng(1)
    model = Decoder(ModelConfig.model_validate(MODEL))
    model.initialise(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
    times = []
    for _ in range(STEPS):
        start = time.perf_counter()
        for _ in range(ACCUMULATION):
            starts = rng.integers(0, len(data) - SEQ_LEN, MICRO)
            rows = np.stack([data[i : i + SEQ_LEN + 1].astype(np.int64) for i in starts])
            batch = torch.from_numpy(rows)
            logits = model(batch[:, :-1])
            loss = F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
            (loss / ACCUMULATION).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - start)
    report(sys.argv[1], times)


def measure_hf() -> None:
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=MODEL["d_model"],
        intermediate_size=MODEL["ffn_dim"],
        num_hidden_layers=MODEL["num_layers"],
        num_attention_heads=MODEL["num_heads"],
        num_key_value_heads=MODEL["num_kv_heads"],
        max_position_embeddings=SEQ_LEN,
        tie_word_embeddings=True,
    )
    times: list[float] = []

    class Clock(transformers.TrainerCallback):  # type: ignore[misc]
        """From the end of a step to the end of the next."""

        def on_train_begin(self, *_: Any, **__: Any) -> None:
            self.last = time.perf_counter()

        def on_step_end(self, *_: Any, **__: Any) -> None:
            now = time.perf_counter()
            times.append(now - self.last)
            self.last = now

    rows = tokens()[: 3000 * SEQ_LEN].astype(np.int64).reshape(-1, SEQ_LEN)
    items = [{"input_ids": row, "labels": row} for row in torch.from_numpy(rows)]
    with tempfile.TemporaryDirectory() as name:
        settings = transformers.TrainingArguments(
            output_dir=name,
            max_steps=STEPS,
            per_device_train_batch_size=MICRO,
            gradient_accumulation_steps=ACCUMULATION,
            learning_rate=1e-3,
            adam_beta2=0.95,
            max_grad_norm=1.0,
            optim="adamw_torch_fused",
            save_strategy="no",
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
            logging_strategy="no",
        )
        transformers.Trainer(
            model=transformers.LlamaForCausalLM(config),
            args=settings,
            train_dataset=items,
            callbacks=[Clock()],
        ).train()
    report("hf", times)


def measure_overhead() -> None:
    """Processor time of what is not the model, beside the step it belongs to."""
    from configs.train import TrainConfig
    from shards.ledger import Ledger, LedgerEntry, digest_tokens, digest_windows
    from train.collective import StepShare, add_up
    from train.data import RankReader
    from train.metrics import MetricsLog
    from train.run_data import run_datasets, run_plan
    from train.run_dir import read_config

    with tempfile.TemporaryDirectory() as name:
        run = ours(Path(name))
        lines = [json.loads(line) for line in (run / "metrics.jsonl").open()]
        config, plan = read_config(run), run_plan(run)
        assert isinstance(config, TrainConfig)
        stream = run_datasets(run)["s"].stream("s")
        reader = RankReader(plan, [stream], rank=0, world_size=1, micro_batch=MICRO)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{name}/store", rank=0, world_size=1
        )
        ledger, metrics = Ledger(Path(name)), MetricsLog(Path(name))
        start = time.process_time()
        for step in range(STEPS):
            fed = read = 0
            for rows in reader.read(step):
                fed += digest_windows(rows.source, rows.window)
                read += digest_tokens(rows.source, rows.window, rows.tokens)
            windows = np.array([MICRO * ACCUMULATION])
            total = add_up(StepShare(0.0, windows, 0, fed, read, 0), torch.device("cpu"))
            plan.account(step + 1)
            ledger.append(LedgerEntry(step, {"s": int(total.windows[0])}, 0, "", ""))
            metrics.append(lines[step])
        spent = (time.process_time() - start) / STEPS
        torch.distributed.destroy_process_group()
    whole = statistics.median(line["step_s"] for line in lines[WARM:])
    print(f"overhead {spent * 1e3:.2f} ms of processor time, {spent / whole:.2%} of a step")
    wait = statistics.median(line["data_wait_s"] for line in lines[WARM:])
    print(f"  waiting for data {wait * 1e3:.2f} ms, {wait / whole:.2%} of a step")


MEASURES = {
    "ours": measure_ours,
    "plain": measure_plain,
    "plain_malloc": measure_plain,
    "hf": measure_hf,
    "overhead": measure_overhead,
}


def main(wanted: list[str]) -> None:
    if len(wanted) == 1:
        torch.set_num_threads(2)
        MEASURES[wanted[0]]()
        return
    for name in wanted or MEASURES:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
        if name == "plain_malloc":
            environment |= {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}
        subprocess.run([sys.executable, __file__, name], env=environment, check=True)


if __name__ == "__main__":
    main(sys.argv[1:])
