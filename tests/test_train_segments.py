"""Changes at a phase boundary: who trains which steps, with which rate, beginning from what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from configs.train import TrainConfig
from shards.plan import Plan
from shards.plan_spec import PlanPhase, PlanSource
from train.errors import TrainError
from train.growth import grown, source_layer
from train.model import Decoder
from train.same_run import differences
from train.segments import check_segments, segment_at, segments

COSINE = {"shape": "cosine", "warmup_steps": 2, "warmup": "zero", "floor": 0.5}


def config(changes: dict[str, Any], phases: int = 3, **others: Any) -> TrainConfig:
    phase = {"length": "10 steps", "global_batch_tokens": 8, "weights": {"s": 1}}
    values = {
        "name": "t",
        "data": {
            "seq_len": 4,
            "sources": {"s": {"dataset": "d"}},
            "phases": [phase | {"name": f"p{number}"} for number in range(phases)],
        },
        "model": {
            **{"vocab_size": 16, "num_layers": 2, "d_model": 8, "num_heads": 2},
            **{"num_kv_heads": 1, "head_dim": 4, "ffn_dim": 8, "max_seq_len": 4},
        },
        "optimizer": {"lr": 0.1},
        "schedule": {"shape": "cosine", "warmup_steps": 5},
        "micro_batch": 2,
        "checkpoint": {"every_steps": 5},
        "changes": changes,
    }
    return TrainConfig.model_validate(values | others)


def plan(phases: int = 3) -> Plan:
    source = PlanSource(name="s", dataset_id="d", source="s", split="train", tokens=1000)
    return Plan(
        seq_len=4,
        seed=0,
        order="shuffled",
        sources=(source,),
        phases=tuple(PlanPhase(f"p{number}", 10, 2, ("1",)) for number in range(phases)),
    )


def test_a_run_without_changes_is_one_segment() -> None:
    (only,) = segments(config({}), plan())
    assert (only.first_step, only.last_step, only.change) == (0, 30, None)
    assert (only.span.first_step, only.span.last_step) == (0, 30)


def test_growth_with_a_schedule_of_its_own() -> None:
    run = config({"p1": {"num_layers": 4, "schedule": COSINE}, "p2": {"precision": "pure_bf16"}})
    first, second, third = segments(run, plan())
    assert [s.config.model.num_layers for s in (first, second, third)] == [2, 4, 4]
    assert [s.config.engine.precision for s in (second, third)] == ["fp32", "pure_bf16"]
    # The first schedule ends where the second begins, which goes on over the change of precision.
    assert [(s.span.first_step, s.span.last_step) for s in (first, second, third)] == [
        (0, 10),
        (10, 30),
        (10, 30),
    ]
    assert first.span.rate(0) == 0.2
    assert second.span.rate(10) == 0.0
    assert third.span.rate(21) == second.span.rate(21) == pytest.approx(0.75)  # half way down
    assert [segment_at(run, plan(), step).number for step in (0, 9, 10, 19, 20, 30)] == [
        *(0, 0, 1, 1, 2, 2)
    ]
    assert second.change is not None
    assert third.change is not None
    assert second.change.fresh_optimizer
    assert not third.change.fresh_optimizer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p0": {"num_layers": 4}}, "name one phase after the first"),
        ({"px": {"num_layers": 4}}, "the phases are p0, p1, p2"),
        ({"p1": {"num_layers": 5}}, "num_layers = 5 is no larger multiple of the 2 before"),
        ({"p1": {"num_layers": 4}, "p2": {"num_layers": 4}}, "no larger multiple of the 4"),
    ],
)
def test_changes_that_cannot_be_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        config(changes)


@pytest.mark.parametrize(
    ("changes", "engine", "message"),
    [
        ({"p1": {"schedule": COSINE | {"warmup_steps": 21}}}, {}, "do not fit into the 20 steps"),
        ({"p1": {"precision": "bf16"}}, {}, "trains wrong"),
        ({"p1": {"precision": "pure_bf16"}}, {"zero_stage": 1}, "would get a float32 master"),
    ],
)
def test_segments_that_do_not_fit_are_refused(
    changes: dict[str, Any], engine: dict[str, Any], message: str
) -> None:
    with pytest.raises(TrainError, match=message):
        check_segments(config(changes, engine=engine), plan())


def test_layer_maps_by_hand() -> None:
    assert [source_layer(i, 3, 6, "stack") for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert [source_layer(i, 3, 6, "interleave") for i in range(6)] == [0, 0, 1, 1, 2, 2]


def test_grown_weights_are_those_of_the_old_blocks() -> None:
    run = config({"p1": {"num_layers": 6, "layer_map": "interleave"}})
    old = Decoder(run.model)
    old.initialise(seed=3)
    new = Decoder(segments(run, plan())[1].config.model)
    new.load_state_dict(grown(old.state_dict(), 2, 6, "interleave"))
    for layer in range(6):
        copied, begun = old.layers[layer // 3], new.layers[layer]
        for name, parameter in begun.named_parameters():
            assert parameter.equal(copied.get_parameter(name))
    assert new.embedding.weight.equal(old.embedding.weight)
    # Copies do not share memory: they are trained apart.
    with torch.no_grad():
        new.layers[0].get_parameter("attention.q_proj.weight").zero_()
    assert new.layers[1].get_parameter("attention.q_proj.weight").any()


def test_a_change_may_be_appended_with_its_phase_only() -> None:
    old = config({}, phases=2)
    grown_config = config({"p2": {"num_layers": 4}})
    assert differences(old, grown_config, plan(2), plan(3)) == []
    changed = config({"p1": {"num_layers": 4}})
    (line,) = differences(old, changed, plan(2), plan(3))
    assert line.startswith("changes.p1: None / ")


def test_shipped_tiny_presets_keep_the_mechanisms() -> None:
    """A tiny preset switches on what its recipe does."""
    from configs.loading import load

    for path in sorted(Path("configs/recipes").glob("*.yaml")):
        full, tiny = (load(p, TrainConfig) for p in (path, path.parent / "tiny" / path.name))
        switches = ["ffn", "windows", "rope_pairs", "rope_backwards", "qk_norm_gain", "logit_cap"]
        switches += ["dropout", "norm_weights", "nanochat", "tie_embeddings", "rope_theta"]
        assert [getattr(tiny.model, s) for s in switches] == [
            getattr(full.model, s) for s in switches
        ]
        assert (tiny.model.mla is None) == (full.model.mla is None)
        assert tiny.optimizer == full.optimizer
        assert (tiny.z_loss, tiny.data.order) == (full.z_loss, full.data.order)
        assert tiny.changes.keys() == full.changes.keys()
        assert tiny.engine.precision == full.engine.precision
        assert type(tiny.schedule) is type(full.schedule)
        assert tiny.schedule.warmup == full.schedule.warmup
        assert (tiny.sentinel is None) == (full.sentinel is None)
