"""The commit that a repository of the hub stands at, remembered for when the hub is out of reach.

    CACHE/hub-pins/<kind>--<owner>--<name>.json

A score names the exact commit of model and items, so that a changed repository is never taken for
the one that was scored.
"""

import json
from pathlib import Path
from typing import Literal

from shards.atomic import write_json_atomic
from train.errors import TrainError

_PATIENCE_S = 15


def commit_of(repo: str, kind: Literal["model", "dataset"], cache: Path) -> str:
    """The commit of the main branch; the remembered one where the hub does not answer.

    Raises:
        TrainError: the hub does not answer and nothing is remembered.
    """
    import httpx2
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    pin = cache / "hub-pins" / f"{kind}--{repo.replace('/', '--')}.json"
    try:
        commit = HfApi().repo_info(repo, repo_type=kind, timeout=_PATIENCE_S).sha
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx2.HTTPError) as error:
        if pin.is_file():
            return str(json.loads(pin.read_bytes())["commit"])
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise TrainError(f"the hub does not give {kind} {repo}: {reason}") from None
    assert commit, "the hub names the commit of every repository"
    write_json_atomic(pin, {"repo": repo, "commit": commit})
    return str(commit)
