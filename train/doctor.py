"""`tally doctor`: is this machine fit for it? What each finding means, and the way out.

Every check stands alone: one that fails says so, and the others go on. Values of secrets are taken
out of all texts before they are printed.
"""

import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from rich.markup import escape

from configs.terminal import console, counted
from train import doctor_machine, doctor_network, doctor_packages
from train.doctor_finding import Finding, Level

_COLOURS: dict[Level, str] = {"ok": "green", "warning": "yellow", "problem": "red"}
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|KEY", re.IGNORECASE)
_IN_ADDRESS = re.compile(r"(?<=//)[^/@\s]+(?=@)")
_LEAST_SECRET = 6
"""Characters; a shorter value would take harmless words out of the texts."""

Check = Callable[[], list[Finding]]


def examine(output: Path, cache: Path) -> list[Finding]:
    """Run all checks at once; findings in a fixed order.

    Args:
        output: folder that datasets and runs are to be written to.
        cache: TALLY_CACHE.
    """
    checks: list[Check] = [
        *doctor_packages.CHECKS,
        *doctor_machine.CHECKS,
        lambda: doctor_machine.disk("disk of the output", output),
        lambda: doctor_machine.disk("disk of TALLY_CACHE", cache),
        *doctor_network.CHECKS,
    ]
    with ThreadPoolExecutor(len(checks)) as pool:
        found = list(pool.map(_run, checks))
    return [_without_secrets(finding) for findings in found for finding in findings]


def _run(check: Check) -> list[Finding]:
    try:
        return check()
    except Exception as error:  # a broken machine breaks checks in ways that nobody foresees
        name = getattr(check, "__name__", "a check").strip("_<>")
        said = f"could not be checked: {type(error).__name__}: {error}"
        return [Finding(name, "warning", said, "look at this by hand")]


def _without_secrets(finding: Finding) -> Finding:
    secrets = [value for name, value in os.environ.items() if _SECRET.search(name)]
    texts = [finding.said, finding.way_out]
    for secret in secrets:
        if len(secret) >= _LEAST_SECRET:
            texts = [text.replace(secret, "***") for text in texts]
    said, way_out = (_IN_ADDRESS.sub("***", text) for text in texts)
    return finding._replace(said=said, way_out=way_out)


def as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """All findings, and how many there are of each level."""
    counts: dict[str, Any] = {level: sum(f.level == level for f in findings) for level in _COLOURS}
    return counts | {"findings": [finding._asdict() for finding in findings]}


def print_findings(findings: Sequence[Finding]) -> None:
    """One line a finding, and its way out below."""
    width = max(len(finding.topic) for finding in findings)
    for finding in findings:
        level = f"[{_COLOURS[finding.level]}]{finding.level:7}[/]"
        said = escape(finding.said)
        console.print(f"{level}  {finding.topic:{width}}  {said}", soft_wrap=True)
        if finding.way_out:
            console.print(f"{'':{width + 11}}→ {escape(finding.way_out)}", soft_wrap=True)
    counts = as_json(findings)
    console.print(
        f"{counted(counts['problem'], 'problem')}, {counted(counts['warning'], 'warning')}"
    )
