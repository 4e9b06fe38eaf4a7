"""Show that a run is the same as another that went straight through, and leave with 1 if not.

    python -m tests.multinode.same [--bits] WHOLE RUN

The ledger is compared byte by byte; losses to 1e-5, the order of sums: with other ranks than before
no more can be had. With --bits losses and final weights must be the same to the bit.
"""

import json
import sys
from pathlib import Path

from tests.test_train_run import STEPS, losses, weights

_REL = 1e-5


def main(whole: Path, run: Path, bits: bool) -> str:
    """What is the same; raises AssertionError where it is not."""
    ledgers = [(path / "ledger.jsonl").read_bytes() for path in (whole, run)]
    assert ledgers[0] == ledgers[1], "ledgers differ"
    pairs = list(zip(losses(whole), losses(run), strict=True))
    assert len(pairs) == STEPS, f"{len(pairs)} steps"
    worst = max(abs(a - b) / a for a, b in pairs)
    assert worst <= (0 if bits else _REL), f"losses differ by {worst:.2g}"
    if bits:
        assert weights(whole) == weights(run), "weights differ"
    path = run / "restarts.jsonl"
    restarts = path.read_text().splitlines() if path.exists() else []
    resumed = [f"resumed at {json.loads(line)['resumed_at']}" for line in restarts]
    said = [f"same ledger of {STEPS} steps", f"losses within {worst:.1g}", *resumed]
    return f"{run.name}: {', '.join([*said, *(['same weights'] if bits else [])])}"


if __name__ == "__main__":
    print(main(Path(sys.argv[-2]), Path(sys.argv[-1]), "--bits" in sys.argv))
