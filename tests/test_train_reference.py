"""Two DeepSpeed ranks against a plain loop in one process: AdamW at every ZeRO stage."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.ranks import train_together
from tests.test_train_run import SEQ_LEN, Bench, losses, metrics
from train.checkpoint import load_model
from train.model import Decoder
from train.run_data import run_datasets, run_plan
from train.run_dir import read_config

STEPS = 12


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("reference"))


def plainly_trained(run: Path) -> tuple[Decoder, list[float]]:
    """The model after STEPS steps and the loss of each, by nothing but torch."""
    config, plan = read_config(run), run_plan(run)
    datasets = run_datasets(run)
    streams = [datasets[source.name].stream(source.source) for source in plan.sources]
    model = Decoder(config.model)
    model.initialise(config.seed)
    matrices = [p for p in model.parameters() if p.ndim == 2]
    vectors = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.95), eps=1e-8)
    found = []
    for step in range(STEPS):
        rows = [
            streams[s].windows(np.array([w]), SEQ_LEN)[0]
            for s, w in zip(*plan.step(step), strict=True)
        ]
        tokens = torch.from_numpy(np.stack(rows).astype(np.int64))
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * min((step + 1) / 10, 1.0)  # the cosine begins at step 10
        if step == 11:
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (0.1 + 0.9 * 0.5 * (1 + np.cos(np.pi / 230)))
        optimizer.step()
        found.append(loss.item())
    return model, found


@pytest.mark.parametrize(
    "stage", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))]
)
def test_adamw_at_every_stage(bench: Bench, stage: int) -> None:
    run = bench.directory / f"stage{stage}"
    bench.prepare(run, f"engine.zero_stage={stage}")
    train_together(2, [f"{run}:{STEPS}"])
    reference, expected = plainly_trained(run)
    assert losses(run) == pytest.approx(expected, rel=1e-5)
    model = load_model(run)[0]
    theirs = dict(reference.named_parameters())
    for name, parameter in model.named_parameters():
        # AdamW divides by the root of the second moment: where that is tiny, rounding shows.
        torch.testing.assert_close(parameter, theirs[name], rtol=1e-3, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [1, 2, 3])
def test_bfloat16_with_a_float32_master_stays_near(bench: Bench, stage: int) -> None:
    run = bench.directory / f"bf16-{stage}"
    settings = ("engine.precision=bf16", f"engine.zero_stage={stage}")
    bench.train(run, "--ranks", "2", *settings, "--stop-after", str(STEPS))
    _, expected = plainly_trained(run)
    assert losses(run) == pytest.approx(expected, rel=1e-2)


@pytest.mark.slow
def test_autocast_sums_gradients_in_float32(bench: Bench) -> None:
    """The first gradient is that of stage 0 at every stage; later, bfloat16 magnifies rounding."""
    found = []
    for stage in range(4):
        run = bench.directory / f"autocast-{stage}"
        settings = ("engine.precision=bf16_autocast", f"engine.zero_stage={stage}")
        bench.train(run, "--ranks", "2", *settings, "--stop-after", "1")
        found.append(metrics(run)[0]["grad_norm"])
    assert found == pytest.approx([found[0]] * 4, rel=1e-6)
