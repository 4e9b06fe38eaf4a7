"""Talking to the Hugging Face Hub: the token, time limits, patience, and errors in plain words.

The token comes from HF_TOKEN and goes into request headers, nowhere else. HF_ENDPOINT names
another hub; HF_HUB_DOWNLOAD_TIMEOUT is how many seconds of silence end an attempt.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar

import httpx2
from datatrove.utils.logging import logger
from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RemoteEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import default_client_factory
from huggingface_hub.utils.tqdm import disable_progress_bars

from pipeline.errors import BuildError

T = TypeVar("T")
_WAITS_S = (0.5, 1, 2, 4, 8, 16, 32, 60)
_RETRIED = (httpx2.TimeoutException, httpx2.NetworkError, httpx2.RemoteProtocolError)
_RETRIED_STATUS = frozenset({408, 416, 429, 500, 502, 503, 504})
_WRITTEN_BYTES = 1 << 20
_REFUSED = frozenset({401, 403})


class Incomplete(Exception):
    """A transfer that ended early; what arrived is kept, and the rest is asked for."""


@cache
def _prepare() -> None:
    """Once a process: time limits for all requests, no output of huggingface_hub's own."""
    set_client_factory(_client)
    # A fault costs what is not written yet; huggingface_hub would write every 10 MB.
    constants.DOWNLOAD_CHUNK_SIZE = _WRITTEN_BYTES
    disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _client() -> httpx2.Client:
    client = default_client_factory()
    client.event_hooks["request"].append(_limit_time)
    return client


def _limit_time(request: httpx2.Request) -> None:
    """Give a time limit to requests that huggingface_hub sends without one, as for listings."""
    if not any((request.extensions.get("timeout") or {}).values()):
        limit = httpx2.Timeout(constants.HF_HUB_DOWNLOAD_TIMEOUT)
        request.extensions = {**request.extensions, "timeout": limit.as_dict()}


def api() -> HfApi:
    """The hub's API at HF_ENDPOINT, with the token of HF_TOKEN or none."""
    _prepare()
    return HfApi(endpoint=endpoint(), token=_token())


def headers() -> dict[str, str]:
    """Headers of a request for a file's bytes."""
    _prepare()
    # Byte ranges of a compressed answer would not be those of the file.
    return build_hf_headers(token=_token()) | {"accept-encoding": "identity"}


def _token() -> str | Literal[False]:
    # False: not even a token that `hf auth login` left on this machine.
    return os.environ.get("HF_TOKEN") or False


def endpoint() -> str | None:
    """HF_ENDPOINT, or None for huggingface_hub's default."""
    return os.environ.get("HF_ENDPOINT")


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids requests."""
    return constants.is_offline_mode()


def patiently(action: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
    """Do `action`, again and again while the fault may pass.

    Waits grow from half a second to a minute, or are what `Retry-After` says; the last error is
    raised after eight failures in a row without progress.

    Args:
        action: may raise what httpx2 and huggingface_hub raise, or `Incomplete`.
        progress: a number that grows while the action gets somewhere.
    """
    failures, reached = 0, progress()
    while True:
        try:
            return action()
        except Exception as error:
            if progress() > reached:
                failures, reached = 0, progress()
            if not _may_pass(error) or failures == len(_WAITS_S):
                raise
            wait = _retry_after(error) or _WAITS_S[failures]
            logger.warning(f"{type(error).__name__}; next attempt in {wait} s")
            time.sleep(wait)
            failures += 1


def _may_pass(error: Exception) -> bool:
    if isinstance(error, HfHubHTTPError):
        return error.response.status_code in _RETRIED_STATUS
    return isinstance(error, (*_RETRIED, Incomplete))


def _retry_after(error: Exception) -> float | None:
    if not isinstance(error, HfHubHTTPError):
        return None
    value = error.response.headers.get("Retry-After", "")
    return float(value) if value.isdigit() else None


@contextmanager
def explained(repo: str, revision: str, kind: str = "dataset") -> Iterator[None]:
    """Turn what can go wrong with the hub into a BuildError that names the way out."""
    try:
        yield
    except (HfHubHTTPError, httpx2.HTTPError, Incomplete, OfflineModeIsEnabled) as error:
        # `from None`: the log of a task prints the values of a traceback's variables, and those
        # of an HTTP client hold the token.
        raise BuildError(f"{kind} repository {repo}: {_words(error, revision)}") from None


def _words(error: Exception, revision: str) -> str:
    given = os.environ.get("HF_TOKEN")
    if isinstance(error, OfflineModeIsEnabled):
        return "files are missing here and HF_HUB_OFFLINE forbids fetching them; unset it"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no revision '{revision}'; set `revision` to a branch, tag or commit it has"
    if isinstance(error, RemoteEntryNotFoundError):
        return f"a file or folder is not there at {revision}; check `files` against the repository"
    if isinstance(error, GatedRepoError):
        way_out = (
            "set HF_TOKEN to a token of an account that did"
            if not given
            else ("the account of the token in HF_TOKEN has not done so")
        )
        return f"it is gated: its terms must be accepted on its page at the hub; {way_out}"
    if isinstance(error, RepositoryNotFoundError) or _status(error) in _REFUSED:
        way_out = (
            "the token in HF_TOKEN does not open it" if given else "if so, set HF_TOKEN to a token"
        )
        return f"there is no such repository, or it is private or gated: {way_out}; check `repo`"
    said = (
        f"{type(error).__name__}: {error}" if _status(error) is None else f"status {_status(error)}"
    )
    if not _may_pass(error):
        return f"the hub answered with {said}; what has arrived is kept"
    return (
        f"the hub did not deliver ({said}), in {len(_WAITS_S) + 1} attempts without progress; "
        "run again to go on: what has arrived is kept"
    )


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None
