"""What every test module gets: an environment of its own."""

import os
from collections.abc import Iterator

import pytest


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
