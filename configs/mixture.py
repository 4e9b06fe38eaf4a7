"""What a run reads: sources, phases, weights. `shards.plan` turns it into steps.

Amounts carry their unit: `300 steps`, `2.5B tokens`, `1.5 epochs`. A bare number is refused
wherever a unit is needed.
"""

import re
from fractions import Fraction
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from configs.base import Section

Unit = Literal["steps", "tokens", "epochs"]
_SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "B": 10**9, "T": 10**12}
_AMOUNT = re.compile(r"^([0-9][0-9_]*(?:\.[0-9]+)?(?:e[0-9]+)?)\s*([kMBT]?)\s+([a-z]+)$")


class Amount(Section):
    """A quantity with its unit, exact."""

    value: Fraction
    unit: Unit

    def __str__(self) -> str:
        number = self.value.numerator if self.value.denominator == 1 else float(self.value)
        return f"{number} {self.unit}"


def parse_amount(text: Any) -> Any:
    """Read '2.5B tokens' as an Amount; other types pass through to pydantic."""
    if isinstance(text, Amount) or not isinstance(text, str | int | float):
        return text
    match = _AMOUNT.match(str(text).strip())
    if not match:
        raise ValueError("write a number and a unit: '300 steps', '2.5B tokens' or '1.5 epochs'")
    number, suffix, unit = match.groups()
    unit = unit if unit.endswith("s") else unit + "s"
    value = Fraction(number.replace("_", "")) * _SUFFIXES[suffix]
    for known in get_args(Unit):
        if unit == known:
            return Amount(value=value, unit=known)
    raise ValueError(f"unknown unit '{unit}'; units are steps, tokens, epochs")


Quantity = Annotated[
    Amount,
    BeforeValidator(parse_amount),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "pattern": _AMOUNT.pattern, "examples": ["2.5B tokens"]}),
]


class SourceRef(Section):
    """One stream of tokens: a split of a source of a dataset."""

    dataset: str
    """Directory of the dataset, or its address in remote storage (`s3://bucket/name`)."""
    source: str | None = None
    """Name of the source in the dataset; by default the name it has here."""
    split: str = "train"
    """Which split of it."""
    declared_tokens: Annotated[int, Field(gt=1)] | None = None
    """Tokens the stream will have: `tally plan` reckons with them until the dataset is built."""


class Phase(Section):
    """Consecutive steps that share mixture, batch size and window length.

    Either `weights` and `length`, or `read`.
    """

    name: str = "pretrain"
    """By which `changes` and reports call it."""
    global_batch_tokens: Annotated[int, Field(gt=0)]
    """Targets per optimizer step over all ranks; a multiple of seq_len."""
    seq_len: Annotated[int, Field(gt=0)] | None = None
    """Targets per window in this phase; by default data.seq_len. Shuffled sources have a counter
    for each length, which runs on over the phases of that length; in the other orders reading goes
    on where the phase before stopped."""
    restart: bool = False
    """Read all sources from their beginning again, in the order of their first epoch. What is read
    again counts as trained, not as unique."""
    length: Quantity | None = None
    """How long, in steps or tokens."""
    weights: dict[str, Annotated[float, Field(ge=0)]] | None = None
    """Share of each source in the windows read, in proportion to their sum."""
    read: dict[str, Quantity] | None = None
    """How much of each source to read, in tokens or epochs; the length follows from it."""

    @field_validator("length")
    @classmethod
    def _length_unit(cls, length: Amount | None) -> Amount | None:
        if length is not None and length.unit == "epochs":
            raise ValueError("a phase's length is in steps or tokens; for epochs use `read`")
        return length

    @field_validator("read")
    @classmethod
    def _read_unit(cls, read: dict[str, Amount] | None) -> dict[str, Amount] | None:
        for source, amount in (read or {}).items():
            if amount.unit == "steps":
                raise ValueError(f"{source}: give what is read in tokens or epochs, not steps")
        return read

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        weighted = self.weights is not None and self.length is not None
        if weighted == (self.read is not None) or (self.weights is None) != (self.length is None):
            raise ValueError(f"phase '{self.name}': give `weights` with `length`, or `read` alone")
        if not sum((self.weights or {"": 1.0}).values()):
            raise ValueError(f"phase '{self.name}': all weights are zero")
        return self


class MixtureConfig(Section):
    """The data of a run."""

    sources: Annotated[dict[str, SourceRef], Field(min_length=1)]
    phases: Annotated[tuple[Phase, ...], Field(min_length=1)]
    seq_len: Annotated[int, Field(gt=0)]
    """Targets per window, in phases that name no other length."""
    order: Literal["shuffled", "sequential", "rows"] = "shuffled"
    """Order of a source's windows within each epoch: a keyed permutation; as stored; or as stored
    in disjoint rows of seq_len + 1 tokens that go on over the end of the stream."""
    document_mask: bool = False
    """Whether documents in a window are trained on apart: attention does not cross EOS, and the
    first token of a document, which nothing foretells, does not count in the loss."""
    seed: Annotated[int, Field(ge=0)] = 0
    """Key of the data order."""
    max_epochs: Annotated[float, Field(gt=0)] | None = None
    """Most passes over any source."""
    over_max_epochs: Literal["refuse", "warn", "clip"] = "refuse"
    """What to do with a plan that reads a source more often: refuse it, let `tally plan` warn, or
    end the run at the last step before."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for phase in self.phases:
            unknown = set(phase.weights or phase.read or {}) - set(self.sources)
            if unknown:
                raise ValueError(f"phase '{phase.name}': no such source: {', '.join(unknown)}")
            seq_len = phase.seq_len or self.seq_len
            if phase.global_batch_tokens % seq_len:
                raise ValueError(
                    f"phase '{phase.name}': global_batch_tokens {phase.global_batch_tokens} "
                    f"is not a multiple of seq_len {seq_len}"
                )
        if self.phases[0].restart:
            raise ValueError(
                f"phase '{self.phases[0].name}': restart: true in the first phase, before which "
                "nothing was read; leave it out"
            )
        return self
