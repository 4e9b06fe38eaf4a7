"""Mutation testing of the accounting: `python -m tests.mutants shards/plan.py --limit 60`.

Every mutant is the module with one operator, constant, comparison or condition changed. It lives in
a copy of the project, where the module's fast tests run; a mutant that none of them notices
survives and is printed. Which survive for a reason is argued in docs/reliability.md.
"""

import argparse
import ast
import copy
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
TESTS = {
    "shards/permutation.py": ["test_shards_permutation", "test_shards_plan"],
    "shards/apportion.py": ["test_shards_plan", "test_shards_plan_phases"],
    "shards/counters.py": ["test_shards_plan", "test_shards_plan_phases"],
    "shards/layout.py": ["test_shards_layout", "test_shards_plan", "test_shards_plan_phases"],
    "shards/coverage.py": ["test_shards_layout", "test_shards_plan_phases"],
    "shards/plan.py": ["test_shards_plan", "test_shards_plan_phases", "test_shards_hazards"],
    "shards/plan_check.py": ["test_reliability_fuzz"],
    "shards/ledger.py": ["test_shards_ledger"],
    "shards/accountant.py": ["test_shards_plan", "test_shards_plan_phases"],
    "shards/visits.py": ["test_shards_plan", "test_shards_plan_phases"],
}
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


def survives(copied: Path, module: str, mutant: Mutant, tests: list[str]) -> bool:
    """Whether the tests of a module pass with the mutant in its place."""
    (copied / module).write_text(mutant.source, encoding="utf-8")
    files = [f"tests/{name}.py" for name in tests]
    command = [sys.executable, "-B", "-m", "pytest", "-x", "-q", "-m", "not slow and not gpu"]
    environment = os.environ | {"PYTHONPATH": str(copied), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, "-p", "no:cacheprovider", *files], cwd=copied, env=environment,
            capture_output=True, check=False, timeout=300,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def main() -> None:
    """Try the mutants of the modules that are named."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="*", default=list(TESTS))
    parser.add_argument("--limit", type=int, help="so many of a module, drawn at random")
    parser.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    given, start = parser.parse_args(), time.monotonic()
    for module in given.modules:
        whole = (ROOT / module).read_text(encoding="utf-8")
        found = places(whole)
        chosen = found
        if given.limit and len(chosen) > given.limit:
            chosen = random.Random(1).sample(chosen, given.limit)
        with tempfile.TemporaryDirectory() as folder:
            copied = Path(folder) / "main"
            shutil.copytree(
                ROOT, copied, ignore=shutil.ignore_patterns(".*", "runs", "__pycache__")
            )
            tried = left = 0
            for number, way in chosen:
                if time.monotonic() - start > given.seconds:
                    break
                tried += 1
                one = mutant(whole, number, way)
                if survives(copied, module, one, TESTS[module]):
                    left += 1
                    print(f"{module}:{one.line}: {one.was[:90]!r} -> {one.now[:90]!r}", flush=True)
            print(f"{module}: {tried} of {len(found)} mutants tried, {left} survived", flush=True)


if __name__ == "__main__":
    main()
