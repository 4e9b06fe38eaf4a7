"""How fast each tokenizer encodes, and which encoder a build would choose for it, one core.

Run: `TALLY_TESTDATA=... taskset -c 0 python tests/benchmarks/bench_encoders.py [MEGABYTES]`.

Every tokenizer in the test data. Processor time of a first pass over real English documents: with
fastokens and the tokenizer.json as it is, with fastokens and the form that a build gives it, and
with `tokenizers` on a tenth of the text. Equality is that of a build's own check, on 1,000 of them.
"""

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("RAYON_NUM_THREADS", "1")  # read when the encoders first run

import fastokens
import numpy as np

from pipeline.encoder_check import compare
from pipeline.encoders import BATCH_DOCUMENTS, FastEncoder, ReferenceEncoder, adversarial_texts
from tests.benchmarks.corpus import data_folder, texts_of_size


class AsItIs(FastEncoder):
    """fastokens without another form of the tokenizer."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = fastokens.Tokenizer.from_file(str(tokenizer))


def speed(
    encoder: type[FastEncoder] | type[ReferenceEncoder], tokenizer: Path, texts: list[str]
) -> float:
    """MB/s of processor time, loading not counted; NaN where it cannot be loaded."""
    try:
        made = encoder(tokenizer)
    except ValueError:
        return np.nan
    size, start = sum(len(text.encode("utf-8")) for text in texts), time.process_time()
    for first in range(0, len(texts), BATCH_DOCUMENTS):
        made.encode(texts[first : first + BATCH_DOCUMENTS])
    return size / 1e6 / (time.process_time() - start)


def main() -> None:
    texts = texts_of_size(float(sys.argv[1]) if len(sys.argv) > 1 else 20.0)
    samples = {"real": texts[:1000], "adversarial": adversarial_texts("<|endoftext|>")}
    for tokenizer in sorted((data_folder() / "tokenizers").glob("*/tokenizer.json")):
        check = compare(tokenizer, samples)
        as_is, ours = (speed(kind, tokenizer, texts) for kind in (AsItIs, FastEncoder))
        reference = speed(ReferenceEncoder, tokenizer, texts[::10])
        print(
            f"{tokenizer.parent.name:18s} as it is {as_is:6.1f}, other form {ours:6.1f}, "
            f"tokenizers {reference:4.1f} MB/s; equal: {check['equal']} {check.get('why', '')}"
        )


if __name__ == "__main__":
    main()
