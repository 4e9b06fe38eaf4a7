"""A damaged cache of the audit is made anew: same findings, whatever bit was flipped."""

import random
from pathlib import Path

import numpy as np
import pytest

from contamination.index_files import cached_index
from contamination.items import Benchmark, Item
from contamination.stored import is_sound

FLIPS = 15


def flip(path: Path, chance: random.Random) -> bytes:
    """Flip a bit; returns what was there."""
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[chance.randrange(len(whole))] ^= 1 << chance.randrange(8)
    path.write_bytes(damaged)
    return whole


def test_an_index_with_a_flipped_bit_is_built_anew(tmp_path: Path) -> None:
    words = [f"word{number}" for number in range(15)]
    items = tuple(Item(str(n), " ".join(words[n:]), "yes", (), "") for n in range(5))
    benchmarks = [Benchmark("b", "test", "made", items)]
    cached_index(benchmarks, tmp_path)
    (folder,) = tmp_path.glob("index-*")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    calm, chance = {path: path.read_bytes() for path in files}, random.Random(2)
    for _ in range(FLIPS):
        flip(chance.choice(files), chance)
        index = cached_index(benchmarks, tmp_path)
        assert index.num_items == len(items)
        assert {path: path.read_bytes() for path in files if path.suffix == ".npy"} == {
            path: content for path, content in calm.items() if path.suffix == ".npy"
        }


def test_a_result_with_a_flipped_bit_is_taken_away_or_reads_the_same(tmp_path: Path) -> None:
    path, chance = tmp_path / "r.npz", random.Random(3)
    hits, counts = np.arange(300, dtype=np.uint64), np.arange(40, dtype=np.int64)
    np.savez(path, hits=hits, counts=counts)
    assert is_sound(path)
    gone = 0
    for _ in range(10 * FLIPS):
        whole = flip(path, chance)
        if is_sound(path):
            with np.load(path) as stored:
                if set(stored.files) == {"hits", "counts"}:  # else its reader misses a name
                    assert (stored["hits"] == hits).all()
                    assert (stored["counts"] == counts).all()
        else:
            gone += 1
            assert not path.exists()
        path.write_bytes(whole)
    assert gone > 5 * FLIPS


@pytest.mark.parametrize("content", [b"", b"PK", b"no archive at all"])
def test_what_is_no_result_is_taken_away(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r.npz").write_bytes(content)
    assert not is_sound(tmp_path / "r.npz")
    assert not (tmp_path / "r.npz").exists()
