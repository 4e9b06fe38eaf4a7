"""Dataset repositories on the Hugging Face Hub: files found, pinned to a commit, named locally.

A pin is JSON: {"repo", "commit", "files": {path: {"bytes", "sha256" or "git_sha1"}}}. It is asked
for once, kept with the build (`<output>.work/pins/`) and with the cache, and stands in the
manifest; from then on the hub is needed for files that are not in the cache, and for nothing else.
"""

import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from huggingface_hub.hf_api import RepoFile

from configs.text_sources import HubSource, Source
from pipeline.errors import BuildError
from pipeline.hub_http import api, endpoint, explained, is_offline, patiently
from shards.atomic import write_json_atomic
from shards.cache import cache_directory
from shards.hashing import blake3_json

Pin = dict[str, Any]
RepoKind = Literal["dataset", "model"]


class HubFile(NamedTuple):
    """A file of a pinned repository."""

    repo: str
    commit: str
    path: str
    """In the repository."""
    size: int
    digest: tuple[str, str]
    """`sha256` of the content or, for files that git holds itself, `git_sha1` of the blob."""
    local: Path
    """Where the cache has the file; it is there only if it is whole."""
    endpoint: str | None
    """The hub to ask; None for the default."""
    kind: RepoKind = "dataset"


def cache_folder(repo: str) -> Path:
    """Where the cache keeps what is known and had of a repository."""
    return cache_directory() / "hub" / repo


def pin(spec: HubSource) -> Pin:
    """Ask the hub what the source's files are now.

    With HF_HUB_OFFLINE set, the answer of the last time is taken.

    Raises:
        BuildError: the hub cannot be asked, or does not have what is named.
    """
    remembered = cache_folder(spec.repo) / "pins" / f"{blake3_json(_request(spec))[:16]}.json"
    if is_offline():
        found = load_pin(remembered, spec)
        if found is None:
            raise BuildError(
                f"dataset repository {spec.repo}: HF_HUB_OFFLINE is set, and {spec.revision} was "
                "never asked for here with these `files`; unset it, or copy TALLY_CACHE from a "
                "machine that has it"
            )
        return found
    commit = current_commit(spec)
    with explained(spec.repo, spec.revision):
        listed = patiently(lambda: _list(spec, commit), f"list of {spec.repo}")
    names = _select(spec, list(listed))
    found = {"repo": spec.repo, "commit": commit, "files": {name: listed[name] for name in names}}
    save_pin(remembered, spec, found)
    return found


def current_commit(spec: HubSource) -> str:
    """The commit that the source's revision stands for at this moment."""
    with explained(spec.repo, spec.revision):
        info = patiently(
            lambda: api().dataset_info(spec.repo, revision=spec.revision, expand=["sha"]),
            f"{spec.repo} at {spec.revision}",
        )
    assert info.sha is not None, "the hub names the commit of every revision"
    return info.sha


def _list(spec: HubSource, commit: str) -> dict[str, dict[str, Any]]:
    """Size and digest of all files in the folders that the patterns can match in."""
    found: dict[str, dict[str, Any]] = {}
    for folder in dict.fromkeys(_fixed_folder(pattern) for pattern in spec.files):
        entries = api().list_repo_tree(
            spec.repo, folder, recursive=True, revision=commit, repo_type="dataset"
        )
        found |= {entry.path: facts_of(entry) for entry in entries if isinstance(entry, RepoFile)}
    return found


def _fixed_folder(pattern: str) -> str | None:
    """`sample/10BT/*.parquet` -> `sample/10BT`: the listing of a large repository is long."""
    fixed = []
    for part in pattern.split("/")[:-1]:
        if set(part) & set("*?["):
            break
        fixed.append(part)
    return "/".join(fixed) or None


def facts_of(entry: RepoFile) -> dict[str, Any]:
    """What a pin says of a file."""
    if entry.lfs is not None:
        return {"bytes": entry.lfs.size, "sha256": entry.lfs.sha256}
    return {"bytes": entry.size, "git_sha1": entry.blob_id}


def _select(spec: HubSource, names: list[str]) -> list[str]:
    """The names that the patterns match, in reading order."""
    found: dict[str, None] = {}
    for pattern in spec.files:
        matches = sorted(name for name in names if fnmatchcase(name, pattern))
        if not matches:
            raise BuildError(
                f"dataset repository {spec.repo} at {spec.revision} has no file that matches "
                f"'{pattern}'; there are {', '.join(sorted(names)[:10]) or 'none'}"
            )
        found |= dict.fromkeys(matches)
    return list(found)[: spec.max_files]


def files(spec: HubSource, pin: Pin) -> list[HubFile]:
    """The files of a pin in reading order."""
    return [file_of(spec.repo, pin, name) for name in _select(spec, list(pin["files"]))]


def file_of(repo: str, pin: Pin, name: str, kind: RepoKind = "dataset") -> HubFile:
    """A file of a pin."""
    facts, commit = pin["files"][name], pin["commit"]
    method = "sha256" if "sha256" in facts else "git_sha1"
    local = (cache_folder(repo) / commit / name).absolute()
    digest = (method, facts[method])
    return HubFile(repo, commit, name, facts["bytes"], digest, local, endpoint(), kind)


def _request(spec: HubSource) -> dict[str, Any]:
    request: dict[str, Any] = spec.model_dump(
        mode="json", include={"repo", "revision", "files", "max_files"}
    )
    return request


def load_pin(path: Path, spec: HubSource) -> Pin | None:
    """The pin that was saved at `path` for this repository, revision and files, if one was."""
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    found: Pin = saved["pin"]
    return found if saved["request"] == _request(spec) else None


def save_pin(path: Path, spec: HubSource, pin: Pin) -> None:
    """Write a pin with what it answers."""
    write_json_atomic(path, {"request": _request(spec), "pin": pin})


def pin_of_dataset(manifest: Path, name: str, spec: HubSource) -> Pin | None:
    """The pin in a dataset's manifest, if that source was read from the same place."""
    try:
        values = json.loads(manifest.read_text(encoding="utf-8"))
        config, found = values["config"]["sources"][name], values["sources"][name]["pin"]
    except (FileNotFoundError, KeyError, ValueError):
        return None
    wanted = {"kind": "hub", **_request(spec)}
    if {key: config.get(key) for key in wanted} != wanted:
        return None
    return {key: found[key] for key in ("repo", "commit", "files")}


def pins_path(work: Path, name: str) -> Path:
    """Where a build keeps the pin of a source."""
    return work / "pins" / f"{name}.json"


def known_pins(output: Path, work: Path, sources: dict[str, Source]) -> dict[str, Pin]:
    """The pins that this build, or the dataset it made, holds already."""
    found: dict[str, Pin] = {}
    for name, spec in sources.items():
        if isinstance(spec, HubSource):
            known = load_pin(pins_path(work, name), spec)
            known = known or pin_of_dataset(output / "manifest.json", name, spec)
            found |= {} if known is None else {name: known}
    return found


def refuse_moved(name: str, spec: HubSource, pin: Pin) -> None:
    """Refuse to fetch more of a commit that the revision does not stand for any more.

    Raises:
        BuildError: the revision moved since it was pinned.
    """
    now = current_commit(spec)
    if now != pin["commit"]:
        raise BuildError(
            f"source '{name}': {spec.revision} of {spec.repo} has moved: this build began with "
            f"commit {pin['commit']}, it is at {now} now, and files are still missing. To go on "
            f"with the first, set sources.{name}.revision={pin['commit']}; to take the new one, "
            f"delete pins/{name}.json in the build's .work directory"
        )
