"""Documents found in streams cut anywhere: the same for any borders of files, EOS first or last."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shards.convert_sources import find_groups
from shards.formats_base import EosAt, Reading, TokenFile
from shards.formats_documents import read_documents

EOS = 9
documents = st.lists(st.lists(st.integers(0, 8), max_size=5), min_size=1, max_size=8)


def _files(stream: list[int], cuts: list[int]) -> list[TokenFile]:
    borders = sorted({min(cut, len(stream)) for cut in cuts})
    pieces = np.split(np.array(stream, dtype=np.uint16), borders)
    return [TokenFile(Path(f"{n}.bin"), piece) for n, piece in enumerate(pieces)]


def _reading(eos_at: EosAt) -> Reading:
    return Reading(EOS, eos_at, np.dtype("<u2"))


@given(documents, st.lists(st.integers(0, 40), max_size=6))
def test_cut_at_eos(contents: list[list[int]], cuts: list[int]) -> None:
    ended = [i for content in contents for i in (*content, EOS)]
    found = read_documents(_files(ended, cuts), _reading("end"))
    assert [d.content.tolist() for d in found] == contents
    begun = [i for content in contents for i in (EOS, *content)]
    found = read_documents(_files(begun, cuts), _reading("start"))
    assert [d.content.tolist() for d in found] == contents


@given(documents)
def test_cut_by_index(contents: list[list[int]]) -> None:
    for eos_at, before, after in (("end", [], [EOS]), ("start", [EOS], []), ("none", [], [])):
        wholes = [[*before, *content, *after] for content in contents]
        tokens = np.array([i for whole in wholes for i in whole], dtype=np.uint16)
        file = TokenFile(Path("x"), tokens, np.cumsum([len(w) for w in wholes]))
        found = list(read_documents([file], _reading(eos_at)))  # type: ignore[arg-type]
        assert [d.content.tolist() for d in found] == contents
        assert [d.row for d in found] == list(range(len(contents)))
        for d in found:
            assert tokens[d.start : d.start + len(d.content)].tolist() == d.content.tolist()


def test_places_are_those_in_the_file() -> None:
    found = list(read_documents(_files([1, EOS, 2, 3, 4, EOS, 5, EOS], [4]), _reading("end")))
    assert [(d.path.name, d.row, d.start) for d in found] == [
        ("0.bin", 0, 0),
        ("0.bin", 1, 2),  # goes on in the next file
        ("1.bin", 1, 2),
    ]


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("part-10.bin", "part-9.bin", "part-1.bin", ".part-2.bin"):
        (tmp_path / name).touch()
    (group,) = find_groups(tmp_path, ".bin", "s", None)
    assert [path.name for path in group.paths] == ["part-1.bin", "part-9.bin", "part-10.bin"]
