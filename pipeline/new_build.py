"""Values of a new build configuration, from what a user says of sources and tokenizer."""

import fnmatch
import gzip
import itertools
import json
import re
from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import Any, get_args

from configs.presets import PRESETS
from configs.text_sources import Profile
from pipeline.errors import BuildError

_KINDS = {
    "jsonl": (".jsonl", ".json", ".jsonl.gz", ".json.gz", ".jsonl.zst", ".json.zst", ".jsonl.bz2"),
    "parquet": (".parquet",),
    "text": (".txt", ".md", ".txt.gz", ".txt.zst"),
    "warc": (".warc", ".warc.gz", ".wet", ".wet.gz"),
}
_TEXT_NAMES = ("text", "content", "body", "markdown", "raw_content")
_NAMED = re.compile(r"^([a-z0-9][a-z0-9_.-]*)=(.+)$")


def sources(texts: Sequence[str], licence: str, profile: str, text: str | None) -> dict[str, Any]:
    """Sources by name.

    Args:
        texts: `[NAME=]PRESET`, `[NAME=]FILES` (path, pattern, folder or s3 address), or
            `[NAME=]hub:OWNER/NAME[/PATTERN]`.
        licence: of those that are no presets.
        profile: filter profile of those.
        text: column of the text; None looks into the first file.

    Raises:
        BuildError: what cannot be read, and what can.
    """
    if profile not in get_args(Profile):
        raise BuildError(f"--profile {profile}: there are {', '.join(get_args(Profile))}")
    facts = {"licence": licence, "profile": profile}
    found: dict[str, Any] = {}
    for given in texts:
        named = _NAMED.match(given)
        name, what = (named[1], named[2]) if named else ("", given)
        name = name or _name_of(what)
        if name in found:
            raise BuildError(f"--source {given}: a second '{name}'; write NAME={what}")
        found[name] = _source(what, facts, text)
    return found


def _source(what: str, facts: dict[str, str], text: str | None) -> dict[str, Any]:
    if (PRESETS / f"{what}.yaml").is_file():
        return {"preset": what}
    if what.startswith("hub:"):
        return _of_hub(what, facts, text)
    paths, kind = _files(what)
    source: dict[str, Any] = {"kind": kind, **facts, "paths": paths}
    if kind in ("jsonl", "parquet"):
        source["text"] = text or _text_column(paths[0], kind)
    return source


def _of_hub(what: str, facts: dict[str, str], text: str | None) -> dict[str, Any]:
    owner, _, rest = what.removeprefix("hub:").partition("/")
    name, _, pattern = rest.partition("/")
    if not name:
        raise BuildError(f"--source {what}: write hub:OWNER/NAME, or hub:OWNER/NAME/PATTERN")
    pattern = pattern or "*.parquet"
    form = "parquet" if pattern.endswith(".parquet") else "jsonl"
    where = {"repo": f"{owner}/{name}", "files": [pattern], "format": form}
    return {"kind": "hub", **facts, **where, "text": text or "text"}


def _files(what: str) -> tuple[list[str], str]:
    """Paths or patterns of a source's files, and what they are."""
    if Path(what).is_dir():
        kinds = {kind for path in Path(what).iterdir() if (kind := _kind(path.name))}
        if len(kinds) != 1:
            held = " and ".join(sorted(kinds)) or "none of " + ", ".join(_KINDS)
            raise BuildError(f"--source {what}: the folder holds {held}; name files by a pattern")
        (kind,) = kinds
        names = {path.name for path in Path(what).iterdir() if _kind(path.name)}
        return [
            f"{what.rstrip('/')}/*{s}" for s in _KINDS[kind] if fnmatch.filter(names, f"*{s}")
        ], kind
    found = _kind(what)
    if found is None:
        presets = ", ".join(sorted(path.stem for path in PRESETS.glob("*.yaml")))
        raise BuildError(
            f"--source {what}: neither a folder, nor files of {', '.join(_KINDS)}, nor "
            f"hub:OWNER/NAME, nor one of the presets {presets}"
        )
    if "://" not in what and not glob(what, recursive=True):
        raise BuildError(f"--source {what}: no such file; give a path, a 'pattern', or a folder")
    return [what], found


def _kind(name: str) -> str | None:
    fitting = [kind for kind, ends in _KINDS.items() if name.lower().endswith(ends)]
    return fitting[0] if fitting else None


def _text_column(path: str, kind: str) -> str:
    """The column that holds the text, by its name, in the first file."""
    files = sorted(glob(path, recursive=True))
    columns = _columns(Path(files[0]), kind) if files else None
    if columns is None:  # remote, or compressed in a way that a build alone reads
        return "text"
    for name in _TEXT_NAMES:
        if name in columns:
            return name
    if not columns:
        raise BuildError(f"{files[0]}: no rows in it; give a file with text")
    raise BuildError(
        f"{files[0]}: which column is the text? Name it with --text: {', '.join(columns)}"
    )


def _columns(path: Path, kind: str) -> list[str] | None:
    if kind == "parquet":
        import pyarrow.parquet

        return list(pyarrow.parquet.read_schema(path).names)
    if path.suffix in (".zst", ".bz2"):
        return None
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        lines = [line for line in itertools.islice(file, 1) if line.strip()]
    try:
        row = json.loads(lines[0]) if lines else {}
    except ValueError as error:
        raise BuildError(f"{path}: its first line is no JSON: {error}") from None
    return list(row) if isinstance(row, dict) else None


def _name_of(what: str) -> str:
    """A source's name, from where its text comes."""
    base = what.removeprefix("hub:").rstrip("/")
    parts = [part for part in base.split("/") if "*" not in part]
    last = (parts[1] if what.startswith("hub:") and len(parts) > 1 else parts[-1]) if parts else ""
    stem = last.split(".")[0] if _kind(last) else last
    return re.sub(r"[^a-z0-9_.-]+", "_", stem.lower()).strip("_.-") or "text"


def tokenizer(given: str) -> dict[str, Any]:
    """The tokenizer: a number of entries to train, a tokenizer.json, or a repository.

    Raises:
        BuildError: none of the three.
    """
    if given.replace("_", "").isdigit():
        return {"vocab_size": int(given)}
    if given.endswith(".json"):
        if not Path(given).is_file():
            raise BuildError(f"--tokenizer {given}: no such file; give a tokenizer.json or a size")
        return {"file": given}
    if not re.fullmatch(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?", given):
        raise BuildError(
            f"--tokenizer {given}: give the entries of one to be trained (32768), a "
            "tokenizer.json, or OWNER/NAME on the hub"
        )
    return {"repo": given}
