"""Which page explains an error: by its message where troubleshooting.md has it, else by its origin.

docs/troubleshooting.md holds messages as blocks of ```text error below a heading each, with `…` for
what differs. What it does not have is explained by the page of the module that raised it.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from configs.shipped import CONFIGS, located_page

_TROUBLES = "docs/troubleshooting.md"
_BLOCK = re.compile(r"^#{2,4} (?P<title>[^\n]+)|^```text error\n(?P<message>.*?)^```", re.M | re.S)
_LEAST_WORDS = 12
"""Letters that a message must have beside its gaps, so that it does not fit everything."""
_PAGES = (
    ("configs/", _TROUBLES),
    ("pipeline/dedup", "docs/dedup.md"),
    ("pipeline/filter", "docs/filters.md"),
    ("pipeline/ray", "docs/executors.md"),
    ("pipeline/slurm", "docs/executors.md"),
    ("pipeline/executor", "docs/executors.md"),
    ("pipeline/decontamination", "docs/audit.md"),
    ("pipeline/", "docs/howto/own-data.md"),
    ("shards/convert", "docs/interchange.md"),
    ("shards/formats", "docs/interchange.md"),
    ("shards/ledger", "docs/accounting.md"),
    ("shards/plan", "docs/accounting.md"),
    ("shards/account", "docs/accounting.md"),
    ("shards/tracing", "docs/accounting.md"),
    ("shards/", "shards/README.md"),
    ("contamination/", "docs/audit.md"),
    ("train/card", "docs/card.md"),
    ("train/export", "docs/export.md"),
    ("train/hf_", "docs/export.md"),
    ("train/eval", "docs/evaluation.md"),
    ("train/task", "docs/evaluation.md"),
    ("train/candidates", "docs/evaluation.md"),
    ("train/benchmark", "docs/evaluation.md"),
    ("train/resume", "docs/howto/resume.md"),
    ("train/checkpoint", "docs/howto/resume.md"),
    ("train/plan", "docs/accounting.md"),
    ("train/launch", "docs/multinode.md"),
    ("train/slurm", "docs/multinode.md"),
    ("train/", "train/README.md"),
)
"""Beginning of a module's path, and its page; the first that fits."""


class _Trouble(NamedTuple):
    anchor: str
    message: re.Pattern[str]


def page_of(error: BaseException) -> str | None:
    """The page that explains an error, as a path that can be opened; None where there is none."""
    trouble = _by_message(str(error))
    if trouble is not None:
        return f"{_shown(_TROUBLES)}#{trouble.anchor}"
    module = _origin(error.__traceback__)
    fitting = [page for start, page in _PAGES if module.startswith(start)]
    return _shown(fitting[0]) if fitting and located_page(fitting[0]).is_file() else None


def troubles() -> Iterator[_Trouble]:
    """The messages that troubleshooting.md explains."""
    path, anchor = located_page(_TROUBLES), ""
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    for block in _BLOCK.finditer(text):
        if block["title"]:
            anchor = re.sub(r"[^\w\- ]", "", block["title"].lower()).replace(" ", "-")
            continue
        for message in block["message"].strip().split("\n\n"):
            parts = [re.escape(" ".join(part.split())) for part in message.split("…")]
            if sum(map(len, parts)) >= _LEAST_WORDS:
                yield _Trouble(anchor, re.compile(".*?".join(parts)))


def _by_message(message: str) -> _Trouble | None:
    flat = " ".join(message.split())
    fitting = [trouble for trouble in troubles() if trouble.message.search(flat)]
    return max(fitting, key=lambda trouble: len(trouble.message.pattern), default=None)


def _origin(trace: TracebackType | None) -> str:
    """The module of ours that raised an error, as `folder/file.py`."""
    found, root = "", CONFIGS.parent
    while trace is not None:
        path = Path(trace.tb_frame.f_code.co_filename)
        if path.is_relative_to(root) and len(path.relative_to(root).parts) == 2:
            found = path.relative_to(root).as_posix()
        trace = trace.tb_next
    return found


def _shown(page: str) -> str:
    path = located_page(page)
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
