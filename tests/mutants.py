"""Mutation testing of the accounting: `python -m tests.mutants shards/plan.py --limit 60`.

Every mutant is a module with one operator, constant, comparison or condition changed. A process
that has loaded the libraries, but nothing of ours, forks for every mutant; the child loads the
changed module instead of the file and runs the module's fast tests, the same cases of Hypothesis
every time, until one fails. A mutant that none notices survives and is printed. Which survive for
a reason is argued in docs/reliability.md.
"""

import argparse
import ast
import copy
import importlib.abc
import importlib.util
import os
import random
import resource
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import blake3  # noqa: F401  (loaded once, for all children)
import hypothesis
import hypothesis.extra.numpy
import hypothesis.strategies
import numpy as np  # noqa: F401
import pydantic  # noqa: F401
import pytest
import tokenizers  # noqa: F401
import yaml  # noqa: F401

ROOT = Path(__file__).parent.parent
_PLAN = ["test_shards_plan.py", "test_shards_plan_phases.py"]
TESTS = {
    "shards/permutation.py": ["test_shards_permutation.py", "test_shards_plan.py"],
    "shards/apportion.py": _PLAN,
    "shards/counters.py": _PLAN,
    "shards/layout.py": ["test_shards_layout.py", *_PLAN],
    "shards/coverage.py": ["test_shards_layout.py", "test_shards_plan_phases.py"],
    "shards/plan.py": [*_PLAN, "test_shards_hazards.py", "test_shards_ledger.py"],
    "shards/plan_spec.py": [*_PLAN, "test_shards_hazards.py", "test_shards_ledger.py"],
    "shards/plan_check.py": [
        "test_reliability_fuzz.py::test_a_strangers_plan_is_looked_at_before_it_is_used",
        "test_reliability_fuzz.py::test_a_plan_at_the_limits_is_taken",
        "test_reliability_fuzz.py::test_a_source_without_a_window_is_taken_where_it_has_no_weight",
    ],
    "shards/ledger.py": ["test_shards_ledger.py"],
    "shards/accountant.py": _PLAN,
    "shards/visits.py": _PLAN,
}
"""The tests of a module, those that find most first."""
_MOST_S, _ROOM_BYTES = 240, 4 << 30
_COMPARED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
_COMPUTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.FloorDiv, ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd, ast.BitXor: ast.BitOr,
}  # fmt: skip


class Mutant(NamedTuple):
    """A changed module."""

    line: int
    was: str
    now: str
    source: str


def places(source: str) -> list[tuple[int, int]]:
    """Nodes of a module that can be changed, by their number, and the way."""
    nodes = enumerate(ast.walk(ast.parse(source)))
    return [(k, way) for k, node in nodes for way in range(2) if _mutate(copy.copy(node), way)]


def mutant(source: str, number: int, way: int) -> Mutant:
    """The module with that node changed in that way."""
    tree = ast.parse(source)
    node = next(n for k, n in enumerate(ast.walk(tree)) if k == number)
    was = ast.unparse(node)
    _mutate(node, way)
    text = ast.unparse(ast.fix_missing_locations(tree))
    return Mutant(getattr(node, "lineno", 0), was, ast.unparse(node), text)


def _mutate(node: ast.AST, kind: int) -> bool:
    """Change a node in the given way; False where there is no such way."""
    if isinstance(node, ast.Compare) and kind == 0:
        node.ops = [_COMPARED[type(node.ops[0])](), *node.ops[1:]]
        return True
    if isinstance(node, ast.BinOp) and kind == 0 and type(node.op) in _COMPUTED:
        if isinstance(node.left, (ast.List, ast.JoinedStr)) or _is_annotation(node):
            return False
        node.op = _COMPUTED[type(node.op)]()
        return True
    if isinstance(node, ast.BoolOp) and kind == 0:
        node.op = ast.And() if isinstance(node.op, ast.Or) else ast.Or()
        return True
    if isinstance(node, ast.UnaryOp) and kind == 0 and isinstance(node.op, (ast.Not, ast.USub)):
        node.op = ast.UAdd() if isinstance(node.op, ast.USub) else ast.Invert()
        return isinstance(node.op, ast.UAdd)
    if isinstance(node, ast.Constant) and type(node.value) is int and kind < 2:
        node.value += (1, -1)[kind]
        return True
    if isinstance(node, ast.Constant) and type(node.value) is bool and kind == 0:
        node.value = not node.value
        return True
    if isinstance(node, ast.IfExp) and kind == 0:
        node.body, node.orelse = node.orelse, node.body
        return True
    if isinstance(node, ast.If) and kind == 0:
        node.test = ast.Constant(True)
        return True
    if isinstance(node, ast.If) and kind == 1:
        node.test = ast.Constant(False)
        return True
    return False


