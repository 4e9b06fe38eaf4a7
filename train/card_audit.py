"""The card's section about contamination, read from AUDIT_DIR/audit.json."""

from typing import Any

from train.card_content import Section
from train.facts import Evidence


def audited_dataset(audit: dict[str, Any]) -> str | None:
    return None


def audit_section(evidence: Evidence) -> Section | None:
    return None
