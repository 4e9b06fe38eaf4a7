"""Documents that streams of datasets built apart have in common, by content hash.

Within one dataset exact duplicates are gone before the tokens are packed; across datasets nobody
looked. The document index holds a 128-bit hash of every text, so looking takes a join.
"""

from collections.abc import Mapping
from itertools import combinations
from typing import NamedTuple

import polars as pl

from shards.reader import TokenStream


class Overlap(NamedTuple):
    """What two streams share."""

    first: str
    second: str
    documents: int
    """Documents of `second` whose text is in `first`."""
    tokens: int
    """Their tokens in `second`."""


def overlaps(streams: Mapping[str, TokenStream]) -> list[Overlap]:
    """Pairs of streams with documents in common, in the order of the mapping.

    Args:
        streams: by name; streams of one dataset may be given too, they share nothing.
    """
    texts = {
        name: stream.documents().select("content_hash", "token_count")
        for name, stream in streams.items()
    }
    found = [_between(a, texts[a], b, texts[b]) for a, b in combinations(texts, 2)]
    return [overlap for overlap in found if overlap.documents]


def _between(first: str, left: pl.DataFrame, second: str, right: pl.DataFrame) -> Overlap:
    shared = right.join(left.select("content_hash").unique(), on="content_hash", how="semi")
    return Overlap(first, second, len(shared), int(shared["token_count"].sum()))
