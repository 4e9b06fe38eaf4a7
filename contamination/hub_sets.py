"""Registered benchmark sets from the Hugging Face Hub, pinned to a commit.

The files are those of the branch refs/convert/parquet, which the hub makes for every dataset. The
commit that the branch stands for is asked once and remembered in the cache, so that the next
audit compares with the same items; it stands in the report as the benchmark's origin.
"""

import json
import os
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled

from contamination.errors import AuditError
from contamination.fields import to_item
from contamination.items import Benchmark, Item
from contamination.registry import HubSet, find, registered
from shards.atomic import write_json_atomic
from shards.cache import cache_directory

_BRANCH = "refs/convert/parquet"
_REFUSED = (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx2.HTTPError)


def load(name: str, revision: str = "") -> Benchmark:
    """One set of the hub.

    Args:
        name: a name of `sets.yaml`.
        revision: commit or branch; empty for the commit that was taken the first time.

    Raises:
        AuditError: no such set, or the hub cannot be asked or refuses.
    """
    entry = find(f"hub:{name}", list(registered()))
    pin = cache_directory() / "hub-sets" / f"{name}.json"
    try:
        pinned = _pinned(entry.hub, revision, pin)
        paths = [_download(entry.hub, pinned["commit"], file) for file in pinned["files"]]
    except _REFUSED as error:
        raise AuditError(
            f"hub:{name}: {entry.hub.repo}: {str(error).splitlines()[0]}; "
            "gated sets need HF_TOKEN, and without a hub olmo:NAME or NAME=FILE may serve"
        ) from None
    items: dict[str, Item] = {}
    for file, path in zip(pinned["files"], paths, strict=True):
        config = f"{file.split('/')[0]}/" if len(paths) > 1 and "*" in entry.hub.config else ""
        for number, row in enumerate(pl.read_parquet(path).iter_rows(named=True)):
            where = f"{file}: row {number + 1}"
            item = to_item(row, entry.fields, {"question"}, where, f"{config}{number}")
            items.setdefault(item.id, item)
    origin = f"{entry.hub.repo}@{pinned['commit']} {entry.hub.config}"
    return Benchmark(name, entry.hub.split, origin, tuple(items.values()))


def _pinned(hub: HubSet, revision: str, pin: Path) -> dict[str, Any]:
    """{"commit", "files"}: as remembered, or asked for now and remembered."""
    if pin.is_file():
        known: dict[str, Any] = json.loads(pin.read_text(encoding="utf-8"))
        if revision in ("", known["commit"]):
            return known
    api = HfApi(endpoint=_endpoint())
    commit = api.dataset_info(hub.repo, revision=revision or _BRANCH).sha
    assert commit is not None, "the hub names the commit of every revision"
    listed = api.list_repo_files(hub.repo, revision=commit, repo_type="dataset")
    pattern = f"{hub.config}/{hub.split}/*.parquet"
    files = sorted(name for name in listed if fnmatchcase(name, pattern))
    if not files:
        raise AuditError(f"{hub.repo} at {commit}: no file {pattern}; name another: hub:SET@COMMIT")
    found = {"repo": hub.repo, "commit": commit, "files": files}
    write_json_atomic(pin, found)
    return found


def _download(hub: HubSet, commit: str, file: str) -> Path:
    folder = cache_directory() / "hub-sets" / "files"
    path = hf_hub_download(
        hub.repo,
        file,
        repo_type="dataset",
        revision=commit,
        cache_dir=folder,
        endpoint=_endpoint(),
    )
    return Path(path)


def _endpoint() -> str | None:
    """Another hub than the default; huggingface_hub reads the variable only when imported."""
    return os.environ.get("HF_ENDPOINT")
