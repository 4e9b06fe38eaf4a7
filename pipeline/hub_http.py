"""Talking to the Hugging Face Hub: the token, time limits, patience, and errors in plain words.

The token comes from HF_TOKEN and goes into request headers, nowhere else. HF_ENDPOINT names
another hub; HF_HUB_DOWNLOAD_TIMEOUT is how many seconds of silence end an attempt;
TALLY_HUB_PATIENCE how many seconds without progress end them all.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, TypeVar

import httpx2
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
from pipeline.task_report import tell

T = TypeVar("T")
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.5, 60.0
_UNREACHABLE_S, _PATIENCE_S = 15.0, 120.0
_ASKED_WAIT_S = 900.0  # longest Retry-After that is waited for
_MOST_FAILURES = 50  # in a row, whatever waits are asked for
_UNREACHABLE = (httpx2.ConnectError, httpx2.ConnectTimeout)
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
    log = logging.getLogger("huggingface_hub")
    log.handlers, log.propagate = [_Told(logging.WARNING)], False


class _Told(logging.Handler):
    """Shows when huggingface_hub itself waits, and nothing else that it logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the user, if it is about waiting."""
        message = record.getMessage()
        if message.startswith(("Rate limited", "Retrying in")):
            tell(f"the hub: {message}")


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


def patiently(
    action: Callable[[], T],
    what: str = "the hub",
    progress: Callable[[], int] | None = None,
) -> T:
    """Do `action`, again and again while the fault may pass, and tell the user why it waits.

    Waits grow from half a second to a minute, or are what `Retry-After` says. The last error is
    raised when what TALLY_HUB_PATIENCE says (120 seconds) passed without progress; without
    `progress`, when the hub could not be reached at all for 15 seconds.

    Args:
        action: may raise what httpx2 and huggingface_hub raise, or `Incomplete`.
        what: what is asked for, as the user knows it.
        progress: of a transfer, a number that grows while it gets somewhere.
    """
    failures, reached, since = 0, progress() if progress else 0, time.monotonic()
    while True:
        try:
            return action()
        except Exception as error:
            if progress and progress() > reached:
                failures, reached, since = 0, progress(), time.monotonic()
            if not _may_pass(error) or failures == _MOST_FAILURES:
                raise
            asked = _retry_after(error)
            wait = asked or min(_FIRST_WAIT_S * 2**failures, _LONGEST_WAIT_S)
            limit = _ASKED_WAIT_S if asked else _limit_s(error, transfer=progress is not None)
            if (wait if asked else time.monotonic() - since + wait) > limit:
                raise
            failures += 1
            tell(f"{what}: {_said(error)}; try {failures + 1} in {wait:g} s")
            time.sleep(wait)
            since += asked or 0.0


def _limit_s(error: Exception, transfer: bool) -> float:
    """Seconds without progress after which an error is final."""
    unreachable = isinstance(error, _UNREACHABLE) and not transfer
    default = _UNREACHABLE_S if unreachable else _PATIENCE_S
    return float(os.environ.get("TALLY_HUB_PATIENCE") or default)


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
    if isinstance(error, _UNREACHABLE):
        return (
            f"the hub at {endpoint() or constants.ENDPOINT} cannot be reached ({error}). Check the "
            "network; set HF_ENDPOINT to a mirror, or HF_HUB_OFFLINE=1 to build from what was "
            "fetched before; TALLY_HUB_PATIENCE=600 waits ten minutes for a network to come back"
        )
    if not _may_pass(error):
        return f"the hub answered with {_said(error)}; what has arrived is kept"
    return (
        f"the hub did not deliver ({_said(error)}), in all attempts without progress; run again to "
        "go on: what has arrived is kept. TALLY_HUB_PATIENCE=600 keeps trying for ten minutes"
    )


def _said(error: Exception) -> str:
    status = _status(error)
    return f"{type(error).__name__}: {error}" if status is None else f"status {status}"


def _status(error: Exception) -> int | None:
    return error.response.status_code if isinstance(error, HfHubHTTPError) else None
