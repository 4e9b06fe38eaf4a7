"""Write the report files of an audit, each whole or not at all; audit.json last."""

from pathlib import Path

from contamination.audit import Audit
from contamination.page import page
from contamination.report import markdown, matches, summary
from shards.atomic import atomic_write, write_json_atomic, write_text_atomic


def write_reports(audit: Audit, folder: Path, title: str, elapsed_s: float) -> list[Path]:
    """Writes the files and returns their paths.

    Args:
        audit: the result.
        folder: where to; made if need be.
        title: what was audited, for the page.
        elapsed_s: clock time of the audit, for audit_log.json, which is not reproducible.
    """
    facts = summary(audit)
    frame = matches(audit.findings)
    with atomic_write(folder / "matches.parquet") as file:
        frame.write_parquet(file, compression="zstd")
    write_text_atomic(folder / "audit.md", markdown(facts))
    write_text_atomic(folder / "audit.html", page(facts, audit.findings, title))
    rate = audit.scanned_bytes / max(audit.scan_s, 1e-9) / 1e6
    log = {
        "elapsed_s": elapsed_s,
        "scan_s": audit.scan_s,
        "scanned_text_bytes": audit.scanned_bytes,
        "scan_mb_per_s": rate if audit.scanned_bytes else None,
    }
    write_json_atomic(folder / "audit_log.json", log)
    write_json_atomic(folder / "audit.json", facts)
    names = ("audit.json", "matches.parquet", "audit.md", "audit.html")
    return [folder / name for name in names]
