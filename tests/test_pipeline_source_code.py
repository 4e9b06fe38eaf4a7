"""What the key of a stage covers: its own code and, by their imports, all of ours it can reach."""

import ast
import shutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.plan import Planner
from pipeline.source_code import FOLDERS, HARMLESS, ROOT, code_of, imported
from pipeline.sources import resolve
from pipeline.stages import Stage
from tests.helpers_dedup import run_stage
from tests.test_pipeline_build import config_of

FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).glob("*.py"))]

# Bring bytes, unpack them, check settings or compile: no choice of theirs shows in an output.
TRANSPORT = {"fsspec", "httpx2", "huggingface_hub", "llvmlite", "pydantic", "zstandard"}


def names_imported(path: Path) -> Iterator[str]:
    """All that a file imports, as Python's own parser sees it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.module is not None, f"{path}: a relative import"
            yield from (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))


def test_every_import_is_found() -> None:
    ours = {f"{file.parent.name}.{file.stem}" for file in FILES}
    missed = {path: set(names_imported(path)) & ours - imported(path.read_text()) for path in FILES}
    assert not {str(path): names for path, names in missed.items() if names}


def test_packages_hold_no_code_of_their_own() -> None:
    for folder in FOLDERS:
        body = ast.parse((ROOT / folder / "__init__.py").read_text()).body
        assert [type(node) for node in body] == [ast.Expr], folder


def test_an_import_inside_a_function_is_found() -> None:
    source = (
        "import numpy\n"
        "def f():\n"
        "    from pipeline import (\n        words,\n        shapes as s,\n    )\n"
        "    import shards.hashing\n"
        "    from contamination.words import RECIPE_HASH, Words\n"
    )
    assert imported(source) == {
        "contamination.words",
        "pipeline.shapes",
        "pipeline.words",
        "shards.hashing",
    }


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of our source files."""
    root = tmp_path_factory.mktemp("sources")
    for path in FILES:
        (root / path.parent.name).mkdir(exist_ok=True)
        shutil.copy(path, root / path.parent.name)
    return root


def changed(sources: Path, copy: Path, module: str) -> Path:
    """The sources with another line in one module."""
    shutil.copytree(sources, copy)
    with (copy / f"{module.replace('.', '/')}.py").open("a") as file:
        file.write("\nCHANGED = True\n")
    return copy


@pytest.mark.parametrize(
    ("stage", "module"),
    [
        ("pipeline.filters", "pipeline.characters"),  # through words and their shapes
        ("pipeline.tables", "pipeline.streams"),
        ("pipeline.dedup_held", "shards.detokenize"),
        ("pipeline.signatures", "contamination.word_bytes"),
        ("pipeline.packing", "shards.hash_table"),  # through shard_files and index
        ("pipeline.decontamination", "contamination.common_words"),
        ("pipeline.decontamination_removal", "configs.audit"),
    ],
)
def test_a_line_deep_below_a_stage_is_seen(
    sources: Path, tmp_path: Path, stage: str, module: str
) -> None:
    before = code_of([stage], sources)
    after = code_of([stage], changed(sources, tmp_path / "copy", module))
    assert {name for name in before if before[name] != after[name]} == {module}
    assert before.keys() == after.keys()


@pytest.mark.parametrize(
    "module", [*sorted(HARMLESS), "pipeline.report", "pipeline.cli", "pipeline.build"]
)
def test_what_cannot_change_bytes_does_not_cost_a_build(
    sources: Path, tmp_path: Path, module: str
) -> None:
    stages = ["pipeline.filters", "pipeline.tables", "pipeline.packing", "pipeline.dedup"]
    other = changed(sources, tmp_path / "copy", module)
    assert code_of(stages, other) == code_of(stages, sources)


@pytest.fixture(scope="module")
def planner(tmp_path_factory: pytest.TempPathFactory) -> Planner:
    """Of a build that cuts repeated passages."""
    folder = tmp_path_factory.mktemp("build")
    config = config_of(folder, dedup={"passages": {}})
    found = {name: resolve(name, spec) for name, spec in config.sources.items()}
    return Planner(config, found, None, folder / "work")


@pytest.fixture(scope="module")
def stages(planner: Planner) -> list[Stage]:
    return planner.plan().stages()


def test_stages_hang_on_no_more_than_they_need(stages: list[Stage]) -> None:
    reached = set[str]().union(*(stage.modules for stage in stages))
    far = {"build", "build_manifest", "cli", "funnel", "plan", "report", "samples", "sources"}
    assert not reached & {f"pipeline.{name}" for name in far}
    assert not [name for name in reached if name.endswith("_plan")]
    words = {"contamination.jit", "contamination.word_bytes", "contamination.words"}
    assert {name for name in reached if name.startswith("contamination.")} == words


def test_a_stage_whose_code_is_not_in_its_key_does_not_run(stages: list[Stage]) -> None:
    pack = replace(stages[-1], modules=stages[-1].modules - {"pipeline.packing"})
    with pytest.raises(AssertionError, match="pack: code beside the key"):
        run_stage(pack)
    assert not pack.directory.exists()


def test_versions_name_every_package_whose_code_decides_bytes(planner: Planner) -> None:
    steps = [path for path in FILES if path.parent.name == "pipeline" and is_step(path)]
    reached = code_of(f"pipeline.{path.stem}" for path in steps)
    files = (ROOT / f"{name.replace('.', '/')}.py" for name in reached)
    used = {name.split(".")[0] for path in files for name in names_imported(path)}
    theirs = used - set(FOLDERS) - sys.stdlib_module_names
    assert theirs - TRANSPORT <= planner.versions.keys()


def is_step(path: Path) -> bool:
    return path.stem != "audit_scan" and "DocumentsPipeline" in path.read_text()
