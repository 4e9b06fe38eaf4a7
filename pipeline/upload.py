"""A finished dataset copied to remote storage, the manifest last: with a manifest, it is whole.

The copy can be interrupted; run again, it sends what is missing. `uploading.json` says, until the
manifest is there, which dataset the files belong to.
"""

import json
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from configs.terminal import console, progress
from pipeline.errors import BuildError
from pipeline.streams import storage_explained
from shards.manifest import MANIFEST_NAME, load_manifest

_UNDER_WAY = "uploading.json"


def upload(dataset: Path, address: str) -> None:
    """Copy a dataset to an address as `s3://bucket/datasets/name`.

    Raises:
        BuildError: the storage cannot be used, or holds another dataset there.
    """
    manifest = load_manifest(dataset)
    with storage_explained(address):
        files, root = url_to_fs(address)
        files.invalidate_cache()
        there = _held(files, root)
        if there not in (None, manifest.dataset_id):
            raise BuildError(f"{address} holds {there}; choose another address, or empty it")
        names = sorted(manifest.files() - {MANIFEST_NAME})
        _send(files, dataset, root, names, manifest.dataset_id)
        files.put_file(str(dataset / MANIFEST_NAME), f"{root}/{MANIFEST_NAME}")
        files.rm_file(f"{root}/{_UNDER_WAY}")
    console.print(address)


def _held(files: Any, root: str) -> str | None:
    """The id of the dataset that is there, or on its way there; None where nothing is."""
    for name in (MANIFEST_NAME, _UNDER_WAY):
        if files.exists(f"{root}/{name}"):
            found: str = json.loads(files.cat_file(f"{root}/{name}"))["dataset_id"]
            return found
    return "files that are no dataset" if files.exists(root) and files.ls(root) else None


def _send(files: Any, dataset: Path, root: str, names: list[str], dataset_id: str) -> None:
    """Send the files that are not there with their size."""
    sizes = {name: (dataset / name).stat().st_size for name in names}
    files.makedirs(root, exist_ok=True)
    files.pipe_file(f"{root}/{_UNDER_WAY}", json.dumps({"dataset_id": dataset_id}).encode())
    with progress("upload", sum(sizes.values()) / 1e6, "MB") as bar:
        for name, size in sizes.items():
            path = f"{root}/{name}"
            if not files.exists(path) or files.size(path) != size:
                files.makedirs(path.rpartition("/")[0], exist_ok=True)
                files.put_file(str(dataset / name), path)
            files.invalidate_cache()
            if files.size(path) != size:
                raise BuildError(f"{path}: {files.size(path)} bytes arrived of {size}; run again")
            bar.advance(size / 1e6)
