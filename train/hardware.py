"""What a run takes on a GPU: hours, money, memory, from published efficiency or measured speed.

Efficiency is model operations a second over the dense bfloat16 peak of the card, counted as in
`train.flops` (6 per parameter in a product, the tied head included, and full attention). Prices are
the user's own: none is shipped, since none stays true.
"""

import math
from collections.abc import Mapping
from typing import NamedTuple, get_args

from configs.train import Card
from train.errors import TrainError
from train.flops import PEAK_FLOPS


class CardFacts(NamedTuple):
    """One kind of GPU."""

    family: str
    """Its key in PEAK_FLOPS."""
    memory_gib: float
    """As the driver reports it."""
    measured_as: str
    """Whose published efficiency stands for it."""


CARDS: Mapping[Card, CardFacts] = {
    "A100-40": CardFacts("A100", 40_960 / 1024, "A100"),
    "A100-80": CardFacts("A100", 81_920 / 1024, "A100"),
    "L20": CardFacts("L20", 46_068 / 1024, "L20"),
    "H100": CardFacts("H100", 81_559 / 1024, "H100"),
    "H200": CardFacts("H200", 143_771 / 1024, "H100"),
}


class Efficiency(NamedTuple):
    """What others reached on one card with a model of one size."""

    family: str
    parameters: float
    low: float
    high: float
    source: str


PUBLISHED = (
    Efficiency("A100", 124e6, 0.377, 0.377, "GPT-2 124M reproduction, 8x A100"),
    Efficiency("A100", 124e6, 0.634, 0.634, "llm.c discussion 481, GPT-2 124M"),
    Efficiency("A100", 125e6, 0.426, 0.450, "llm-foundry table, 125M"),
    Efficiency("A100", 275e6, 0.467, 0.467, "TinyLM 275M model card"),
    Efficiency("A100", 350e6, 0.516, 0.516, "llm-foundry table, 350M"),
    Efficiency("A100", 760e6, 0.569, 0.569, "llm-foundry table, 760M"),
    Efficiency("A100", 1.1e9, 0.52, 0.56, "TinyLlama README, 1.1B"),
    Efficiency("L20", 135e6, 0.397, 0.397, "l20-edu-135m model card"),
    Efficiency("H100", 124e6, 0.32, 0.32, "GPT-2 124M reproduction, 8x H100"),
    Efficiency("H100", 124e6, 0.399, 0.399, "modded-nanogpt record 7, 124M"),
    Efficiency("H100", 124e6, 0.40, 0.40, "llm.c 124M in modded-nanogpt's README"),
    Efficiency("H100", 760e6, 0.35, 0.40, "llm-foundry table, 760M"),
)
"""Recomputed where a source gives tokens a second; llm-foundry's and TinyLlama's are their own."""

_ALIKE = 3.0  # published sizes within this factor of a model's are taken as like it


class Share(NamedTuple):
    """Range of the peak that is reached, and who says so."""

    low: float
    high: float
    basis: str


def published_share(card: Card, parameters: int) -> Share:
    """What models of about this size reached on a card; of the nearest size where none is alike."""
    family = CARDS[card].measured_as
    rows = [row for row in PUBLISHED if row.family == family]
    apart = {row: abs(math.log(row.parameters / parameters)) for row in rows}
    limit = max(math.log(_ALIKE), min(apart.values()) + 1e-9)
    chosen = [row for row in rows if apart[row] <= limit]
    low, high = min(row.low for row in chosen), max(row.high for row in chosen)
    reached = f"{low:.0%}" if low == high else f"{low:.0%} to {high:.0%}"
    basis = f"{reached} of the peak ({'; '.join(row.source for row in chosen)})"
    if min(apart.values()) > math.log(_ALIKE):
        basis = f"no figure for this size; the nearest: {basis}"
    if family != CARDS[card].family:
        basis = f"as {family}, no figure of its own: {reached} of the peak"
    return Share(low, high, basis)


class Estimate(NamedTuple):
    """A run on one kind of GPU."""

    device: str
    gpus: int
    hours_low: float
    hours_high: float
    gpu_hours_low: float
    gpu_hours_high: float
    cost_low: float | None
    """In the currency of the prices given; None without a price."""
    cost_high: float | None
    memory_gib: float | None
    """Of one GPU; None where the device is the user's own."""
    fits: bool | None
    """Whether the memory a rank needs is there."""
    basis: str


def on_card(
    card: Card, flops: int, gpus: int, share: Share, needed_gib: float, price: float | None
) -> Estimate:
    """A run of so many operations on one kind of card.

    Args:
        card: which.
        flops: operations of the whole run.
        gpus: how many of them work together; their hours add up, without loss.
        share: of the peak that is reached.
        needed_gib: memory of one rank.
        price: of an hour of one GPU.
    """
    facts = CARDS[card]
    ideal = flops / PEAK_FLOPS[facts.family] / 3600
    low, high = ideal / share.high, ideal / share.low
    return Estimate(
        device=card,
        gpus=gpus,
        hours_low=low / gpus,
        hours_high=high / gpus,
        gpu_hours_low=low,
        gpu_hours_high=high,
        cost_low=None if price is None else low * price,
        cost_high=None if price is None else high * price,
        memory_gib=facts.memory_gib,
        fits=needed_gib <= facts.memory_gib,
        basis=share.basis,
    )


def at_rate(tokens: int, tokens_per_s: float, gpus: int, price: float | None) -> Estimate:
    """A run at a speed that the user measured, all ranks together."""
    hours = tokens / tokens_per_s / 3600
    cost = None if price is None else hours * gpus * price
    basis = f"{tokens_per_s:,.0f} tokens/s, as given"
    spent = (hours, hours, hours * gpus, hours * gpus)
    return Estimate("this machine", gpus, *spent, cost, cost, None, None, basis)


def parse_prices(texts: list[str]) -> dict[str, float]:
    """Read ["H100=2.5", ...].

    Raises:
        TrainError: not a card we know, or not a number.
    """
    prices = {}
    for text in texts:
        card, _, number = text.partition("=")
        try:
            prices[card] = float(number)
        except ValueError:
            prices[card] = -1.0
        if card not in (*get_args(Card), OWN) or not 0 <= prices[card] < math.inf:
            cards = ", ".join((*get_args(Card), OWN))
            raise TrainError(
                f"--price {text}: write CARD=PRICE, the price of one GPU's hour, such as "
                f"H100=2.50; cards are {cards}"
            )
    return prices


OWN = "this"
"""Stands for the user's own machine where prices are given."""
