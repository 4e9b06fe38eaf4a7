"""Which files of another format make which split of which source, from their names alone."""

import re
from pathlib import Path
from typing import NamedTuple

from shards.errors import DatasetError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_SPLITS = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


class Group(NamedTuple):
    """The token files of one split of one source, in stream order."""

    source: str
    split: str
    paths: list[Path]


def find_groups(root: Path, suffix: str, source: str | None, split: str | None) -> list[Group]:
    """Group the token files under `root`, or `root` itself if it is a file.

    The source is the first folder below `root`, or `root`'s own name for files right in it; the
    split is a word of the rest of the path: train, val, valid, validation, test.

    Args:
        root: a directory, or one token file, whatever it ends in.
        suffix: what token files end in.
        source: overrides the source of all files.
        split: the split of files whose names say none, so that no val ends in train.

    Raises:
        DatasetError: no such files, or a name that cannot be a folder's.
    """
    for what, name in (("source", source), ("split", split)):
        if name is not None and not _NAME.fullmatch(name):
            raise DatasetError(
                f"'{name}': not a name for a {what}; letters, digits, '_', '.' and '-'"
            )
    found: dict[tuple[str, str], list[Path]] = {}
    for path in _token_files(root, suffix):
        own_source, own_split = _place(root, path)
        names = source or own_source, own_split or split or "train"
        found.setdefault(names, []).append(path)
    return [Group(*names, paths) for names, paths in sorted(found.items())]


def _token_files(root: Path, suffix: str) -> list[Path]:
    """All token files in natural order: part-2 before part-10."""
    if root.is_file():
        return [root]
    if not root.is_dir():
        raise DatasetError(f"{root}: no such file or directory; give a file of tokens, or a folder")
    inside = (path.relative_to(root) for path in root.rglob(f"*{suffix}"))
    shown = (path for path in inside if not any(part.startswith(".") for part in path.parts))
    files = [root / path for path in sorted(shown, key=_natural) if (root / path).is_file()]
    if not files:
        raise DatasetError(f"{root}: no files that end in {suffix}; is this the right format?")
    return files


def _natural(path: Path) -> list[tuple[int, str]]:
    pieces = re.findall(r"[0-9]+|[^0-9]+", path.as_posix())
    return [(int(piece), "") if piece[0] in "0123456789" else (-1, piece) for piece in pieces]


def _place(root: Path, path: Path) -> tuple[str, str | None]:
    if root.is_file():
        return _as_name(root.resolve().parent.name), _split_in(path.stem)
    first, *rest = path.relative_to(root).parts
    if rest and first not in _SPLITS:
        return _as_name(first), _split_in("/".join(rest))
    return _as_name(root.resolve().name), _split_in("/".join([first, *rest]))


def _split_in(text: str) -> str | None:
    """The first word that names a split."""
    words = re.split(r"[^a-z]+", text.lower())
    return next((_SPLITS[word] for word in words if word in _SPLITS), None)


def _as_name(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).lstrip("_.-")[:100] or "data"
