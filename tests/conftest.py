"""What test modules share: an environment of their own each, and one S3 server."""

import os
from collections.abc import Iterator
from importlib import import_module

import pytest
from hypothesis import HealthCheck, settings

from shards.cache import cache_directory

# Before anything imports torch. Its threads wait for each other by running: with more of them than
# cores, which is what several test processes make, a tiny model costs four times as much.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Compiled kernels of one process serve the others, whatever cache a test gives them: half a minute.
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_directory() / "kernels"))

# How long an example takes says more about what else the machine does than about the code.
settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any-machine")

FIRST = [
    "train_run",
    "train_recipe_runs",
    "pipeline_kill",
    "end_to_end",
    "train_kill",
    "train_moved",
    "contamination_cli",
    "pipeline_executors",
    "pipeline_download",
    "train_export",
    "train_evaluate",
    "train_numerics",
    "docs_run",
    "contamination_sets",
    "pipeline_build",
    "train_plan_append",
    "train_experiment",
    "train_launch",
    "train_reference",
    "contamination_page",
]
"""Modules that take longest: done last, one of them would keep one process busy and no other."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, and give it the time of a machine with ten times the load."""
    places = {f"test_{name}": place for place, name in enumerate(FIRST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(FIRST)))
    for item in items:
        if item.path.stem in places:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True, scope="module")
def _own_environment() -> Iterator[None]:
    """Undo what a module did to `os.environ`.

    Evaluation and export make their process offline for good (`train.process`), which is right for
    a command and wrong for the tests that come after.
    """
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def endpoint() -> Iterator[str]:
    """The address of an S3 server in this process; fsspec keeps connections, so one for all."""
    pytest.importorskip("s3fs")
    pytest.importorskip("moto.server")
    server = import_module("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()
