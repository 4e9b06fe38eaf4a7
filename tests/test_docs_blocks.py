"""Every code block of every page has a class, and is what its class says (tests/docs_pages.py)."""

import re
import shlex
import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from pydantic import BaseModel, TypeAdapter

import tally
from configs.build import BuildConfig
from configs.experiment import ExperimentConfig
from configs.loading import load, parse_yaml
from configs.train import TrainConfig
from tests.docs_pages import ROOT, Block, blocks, name_of, pages, prose

CLASSES = {
    *(("sh", kind) for kind in ("run", "parse", "tested")),
    *(("python", kind) for kind in ("run", "parse", "tested")),
    *(("yaml", kind) for kind in ("build", "train", "experiment")),
    *(("text", kind) for kind in ("", "shows", "error")),
    ("console", ""),
}
SETTINGS: dict[str, type[BaseModel]] = {
    "build": BuildConfig,
    "train": TrainConfig,
    "experiment": ExperimentConfig,
}
OF_ITS_OWN = ROOT / "docs/interchange.md"  # tests/test_shards_convert_docs.py
BLOCKS = [block for page in pages() for block in blocks(page)]


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_every_block_has_a_class(page: Path) -> None:
    assert page.read_text().count("\n```") == 2 * len(blocks(page)), "a fence is not closed"
    for block in blocks(page):
        assert (block.language, block.kind) in CLASSES, block.place


@cache
def group() -> Any:
    return typer.main.get_command(tally.app)


def commands(shell: str) -> Iterator[list[str]]:
    """The words of every `tally ...` in a piece of shell, also inside a quoted command."""
    shell = re.sub(r"\\\n", " ", shell)
    shell = re.sub(r"(^|\s)#.*$", r"\1", shell, flags=re.M)  # comments
    shell = re.sub(r"(?<=\S)\|(?=\S)", "/", shell)  # `ray|slurm` in a usage is no pipe
    reader = shlex.shlex(shell, posix=True, punctuation_chars=";|&\n")
    reader.whitespace, reader.whitespace_split, reader.commenters = " \t", True, ""
    command: list[str] = []
    for word in [*reader, "\n"]:
        if set(word) <= set(";|&\n"):
            names = [each.rpartition("/")[2] for each in command]
            if "tally" in names and (names[0] == "tally" or "-m" in names):
                yield command[names.index("tally") + 1 :]
            command = []
            continue
        if " tally " in f" {word}":
            yield from commands(word)
        command = command if "=" in word and not command else [*command, word]


def command_of(words: list[str], place: str) -> tuple[Any, list[str]]:
    """The command, also of a group as `tally init`, and the words behind its name."""
    command = group()
    while words and hasattr(command, "commands"):
        assert words[0] in command.commands, f"{place}: tally {shlex.join(words)}"
        command, words = command.commands[words[0]], words[1:]
    return command, words


def parse(words: list[str], place: str) -> None:
    """Read a command as typer does.

    Args:
        words: after `tally`; a usage's brackets are taken off.
        place: for messages.
    """
    words = [word.strip("[]") for word in words]
    words = [word for word in words if word and word != "..."]
    command, words = command_of(words, place)
    context = command.context_class(command, info_name="tally")
    try:
        values, rest, _ = command.make_parser(context).parse_args(words)
    except Exception as error:
        raise AssertionError(f"{place}: tally {shlex.join(words)}: {error}") from None
    assert not rest, f"{place}: tally {shlex.join(words)}: too many arguments {rest}"
    for parameter in command.params:
        given = values.get(parameter.name) not in (None, (), [])
        assert given or not parameter.required, f"{place}: no {parameter.name}"


@pytest.mark.parametrize("block", of("sh"), ids=lambda block: block.place)
def test_shell_blocks_parse(block: Block) -> None:
    for words in commands(block.content):
        parse(words, block.place)


@pytest.mark.parametrize("block", of("console"), ids=lambda block: block.place)
def test_sessions_parse(block: Block) -> None:
    lines = re.findall(r"^\$ (tally .*)", block.content, re.M)
    assert lines, block.place
    for line in lines:
        for words in commands(line):
            parse(words, block.place)


@pytest.mark.parametrize("page", pages(), ids=name_of)
def test_commands_in_the_text_parse(page: Path) -> None:
    if page.name in ("CHANGELOG.md", "RESULTS.md"):  # say what was, too
        return
    for line in re.findall(r"`(tally [a-z][^`]*)`", prose(page)):
        for words in commands(" ".join(line.split())):
            command, words = command_of(words, name_of(page))
            known = {name for p in command.params for name in (*p.opts, *p.secondary_opts)}
            for word in words:
                assert not re.match(r"-+[a-z]", word) or word in {*known, "--help"}, line


@pytest.mark.parametrize("block", of("python"), ids=lambda block: block.place)
def test_python_compiles(block: Block) -> None:
    compile(block.content, block.place, "exec")
    if block.kind == "tested":
        assert block.content in OF_ITS_OWN.read_text(), block.place


@pytest.mark.parametrize("block", of("yaml"), ids=lambda block: block.place)
def test_settings_are_real(block: Block, tmp_path: Path) -> None:
    model, values = SETTINGS[block.kind], parse_yaml(block.content)
    base = ROOT / str(values.pop("extends", ""))
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    if base.is_file():
        shutil.copytree(ROOT / "configs", tmp_path / "configs")
        (tmp_path / "page.yaml").write_text(block.content)
        load(tmp_path / "page.yaml", model)
    elif required <= set(values):
        model.model_validate(values)
    else:
        for key, value in values.items():
            field = model.model_fields[key]
            TypeAdapter[Any](field.rebuild_annotation()).validate_python(value)


def test_what_is_wrong_is_found() -> None:
    """The checks themselves: an unknown command, option, and a missing argument."""
    for line in ("tally bild x", "tally build x --nope", "tally audit x", "tally verify a b"):
        with pytest.raises(AssertionError):
            parse(next(commands(line)), "here")
    assert [*commands("A=1 tally plan a.yaml 'b=[1,\n2]' # c\nx | tally verify d")] == [
        ["plan", "a.yaml", "b=[1,\n2]"],
        ["verify", "d"],
    ]
