"""A finished dataset in remote storage, the manifest sent last: with a manifest, it is whole.

The copy can be interrupted; run again, it sends what is missing. `uploading.json` says, until the
manifest is there, which dataset the files belong to. Every file is read back before that.
"""

import json
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from configs.terminal import progress
from pipeline.errors import BuildError
from pipeline.streams import storage_explained
from shards.address_check import refuse_secrets
from shards.hashing import blake3_file, blake3_remote
from shards.manifest import MANIFEST_NAME, Manifest, load_manifest, parse_manifest

_UNDER_WAY = "uploading.json"


def dataset_at(address: str) -> Manifest | None:
    """The manifest of the whole dataset at an address; None where there is none yet.

    Raises:
        BuildError: the storage cannot be used, or holds files that are no dataset.
    """
    refuse_secrets(address, BuildError)
    with storage_explained(address):
        files, root = url_to_fs(address)
        files.invalidate_cache()
        if files.exists(f"{root}/{MANIFEST_NAME}"):
            raw = files.cat_file(f"{root}/{MANIFEST_NAME}")
            return parse_manifest(raw, f"{address}/{MANIFEST_NAME}")
        _held(files, root, address)
        return None


def upload(dataset: Path, address: str) -> None:
    """Copy a dataset to an address as `s3://bucket/datasets/name`.

    Raises:
        BuildError: the storage cannot be used, holds another dataset there, or does not give back
            what it was sent.
    """
    manifest = load_manifest(dataset)
    with storage_explained(address):
        files, root = url_to_fs(address)
        files.invalidate_cache()
        there = _held(files, root, address)
        if there not in (None, manifest.dataset_id):
            raise BuildError(f"{address} holds {there}; choose another address, or empty it")
        if files.exists(f"{root}/{MANIFEST_NAME}"):
            return
        names = sorted(manifest.files() - {MANIFEST_NAME})
        _send(files, dataset, root, names, manifest.dataset_id)
        files.put_file(str(dataset / MANIFEST_NAME), f"{root}/{MANIFEST_NAME}")
        files.rm_file(f"{root}/{_UNDER_WAY}")


def _held(files: Any, root: str, address: str) -> str | None:
    """The id of the dataset that is there, or on its way there; None where nothing is."""
    for name in (MANIFEST_NAME, _UNDER_WAY):
        if files.exists(f"{root}/{name}"):
            found: str = json.loads(files.cat_file(f"{root}/{name}"))["dataset_id"]
            return found
    if files.exists(root) and files.ls(root):
        raise BuildError(
            f"{address} holds files that are no dataset; choose another address, or empty it"
        )
    return None


def _send(files: Any, dataset: Path, root: str, names: list[str], dataset_id: str) -> None:
    """Send the files that are not there with their size, and read every one back."""
    sizes = {name: (dataset / name).stat().st_size for name in names}
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/{_UNDER_WAY}", json.dumps({"dataset_id": dataset_id}).encode())
    with progress("upload, read back", sum(sizes.values()) / 1e6, "MB") as bar:
        for name, size in sizes.items():
            path = f"{root}/{name}"
            if not files.exists(path) or files.size(path) != size:
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.put_file(str(dataset / name), path)
            files.invalidate_cache()
            if blake3_remote(files, path) != blake3_file(dataset / name):
                files.rm_file(path)
                raise BuildError(f"{path} is not what was sent; it was deleted: run again")
            bar.advance(size / 1e6)
