"""Words that a user chooses from, on the command line too.

They stand apart from the configurations because those load pydantic, which takes a fifth of a
second: too long for an answer to the tabulator key.
"""

from typing import Literal

Sensitivity = Literal["strict", "default", "sensitive"]
"""Named sets of thresholds of the audit: fewer false findings, balanced, fewer misses."""
ExecutorKind = Literal["local", "ray", "slurm"]
"""Where the tasks of a build run."""
SchemaKind = Literal["build", "train", "experiment", "source", "eval", "audit"]
"""Files that have a JSON Schema."""
