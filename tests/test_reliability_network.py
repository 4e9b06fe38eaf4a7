"""Networks at their worst: survived or refused, never silently wrong.

Stalls, resets, truncation, 429 and 5xx, wrong bytes and moved revisions are in
test_pipeline_download; remote datasets in test_shards_remote. Here is what else there is.
"""

import socket
import time

import pytest

from pipeline import hub
from pipeline.download import fetch, is_here
from pipeline.errors import BuildError
from tests.hub_server import Fault, Hub
from tests.test_pipeline_download import BIG, MIB, big, server, spec

__all__ = ["server"]  # the fixture
DATE = "Wed, 21 Oct 2099 07:28:00 GMT"


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        # A mirror that changes in the middle: half of each file is never put together.
        ([Fault("reset", "storage"), Fault("wrong", "storage")], [None, f"bytes={2 * MIB}-", None]),
        ([Fault("truncate", "storage"), Fault("short", "storage")],
         [None, f"bytes={2 * MIB}-", f"bytes={3 * MIB}-"]),
        ([Fault("status", "storage", 429, retry_after=DATE)], [None] * 2),
        ([Fault("status", "storage", 429, retry_after="soon")], [None] * 2),
        ([Fault("status", "storage", 503, retry_after="-5")], [None] * 2),
        ([Fault("status", "storage", 408), Fault("stall", "storage")], [None] * 3),
    ],
    ids=["changed", "cut twice", "a date", "a word", "negative", "slow"],
)  # fmt: skip
def test_transfers_survive(server: Hub, faults: list[Fault], ranges: list[str | None]) -> None:
    file, server.faults = big(), list(faults)
    fetch(file)
    assert file.local.read_bytes() == BIG
    assert server.bytes_asked("storage") == ranges


@pytest.mark.parametrize("match", ["/revision/", "storage"])
def test_a_redirect_loop_ends(server: Hub, monkeypatch: pytest.MonkeyPatch, match: str) -> None:
    monkeypatch.setenv("TALLY_HUB_PATIENCE", "2")
    file = big()
    server.faults = [Fault("loop", match)] * 500
    start = time.monotonic()
    with pytest.raises(BuildError, match="redirect"):
        fetch(file) if match == "storage" else hub.pin(spec())
    assert time.monotonic() - start < 30
    assert not file.local.exists()


def test_a_name_that_does_not_resolve(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, server: Hub
) -> None:
    def nowhere(*args: object, **kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("TALLY_HUB_PATIENCE", "1")
    monkeypatch.setattr(socket, "getaddrinfo", nowhere)
    with pytest.raises(BuildError, match=r"hub\.invalid cannot be reached .*Check the network"):
        hub.pin(spec())


def test_a_cached_file_that_was_damaged_is_not_built_from(server: Hub) -> None:
    """Same size, other bytes: the next build that reads it fetches it anew."""
    file = big()
    fetch(file)
    assert is_here(file)
    content = bytearray(file.local.read_bytes())
    content[len(content) // 2] ^= 4
    file.local.write_bytes(content)
    assert not is_here(file)
    fetch(file)
    assert is_here(file)
    assert file.local.read_bytes() == BIG


def test_the_token_does_not_follow_a_redirect(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    fetch(big())
    to_storage = [r.authorization for r in server.requests if "/storage/" in r.path]
    assert to_storage == [None]
