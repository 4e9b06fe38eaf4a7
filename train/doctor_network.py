"""Checks of `tally doctor`: the hub, S3 credentials, Slurm, Ray. Nothing secret is said."""

import datetime
import email.utils
import os
import shutil
import threading
from importlib import metadata
from pathlib import Path

from train.doctor_finding import Finding, output_of

_LIMIT_S = 8.0
_MOST_SKEW = datetime.timedelta(minutes=5)
_WITHOUT_HUB = (
    "local files, the demo and what was fetched before work without; check the network and "
    "proxies, or set HF_ENDPOINT to a mirror"
)


def hub() -> list[Finding]:
    """Whether the configured hub answers, in time."""
    from huggingface_hub import constants, get_token

    token = "a token is set" if get_token() else "no token: private and gated datasets are closed"
    if constants.HF_HUB_OFFLINE:
        return [Finding("hub", "ok", f"not asked: HF_HUB_OFFLINE is set; {token}")]
    answer = _asked(constants.ENDPOINT)
    if isinstance(answer, str):
        said = f"{constants.ENDPOINT} cannot be reached: {answer}"
        return [Finding("hub", "warning", said, _WITHOUT_HUB)]
    return [Finding("hub", "ok", f"{constants.ENDPOINT} answers; {token}"), *_clock_of(answer)]


def _asked(address: str) -> str | datetime.datetime | None:
    """The server's clock; a text where there is no answer in time (names may take long)."""
    answers: list[str | datetime.datetime | None] = []
    thread = threading.Thread(target=lambda: answers.append(_ask(address)), daemon=True)
    thread.start()
    thread.join(_LIMIT_S)
    return answers[0] if answers else f"no answer in {_LIMIT_S:.0f} s"


def _ask(address: str) -> str | datetime.datetime | None:
    import httpx2

    try:
        date = httpx2.head(address, timeout=_LIMIT_S).headers.get("Date")
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        return str(error) or type(error).__name__
    return email.utils.parsedate_to_datetime(date) if date else None


def _clock_of(server: datetime.datetime | None) -> list[Finding]:
    if server is None:
        return []
    skew = datetime.datetime.now(datetime.UTC) - server
    if abs(skew) < _MOST_SKEW:
        return []
    said = f"{skew.total_seconds() / 60:+.0f} min from the hub's: S3 refuses more than 15"
    return [Finding("clock", "warning", said, "set the clock (timedatectl, chrony)")]


def s3() -> list[Finding]:
    """Whether there are credentials for s3:// addresses; no server is asked."""
    files = [Path.home() / ".aws" / name for name in ("credentials", "config")]
    wanted = any(name in os.environ for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"))
    wanted = wanted or any(path.is_file() for path in files)
    if not wanted:
        return [Finding("s3", "ok", "not configured; only s3:// addresses need it")]
    try:
        metadata.version("s3fs")
    except metadata.PackageNotFoundError:
        said = "credentials are configured, but s3fs is missing"
        return [Finding("s3", "warning", said, "pip install 'tallylm[s3]'")]
    from botocore.session import Session  # type: ignore[import-untyped]

    session = Session()
    found = session.get_credentials()
    if found is None:
        said = "configured, but no credentials were found"
        return [Finding("s3", "warning", said, "look at AWS_PROFILE and ~/.aws/credentials")]
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    at = f" for {endpoint}" if endpoint else ""
    return [Finding("s3", "ok", f"credentials found by '{found.method}'{at}, not tried")]


def slurm() -> list[Finding]:
    """Slurm, where its commands are there."""
    if shutil.which("sbatch") is None:
        return [Finding("slurm", "ok", "not here")]
    said = output_of(["sinfo", "--noheader", "--format=%P %D %T"], timeout_s=_LIMIT_S)
    if said is None:
        way_out = "only --slurm and --executor slurm need it; else ask who runs the cluster"
        return [Finding("slurm", "warning", "sbatch is there, sinfo gives no answer", way_out)]
    return [Finding("slurm", "ok", "; ".join(said.splitlines()) or "no partitions")]


def ray() -> list[Finding]:
    """Ray, where it is installed."""
    try:
        version = metadata.version("ray")
    except metadata.PackageNotFoundError:
        return [Finding("ray", "ok", "not installed; only --executor ray needs it")]
    address = os.environ.get("RAY_ADDRESS")
    return [Finding("ray", "ok", f"{version}, {address or 'RAY_ADDRESS not set'}")]


CHECKS = (hub, s3, slurm, ray)
