"""Links, anchors, files and messages that the pages name exist."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs_pages import ROOT, Block, anchors, blocks, name_of, pages, prose

FOLDERS = ("configs", "shards", "contamination", "pipeline", "train")
GENERATED = {ROOT / "docs/reference" / name for name in ("config.md", "cli.md", "formats.md")}
TROUBLE = ROOT / "docs/troubleshooting.md"


def sources() -> list[Path]:
    return [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page)):
        target, _, anchor = link.partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), link
        if anchor and path not in GENERATED:  # the site's build checks those
            assert anchor in anchors(path), link


def test_pages_named_in_the_code_exist() -> None:
    for path in sources():
        for name, anchor in re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", path.read_text()):
            assert (ROOT / name).is_file(), f"{path}: {name}"
            known = ROOT / name in GENERATED or anchor in anchors(ROOT / name)
            assert not anchor or known, f"{path}: {name}#{anchor}"


def test_make_targets_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for page in pages():
        named = re.findall(r"`make (?:\w+=\S+ )?([a-z]+)", prose(page))
        named += [
            target
            for block in blocks(page)
            for target in re.findall(r"^make ([a-z]+)", block.content, re.M)
        ]
        for target in named:
            assert f"\n{target}:" in makefile, f"make {target} in {name_of(page)}"


def test_files_named_exist() -> None:
    for page in pages():
        if page.name != "CHANGELOG.md":
            for path in re.findall(r"\b(?:configs|tests)/[\w/]+\.(?:yaml|py)\b", page.read_text()):
                assert (ROOT / path).is_file(), f"{path} in {name_of(page)}"


def test_every_page_is_in_the_navigation() -> None:
    index = ROOT / "docs/index.md"
    linked = {
        (index.parent / link).resolve()
        for link in re.findall(r"\]\((.*?\.md)\)", index.read_text())
    }
    decisions = {page for page in pages() if page.parent.name == "decisions"}
    assert set(pages()) - decisions - {index} <= linked


def spelled(node: ast.AST) -> str:
    """A string of the code with … for what is put into it; of other expressions only …."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(spelled(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return spelled(node.left) + spelled(node.right)
    return "…"


def strings(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.JoinedStr | ast.Constant | ast.BinOp):
            yield spelled(node)


@cache
def messages() -> frozenset[str]:
    found = (" ".join(text.split()) for path in sources() for text in strings(path))
    return frozenset(text for text in found if len(text) > 10)


@pytest.mark.parametrize("block", blocks(TROUBLE), ids=lambda block: block.place)
def test_messages_are_still_said(block: Block) -> None:
    assert block.kind == "error"
    said = " ".join(block.content.split())
    assert any(said in message for message in messages()), f"{block.place}: {said}"
