"""Docstrings of installed packages as documents, found by parsing files, never importing them.

One document is one docstring of a module, class or function, dedented as `inspect.cleandoc` does
and otherwise untouched; nothing is added. So a text stands in its file exactly once, short or
long, and the filters decide what is worth training on. Packages copy docstrings between their own
functions and from each other, which gives the deduplication stage natural near-duplicates.
"""

import ast
import gc
import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, NamedTuple

from blake3 import blake3
from datatrove.data import DocumentsPipeline
from datatrove.pipeline.base import PipelineStep

from pipeline.documents import document
from pipeline.errors import BuildError
from pipeline.task_report import tracked
from shards.atomic import write_json_atomic

_TASK_BYTES = 8_000_000  # of Python source; decides how many tasks there are, whatever the workers
_HOLDERS = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_FORKS = (ast.If, ast.For, ast.While, ast.Try, ast.TryStar)
_COMPOUND = frozenset({*_HOLDERS, *_FORKS, ast.With})  # statements that can hold definitions


class PackageFiles(NamedTuple):
    """Some files of one package, in reading order."""

    package: str  # "scipy==1.17.1"
    root: str  # folder that the paths are relative to
    paths: tuple[str, ...]


def find_package(name: str, skip_folders: frozenset[str]) -> tuple[PackageFiles, dict[str, object]]:
    """The Python files of an installed package and its pin: version, counts, digest of the bytes.

    Raises:
        BuildError: the package is not installed, or its file list is missing.
    """
    try:
        found = distribution(name)
    except PackageNotFoundError:
        raise BuildError(
            f"package '{name}' is not installed here, so its docstrings cannot be read; "
            f"`pip install {name}` or take it out of `packages`"
        ) from None
    paths = _python_files(found, skip_folders)
    if not paths:
        raise BuildError(f"package '{name}': no Python files are listed in its metadata")
    root = str(found.locate_file(""))
    hasher, size = blake3(), 0
    for path in paths:
        content = _read(Path(root, path), name)
        hasher.update(f"{path}\0{len(content)}\0".encode())
        hasher.update(content)
        size += len(content)
    pin: dict[str, object] = {"version": found.version, "files": len(paths), "bytes": size}
    files = PackageFiles(f"{found.name}=={found.version}", root, tuple(paths))
    return files, pin | {"blake3": hasher.hexdigest()}


def _python_files(found: Distribution, skip_folders: frozenset[str]) -> list[str]:
    paths = [path for path in found.files or () if path.suffix == ".py" and ".." not in path.parts]
    return sorted(str(path) for path in paths if not skip_folders & set(path.parts[:-1]))


def _read(path: Path, package: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise BuildError(
            f"{path} belongs to package '{package}' but is not there; reinstall the package"
        ) from None


def into_tasks(packages: list[PackageFiles]) -> list[list[PackageFiles]]:
    """Cut packages, in order, into pieces of about the same size."""
    tasks: list[list[PackageFiles]] = [[]]
    room = _TASK_BYTES
    for package in packages:
        start = 0
        for position, path in enumerate(package.paths, start=1):
            room -= Path(package.root, path).stat().st_size
            if room < 0 or position == len(package.paths):
                piece = package._replace(paths=package.paths[start:position])
                tasks[-1].append(piece)
                start = position
            if room < 0:
                tasks.append([])
                room = _TASK_BYTES
    return [task for task in tasks if task]


class ReadDocstrings(PipelineStep):
    """Yields the docstrings of the files of a task; notes the files it cannot read."""

    type = "📖 - READER"
    name = "docstrings"

    def __init__(self, tasks: list[list[PackageFiles]], notes: Path) -> None:
        super().__init__()
        self.tasks, self.notes = tasks, notes

    def run(
        self, data: DocumentsPipeline = None, rank: int = 0, world_size: int = 1
    ) -> DocumentsPipeline:
        """Yield the documents of task `rank`."""
        unreadable: dict[str, list[str]] = {}
        with _no_garbage_collection():
            total = sum(len(files.paths) for files in self.tasks[rank])
            pairs = ((files, path) for files in self.tasks[rank] for path in files.paths)
            for files, path in tracked(pairs, total):
                origin = f"{files.package}/{path}"
                tree = _parse(Path(files.root, path), origin, unreadable)
                if tree is not None:
                    yield from _documents(tree, origin)
        write_json_atomic(self.notes / f"{rank:05d}.json", unreadable)


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Syntax trees hold no cycles; looking for some takes half of the parsing time."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _parse(path: Path, origin: str, unreadable: dict[str, list[str]]) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of invalid escapes in other people's code
            return ast.parse(path.read_bytes())
    except (SyntaxError, ValueError, RecursionError, OSError) as error:
        unreadable.setdefault(type(error).__name__, []).append(origin)
        return None


def _documents(tree: ast.Module, origin: str) -> DocumentsPipeline:
    seen: set[str] = set()
    for name, node in _named(tree):
        text = ast.get_docstring(node)
        if not text:
            continue
        line = node.body[0].lineno
        # Overloads and property setters share a name; the line tells the later ones apart.
        doc_id = f"{origin}::{name}" if name not in seen else f"{origin}::{name}@{line}"
        seen.add(name)
        sound = text.encode("utf-8", "replace").decode("utf-8")  # "\ud800" is legal in a literal
        reason = None if sound == text else "invalid_unicode"
        yield document(doc_id, sound, origin, line - 1, reason=reason)


def _named(
    tree: ast.Module,
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Modules, classes and functions with their qualified names, in the order of the file."""
    yield "<module>", tree
    pending: list[tuple[str, ast.AST]] = [("", tree)]
    while pending:
        prefix, node = pending.pop()
        if isinstance(node, _HOLDERS):
            prefix += node.name
            yield prefix, node
            prefix += "."
        inner = [s for block in _blocks(node) for s in block if type(s) in _COMPOUND]
        pending += [(prefix, statement) for statement in reversed(inner)]


def _blocks(node: Any) -> list[list[ast.stmt]]:
    """The statement lists of a module or compound statement."""
    blocks = [node.body]
    blocks += [handler.body for handler in getattr(node, "handlers", ())]
    blocks += [getattr(node, name) for name in ("orelse", "finalbody") if hasattr(node, name)]
    return blocks


def count_unreadable(notes: Path) -> dict[str, int]:
    """How many files could not be parsed, by the parser's reason."""
    counts: dict[str, int] = {}
    for path in sorted(notes.glob("*.json")):
        for reason, files in json.loads(path.read_text(encoding="utf-8")).items():
            counts[reason] = counts.get(reason, 0) + len(files)
    return dict(sorted(counts.items()))
