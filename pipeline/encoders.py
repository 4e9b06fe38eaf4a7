"""Text to token ids, flat: fastokens where it is proved equal to `tokenizers`, else `tokenizers`.

A special token written out in a text ("<|endoftext|>" in a web page) is text: it is encoded as the
characters it is made of, so that EOS stands at document ends and nowhere else.
"""

from functools import lru_cache
from pathlib import Path
from typing import NamedTuple, Protocol

import fastokens
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from pipeline.fast_forms import fast_form
from pipeline.tokenizer_file import contents

BATCH_DOCUMENTS = 256


class Encoded(NamedTuple):
    """Token ids of some texts.

    Attributes:
        ids: uint32 [num_tokens].
        offsets: int64 [num_texts + 1]; text i has ids[offsets[i]:offsets[i + 1]].
    """

    ids: NDArray[np.uint32]
    offsets: NDArray[np.int64]


class Encoder(Protocol):
    """Encodes texts without adding any token."""

    def encode(self, texts: list[str]) -> Encoded:
        """Token ids of each text, in order."""


class FastEncoder:
    """fastokens: the same ids some 60 times as fast, without a Python object a token."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = fastokens.Tokenizer.from_json_str(fast_form(contents(tokenizer)))

    def encode(self, texts: list[str]) -> Encoded:
        """Token ids of each text, in order."""
        ids, offsets = self._tokenizer.encode_batch_flat(texts, split_special_tokens=True)
        ends = np.frombuffer(offsets, np.uint64).astype(np.int64)
        return Encoded(np.frombuffer(ids, np.uint32), ends)


class ReferenceEncoder:
    """`tokenizers`, which defines what is right."""

    def __init__(self, tokenizer: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.encode_special_tokens = True
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def encode(self, texts: list[str]) -> Encoded:
        """Token ids of each text, in order."""
        rows = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.fromiter((i for row in rows for i in row.ids), np.uint32, int(offsets[-1]))
        return Encoded(ids, offsets)


ENCODERS: dict[str, type[FastEncoder] | type[ReferenceEncoder]] = {
    "fastokens": FastEncoder,
    "tokenizers": ReferenceEncoder,
}


@lru_cache(2)
def encoder_of(name: str, tokenizer: Path) -> Encoder:
    """The encoder of that name; tasks that run in one process share it."""
    return ENCODERS[name](tokenizer)


def adversarial_texts(eos_token: str) -> list[str]:
    """Strings that have told encoders apart: specials as text, odd spaces, scripts, controls."""
    base = [
        f"{eos_token}",
        f"before{eos_token}after {eos_token} {eos_token}{eos_token}\n{eos_token[:-1]}",
        "",
        " ",
        "\n\n \t\r\n  end  ",
        "I'm you'll they've we'd it's don't I'M YOU'LL 'tis ’re",
        "0123 12,345.67e-8 ½ ² ٣٤٥ Ⅷ 1st",
        "\x00\x01\x7f\x80\xa0\u200b\u200d\u2028\ufeff\ufffd",
        "naïve cafe\u0301 Å A\u030a \u1e9b\u0323 ﬁ ß İ ı",
        "日本語とEnglishが混ざる。中文，한국어 ไทย עברית العربية",
        "👩‍👩‍👧‍👦 🏳️‍🌈 \U0001f600\U0001f600 e\u0301\u0301\u0301",
        "def f(x):\n\treturn x**2  # ---- ====\n" + "    " * 20 + "x",
        "\\frac{\\partial f}{\\partial x} = \\sum_{i=0}^{\\infty} a_i x^i",
        "a" * 3000 + " " * 300 + "ab" * 700,
        "https://example.org/a_b?c=d&e=%20#f user@example.org",
        " 5  6\t7 \n 8\n\n9 's 1's 2 's3're a1b 22c",
        "\N{LOWER ONE EIGHTH BLOCK}a \N{LOWER ONE EIGHTH BLOCK}\N{LOWER ONE EIGHTH BLOCK} b",
        " begins with a space",
        "  two\n and a line that does",
        "<s>[INST] x [/INST]</s><unk><0x0A>",
    ]
    return [*base, " ".join(base), "".join(reversed(base))]
