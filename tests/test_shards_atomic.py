"""Files that are whole or absent, and what a killed writer leaves."""

from pathlib import Path

from shards.atomic import atomic_write, remove_leftovers, temporary_of


def test_two_writers_of_a_file_do_not_meet(tmp_path: Path) -> None:
    target = tmp_path / "a"
    with atomic_write(target) as first, atomic_write(target) as second:
        first.write(b"one")
        second.write(b"two")
        assert not target.exists()
    assert target.read_bytes() == b"one"  # the last to end
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_leftovers_go_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for name in ("a.json", ".hidden.tmp", ".a.json.tmp", "b.0123abcd.tmp"):
        (tmp_path / name).touch()
    for folder in (tmp_path, tmp_path / "folder"):
        temporary_of(folder / "a.json").touch()
    remove_leftovers(tmp_path)
    kept = {"a.json", ".hidden.tmp", ".a.json.tmp", "b.0123abcd.tmp", "folder"}
    assert {path.name for path in tmp_path.iterdir()} == kept
    assert len(list((tmp_path / "folder").iterdir())) == 1
    remove_leftovers(tmp_path, below=True)
    assert not list((tmp_path / "folder").iterdir())