def _is_annotation(node: ast.BinOp) -> bool:
    """`int | None`."""
    return isinstance(node.op, ast.BitOr) and "None" in ast.unparse(node)


class _Instead(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads a mutant where its module is asked for."""

    def __init__(self, module: str, source: str) -> None:
        self._name = module.removesuffix(".py").replace("/", ".")
        self._file, self._source = str(ROOT / module), source

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != self._name:
            return None
        return importlib.util.spec_from_loader(name, self, origin=self._file)

    def exec_module(self, module: ModuleType) -> None:
        module.__file__ = self._file
        exec(compile(self._source, self._file, "exec"), module.__dict__)


def survives(module: str, source: str, most_s: int) -> tuple[bool, float]:
    """Whether the tests of a module pass with this source; the processor seconds they took.

    Args:
        module: its file.
        source: in its place.
        most_s: processor seconds; tests that take more have found something.
    """
    child = os.fork()
    if child == 0:
        try:
            os._exit(_run_tests(module, source, most_s))
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + _MOST_S
    while time.monotonic() < deadline:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return status == 0, used.ru_utime + used.ru_stime
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return False, _MOST_S


def _run_tests(module: str, source: str, most_s: int) -> int:
    """Exit status of pytest, in a child that may not run or grow for ever."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1), os.dup2(nowhere, 2)
    resource.setrlimit(resource.RLIMIT_CPU, (most_s, most_s))
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + _ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    sys.meta_path.insert(0, _Instead(module, source))
    phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)  # a failure is enough
    hypothesis.settings.register_profile(
        "mutants", phases=phases, derandomize=True, database=None, deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )  # fmt: skip
    files = [f"tests/{name}" for name in TESTS[module]]
    options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:faulthandler"]
    options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # loaded before pytest began
    chosen = ["-m", "not slow and not gpu", "--hypothesis-profile", "mutants"]
    return int(pytest.main([*options, *chosen, *files]))


def try_module(module: str, limit: int | None, part: tuple[int, int], deadline: float) -> None:
    """Try the mutants of a module, print those that survive, and how many were tried."""
    whole = (ROOT / module).read_text(encoding="utf-8")
    found = places(whole)
    chosen = random.Random(1).sample(found, min(limit or len(found), len(found)))
    number, parts = part
    tried = left = 0
    passed, seconds = survives(module, whole, 240)
    if not passed:
        sys.exit(f"{module}: its tests fail without any mutant")
    for node, way in sorted(chosen)[number - 1 :: parts]:
        if time.monotonic() > deadline:
            break
        tried += 1
        one = mutant(whole, node, way)
        if survives(module, one.source, int(2 * seconds) + 5)[0]:
            left += 1
            print(f"{module}:{one.line}: {one.was[:90]!r} -> {one.now[:90]!r}", flush=True)
    print(f"{module}: {tried} of {len(found)} mutants tried, {left} survived", flush=True)


def main() -> None:
    """Try the mutants of the modules that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--limit", type=int, help="so many of a module, drawn at random")
    parser.add_argument("--part", default="1/1", help="2/3: the second of three parts")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    given = parser.parse_args()
    number, parts = map(int, given.part.split("/"))
    deadline = time.monotonic() + given.seconds
    for module in given.modules:
        try_module(module, given.limit, (number, parts), deadline)


if __name__ == "__main__":
    main()
