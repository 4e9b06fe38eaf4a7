"""When a shared piece of text is called contamination: the thresholds of the audit.

Bits measure how surprising the shared words are under the audited text's own word counts (a rare
word up to 18, "the" about 4). Coverage is the share of the item's bits that a document holds.
"""

from pydantic import Field

from configs.base import Section
from configs.choices import Sensitivity


class AuditRules(Section):
    """Thresholds of one sensitivity."""

    min_bits: float = Field(default=50, gt=0)
    """Covered bits of question and answer below which nothing is called."""
    short_coverage: float = Field(default=0.9, gt=0, le=1)
    """Coverage that an item of few bits must reach."""
    long_coverage: float = Field(default=0.4, gt=0, le=1)
    """Coverage that is enough for an item of `long_bits` or more; between, it falls linearly."""
    short_bits: float = 70
    """Bits of an item from which on the needed coverage starts to fall (from 1)."""
    long_bits: float = 200
    """Bits of an item from which on `long_coverage` is enough."""
    run_bits: float = 110
    """Covered bits with which an unbroken run of `run_words` is called whatever the coverage."""
    run_words: int = Field(default=10, ge=5)
    """Words of that run."""


SENSITIVITIES: dict[Sensitivity, AuditRules] = {
    "strict": AuditRules(min_bits=60, short_coverage=1.0, long_coverage=0.5),
    "default": AuditRules(),
    "sensitive": AuditRules(min_bits=45, short_coverage=0.8, long_coverage=0.35),
}
"""Named sets of thresholds: fewer false findings, balanced, fewer misses."""
