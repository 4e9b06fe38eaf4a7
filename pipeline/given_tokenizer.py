"""A tokenizer that is given: a file, or that of a model repository on the Hugging Face Hub.

A repository is pinned to a commit, as sources are: asked for once, kept with the build and in the
manifest. The file comes into the same cache, verified.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub.hf_api import RepoFile

from configs.build import TokenizerConfig
from pipeline.download import fetch
from pipeline.errors import BuildError
from pipeline.hub import HubFile, Pin, cache_folder, facts_of, file_of
from pipeline.hub_http import api, explained, is_offline, patiently
from pipeline.tokenizer_file import vocabulary
from shards.atomic import write_json_atomic
from shards.hashing import blake3_file, blake3_json

_NAME = "tokenizer.json"
_PIN = "pins/_tokenizer.json"  # a source's name does not begin so


class GivenTokenizer(NamedTuple):
    """A tokenizer.json that is not trained here."""

    path: Path
    identity: dict[str, Any]
    """JSON: equal ones mean equal content; of a repository, the pin."""
    hub_file: HubFile | None = None
    """What has to be fetched to have the path."""

    def bring(self) -> None:
        """Have the file at its path, with the pinned content.

        Raises:
            BuildError: it cannot be had.
        """
        if self.hub_file is not None:
            fetch(self.hub_file)


def given_tokenizer(config: TokenizerConfig, output: Path, work: Path) -> GivenTokenizer | None:
    """The tokenizer that a configuration names; None where one is to be trained.

    Args:
        config: the build's `tokenizer`.
        output: the dataset, which may know the pin already.
        work: the build's work directory, likewise.

    Raises:
        BuildError: there is no such file, it is no tokenizer.json, or the hub does not have it.
    """
    if config.repo is not None:
        pin = _known_pin(config, output, work) or _pin(config, config.repo)
        file = file_of(config.repo, pin, _NAME, "model")
        return GivenTokenizer(file.local, pin, file)
    if config.file is None:
        return None
    if not config.file.is_file():
        raise BuildError(f"tokenizer.file: {config.file}: no such file; give a tokenizer.json")
    vocabulary(config.file)  # before the work, and by the name that the user knows
    return GivenTokenizer(config.file, {"blake3": blake3_file(config.file)})


def keep_pin(config: TokenizerConfig, given: GivenTokenizer | None, work: Path) -> None:
    """Write down the commit that this build stays with."""
    if given is not None and given.hub_file is not None:
        _save(work / _PIN, config, given.identity)


def _pin(config: TokenizerConfig, repo: str) -> Pin:
    """Ask the hub which commit the revision is; offline, take the answer of the last time."""
    remembered = cache_folder(repo) / "pins" / f"{blake3_json(_request(config))[:16]}.json"
    if is_offline():
        if (found := _load(remembered, config)) is None:
            raise BuildError(
                f"tokenizer.repo: HF_HUB_OFFLINE is set, and {config.revision} of {repo} was never "
                "asked for here; unset it, or copy TALLY_CACHE from a machine that has it"
            )
        return found
    with explained(repo, config.revision, "model"):
        info = patiently(lambda: api().model_info(repo, revision=config.revision, expand=["sha"]))
        entries = patiently(lambda: list(api().list_repo_tree(repo, revision=info.sha)))
    files = {entry.path: facts_of(entry) for entry in entries if isinstance(entry, RepoFile)}
    if _NAME not in files:
        raise BuildError(
            f"tokenizer.repo: {repo} at {config.revision} has no {_NAME}; there are "
            f"{', '.join(sorted(files)[:10]) or 'no files'}"
        )
    pin = {"repo": repo, "commit": info.sha, "files": {_NAME: files[_NAME]}}
    _save(remembered, config, pin)
    return pin


def _known_pin(config: TokenizerConfig, output: Path, work: Path) -> Pin | None:
    return _load(work / _PIN, config) or _of_dataset(output / "manifest.json", config)


def _request(config: TokenizerConfig) -> dict[str, Any]:
    return {"repo": config.repo, "revision": config.revision, "file": _NAME}


def _save(path: Path, config: TokenizerConfig, pin: Pin) -> None:
    write_json_atomic(path, {"request": _request(config), "pin": pin})


def _load(path: Path, config: TokenizerConfig) -> Pin | None:
    if not path.exists():
        return None
    saved = json.loads(path.read_text(encoding="utf-8"))
    return saved["pin"] if saved["request"] == _request(config) else None


def _of_dataset(manifest: Path, config: TokenizerConfig) -> Pin | None:
    """The pin in a dataset's manifest, if its tokenizer came from the same place."""
    if not manifest.exists():
        return None
    values = json.loads(manifest.read_text(encoding="utf-8"))
    asked, facts = values["config"]["tokenizer"], values["tokenizer"]
    same = all(asked.get(key) == getattr(config, key) for key in ("repo", "revision"))
    return facts["pin"] if same else None
