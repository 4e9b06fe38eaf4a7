"""Where things are kept between runs: TALLY_CACHE, or ~/.cache/tally."""

import os
from pathlib import Path


def cache_directory() -> Path:
    """Wheels, benchmark indexes and compiled kernels; may be deleted at any time."""
    return Path(os.environ.get("TALLY_CACHE") or Path.home() / ".cache" / "tally")
