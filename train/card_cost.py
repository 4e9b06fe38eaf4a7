"""What a run took: processor hours, money, energy; as measured, or as its author states them.

RUN/card/stated.json holds what no file of the run knows: licence, price of a GPU hour, energy.
"""

from pathlib import Path
from typing import Any

from pydantic import NonNegativeFloat

from configs.base import Section
from shards.atomic import write_json_atomic
from train.card_content import Line, line
from train.facts import Evidence, Fact

STATED = "run/card/stated.json"
_CONFIG, _ENVIRONMENT = "run/config.yaml", "run/environment.json"


class Stated(Section):
    """What the author of a card says of the model."""

    license: str | None = None
    """As the hub names it, such as apache-2.0."""
    gpu_hour_price: NonNegativeFloat | None = None
    """Paid for an hour of one GPU."""
    energy_kwh: NonNegativeFloat | None = None
    """That the training took, by a meter of the author's."""


def state(run_dir: Path, stated: Stated) -> None:
    """Keep what the author states, beside what was stated before."""
    path = run_dir / "card" / "stated.json"
    new = stated.model_dump(exclude_none=True)
    if new:
        old: dict[str, Any] = Evidence({"run": run_dir}).raw(STATED) or {}
        write_json_atomic(path, Stated.model_validate(old | new).model_dump(exclude_none=True))


def cost_rows(evidence: Evidence) -> list[tuple[str, Fact | None]]:
    """Hours, cost and energy, each where it is known."""
    hours, gpu = _hours(evidence), _on_gpu(evidence)
    price = _price(evidence) if gpu else None
    return [
        ("hours in steps", evidence.fact("run/metrics.jsonl", "hours/step_s", "hours")),
        ("GPU hours in steps" if gpu else "rank hours in steps, no GPU", hours),
        ("cost at the stated price", evidence.compute("multiply", hours, price, style="money")),
        ("energy, kWh, stated by the author", evidence.fact(STATED, "/energy_kwh")),
    ]


def cost_note(evidence: Evidence) -> Line | None:
    """What the hours and the cost are of."""
    price = _price(evidence) if _on_gpu(evidence) else None
    if _hours(evidence) is None:
        return None
    hours = "Hours are those of the steps that count; start, validation and saving come on top."
    return line(hours, " The cost is at ", price, " for an hour of a GPU.") or (hours,)


def _hours(evidence: Evidence) -> Fact | None:
    return evidence.fact(_ENVIRONMENT, "rank_hours", "hours")


def _on_gpu(evidence: Evidence) -> bool:
    return bool(evidence.raw(_ENVIRONMENT, "/device_type") == "cuda")


def _price(evidence: Evidence) -> Fact | None:
    """As stated for the card; else of `launch.gpu_hour_price`, for this GPU."""
    prices: dict[str, float] = evidence.raw(_CONFIG, "/launch/gpu_hour_price") or {}
    device = str(evidence.raw(_ENVIRONMENT, "/device"))
    names = [n for n in prices if n == "this" or n.partition("-")[0] in device.split()]
    found = evidence.fact(STATED, "/gpu_hour_price")
    if found is None and len(names) == 1:
        found = evidence.fact(_CONFIG, f"/launch/gpu_hour_price/{names[0]}")
    return found
