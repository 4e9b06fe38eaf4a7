"""A dataset and a briefly trained run, made from real docstrings in seconds, for tests.

Everything goes through the code that real runs use (shards.writer, shards.plan, shards.ledger,
train.checkpoint, the decoder); only the loop is shorter than the trainer's.
"""

import inspect
import json
import math
import statistics
import textwrap
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from configs.model import ModelConfig
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file, content_hash
from shards.index import DocumentRow
from shards.ledger import Ledger, LedgerEntry, planned_entry
from shards.manifest import FunnelStage, Manifest, SourceFacts, SplitFacts, TokenizerFacts, seal
from shards.plan import Plan
from shards.plan_file import save_plan
from shards.plan_spec import PlanPhase, PlanSource
from shards.reader import Dataset
from shards.writer import SplitWriter
from train.checkpoint import begin, finish, temporary_path
from train.metrics import MetricsLog
from train.model import Decoder

SEQ_LEN, BATCH, EOS = 64, 8, "<|endoftext|>"
SOURCES: dict[str, list[ModuleType]] = {
    "docs": [textwrap, json, inspect],
    "math": [statistics, math],
}
MODEL = ModelConfig(
    vocab_size=512,
    num_layers=2,
    d_model=32,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    ffn_dim=64,
    max_seq_len=128,
)


def documents(modules: list[ModuleType]) -> list[str]:
    """Different docstrings of the functions and classes of some modules, in order of name."""
    found: dict[str, None] = {}
    for module in modules:
        for _, member in sorted(inspect.getmembers(module)):
            text = inspect.getdoc(member) if inspect.isroutine(member) else None
            if text and len(text) > 40:
                found[text] = None
    return list(found)


def make_tokenizer(texts: list[str]) -> Tokenizer:
    """A byte-level BPE of 512 tokens whose id 0 is EOS."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=MODEL.vocab_size,
        special_tokens=[EOS],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def make_dataset(directory: Path) -> Dataset:
    """Sources `docs` and `math`; every fifth document is held out."""
    texts = {name: documents(modules) for name, modules in SOURCES.items()}
    tokenizer = make_tokenizer([text for group in texts.values() for text in group])
    directory.mkdir(parents=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    sources = {name: _write_source(directory, name, texts[name], tokenizer) for name in texts}
    facts = TokenizerFacts(
        blake3=blake3_file(directory / "tokenizer.json"),
        vocab_size=tokenizer.get_vocab_size(),
        eos_id=0,  # the first special token
        eos_token=EOS,
        dtype="uint16",
        encoder="tokenizers",
        encoder_check={},
    )
    seal(
        directory,
        Manifest(name="tiny", config={}, tokenizer=facts, sources=sources, dedup={}, versions={}),
    )
    return Dataset.open(directory)


def _write_source(
    directory: Path, source: str, texts: list[str], tokenizer: Tokenizer
) -> SourceFacts:
    splits: dict[str, SplitFacts] = {}
    for split in ("train", "val"):
        writer = SplitWriter(directory, source, split, np.dtype("<u2"), 0, shard_tokens=4000)
        for row, text in enumerate(texts):
            if (row % 5 == 4) == (split == "val"):
                ids = np.array([*tokenizer.encode(text).ids, 0], dtype=np.uint16)
                writer.add(_row(source, row, text), ids)
        splits[split] = writer.close()
    kept, characters = len(texts), sum(map(len, texts))
    stage = FunnelStage(
        stage="read",
        documents_in=kept,
        characters_in=characters,
        documents_out=kept,
        characters_out=characters,
    )
    return SourceFacts(
        licence="PSF-2.0",
        pin={"package": "python"},
        profile="docstrings",
        funnel=(stage,),
        splits=splits,
    )


def _row(source: str, row: int, text: str) -> DocumentRow:
    return DocumentRow(
        doc_id=f"{source}/{row}",
        char_count=len(text),
        byte_count=len(text.encode()),
        content_hash=content_hash(text),
        origin_file=source,
        origin_row=row,
        url=None,
        duplicates=[],
        scores={},
    )


def make_plan(dataset: Dataset, num_steps: int) -> Plan:
    """Equal shares of both sources."""
    streams = {name: dataset.stream(name) for name in SOURCES}
    sources = tuple(
        PlanSource(
            name=name,
            dataset_id=dataset.manifest.dataset_id,
            source=name,
            split="train",
            tokens=stream.num_tokens,
        )
        for name, stream in streams.items()
    )
    phase = PlanPhase("pretrain", num_steps, BATCH, ("1",) * len(sources))
    return Plan(seq_len=SEQ_LEN, seed=1, order="shuffled", sources=sources, phases=(phase,))


def make_run(directory: Path, num_steps: int = 40) -> Path:
    """DIRECTORY/dataset and a RUN directory that read it; returns the RUN directory."""
    dataset = make_dataset(directory / "dataset")
    run_dir = directory / "run"
    plan = make_plan(dataset, num_steps)
    save_plan(plan, {name: str(dataset.path) for name in SOURCES}, run_dir / "plan.json")
    torch.manual_seed(0)
    model = Decoder(MODEL)
    model.initialise(seed=0)
    _train(model, plan, dataset, run_dir)
    save_checkpoint(model, run_dir, num_steps, plan)
    return run_dir


def _train(model: Decoder, plan: Plan, dataset: Dataset, run_dir: Path) -> None:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    streams = {source.name: dataset.stream(source.source) for source in plan.sources}
    ledger, metrics = Ledger(run_dir), MetricsLog(run_dir)
    for step in range(plan.num_steps):
        batch = plan.step(step)
        rows = [
            streams[plan.sources[int(s)].name].windows(np.array([w]), SEQ_LEN)[0]
            for s, w in zip(batch.source, batch.window, strict=True)
        ]
        windows = torch.from_numpy(np.stack(rows).astype(np.int64))
        logits = model(windows[:, :-1])
        loss = F.cross_entropy(logits.flatten(0, 1), windows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        entry = planned_entry(plan, step, streams)
        ledger.append(LedgerEntry(step=step, **entry))
        tokens = plan.tokens_before(step + 1)
        metrics.append({"step": step, "loss": float(loss.detach()), "tokens": tokens})


def save_checkpoint(model: Decoder, run_dir: Path, step: int, plan: Plan) -> None:
    """A checkpoint with the files that `load_model` reads."""
    begin(run_dir, step)
    folder = temporary_path(run_dir, step)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / "model.safetensors")
    state = {"step": step, "plan_id": plan.plan_id, "model": model.config.model_dump()}
    write_json_atomic(folder / "state.json", state)
    finish(run_dir, step)
