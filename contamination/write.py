"""Write the report files of an audit, each whole or not at all; audit.json last."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from contamination.audit import Audit
from contamination.markdown import markdown
from contamination.page import page
from contamination.report import matches, summary
from contamination.samples import TaskSamples
from shards.atomic import atomic_write, write_json_atomic, write_text_atomic


class Written(NamedTuple):
    """What was written: the content of audit.json, and the paths, audit.html last."""

    facts: dict[str, Any]
    paths: list[Path]


def write_reports(
    audit: Audit,
    folder: Path,
    title: str,
    elapsed_s: float,
    samples: Sequence[TaskSamples] = (),
    hashes_only: bool = False,
) -> Written:
    """Writes the files.

    Args:
        audit: the result.
        folder: where to; made if need be.
        title: what was audited, for the page.
        elapsed_s: clock time of the audit, for audit_log.json, which is not reproducible.
        samples: of benchmark scores that are to be split.
        hashes_only: leave out every extract of documents and items.
    """
    facts = summary(audit, samples)
    frame = matches(audit.findings)
    with atomic_write(folder / "matches.parquet") as file:
        frame.write_parquet(file, compression="zstd")
    write_text_atomic(folder / "audit.md", markdown(facts))
    write_text_atomic(folder / "audit.html", page(facts, audit.findings, title, hashes_only))
    rate = audit.scanned.text_bytes / max(audit.scan_s, 1e-9) / 1e6
    log = {
        "elapsed_s": elapsed_s,
        "scan_s": audit.scan_s,
        "scanned_text_bytes": audit.scanned.text_bytes,
        "scanned_pieces": audit.scanned.pieces,
        "reused_pieces": audit.scanned.pieces_reused,
        "reused_results": audit.scanned.results_reused,
        "scan_mb_per_s": rate if audit.scanned.text_bytes else None,
    }
    write_json_atomic(folder / "audit_log.json", log)
    write_json_atomic(folder / "audit.json", facts)
    names = ("audit.json", "matches.parquet", "audit.md", "audit.html")
    return Written(facts, [folder / name for name in names])
