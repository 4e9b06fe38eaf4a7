"""The word kernel against written-out cases and a slow reference of the same recipe."""

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contamination.words import hash_words, hash_words_of_texts

MASK = (1 << 64) - 1


def words(text: str, keep_single_letters: bool = False) -> list[int]:
    return [int(h) for h in hash_words_of_texts([text], keep_single_letters).hash]


def slices(text: str) -> list[str]:
    found = hash_words_of_texts([text])
    data = text.encode()
    return [data[s:e].decode() for s, e in zip(found.start, found.end, strict=True)]


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("Don\u2019t STOP", "dont stop"),
        ("it&#39;s &amp; it&rsquo;s", "its its"),
        ("well-known, \u201cfact\u201d!", "well known fact"),
        ("<b>bold</b> text<br/>next", "bold text next"),
        ("caf\u00e9 cafe\u0301 CAF\u00c9", "cafe cafe cafe"),
        ("\uff26\uff55\uff4c\uff4c \uff11\uff12", "full 12"),
        ("soft\u00adhyphen zero\u200bwidth \ufeffbom", "softhyphen zerowidth bom"),
        ("great\U0001f600news", "great news"),
        ("A. option (b) I think", "option think"),
        ("Question: who? ANSWER: me: answer : here", "who me answer here"),
        ("x = 3 and y = 4", "3 and 4"),
        ("line\r\n> quoted\u00a0text", "line quoted text"),
    ],
)
def test_spellings_of_the_same_words_hash_alike(written: str, plain: str) -> None:
    assert words(written) == words(plain)
    assert len(set(words(plain))) == len(set(plain.split()))


def test_chinese_characters_and_kana_are_words() -> None:
    assert slices("\u4e2d\u6587\u5b57\u3002 \u304b\u306a") == list("\u4e2d\u6587\u5b57\u304b\u306a")


def test_single_letters_are_kept_on_request_only() -> None:
    assert len(words("I am a 7", keep_single_letters=True)) == 4
    assert slices("I am a 7") == ["am", "7"]


def test_spans_are_bytes_of_the_data_and_documents_do_not_mix() -> None:
    data = np.frombuffer("caf\u00e9 au laitno".encode(), np.uint8)
    found = hash_words(data, np.array([0, 13, 15]), False)
    assert found.document_offsets.tolist() == [0, 3, 4]
    assert found.start.tolist() == [0, 6, 9, 13]
    assert found.end.tolist() == [5, 8, 13, 15]


def test_broken_utf8_at_a_documents_end_reads_nothing_beyond() -> None:
    for tail in (
        b"\xe2",
        b"\xe2\x80",
        b"\xc3",
        b"\xf0\x9f",
        b"\xef\xbc",
        b"\xe4\xb8",
        b"&am",
        b"<b",
    ):
        alone = np.frombuffer(b"word " + tail, np.uint8)
        followed = np.frombuffer(b"word " + tail + b"\x99more;>", np.uint8)
        bounds = np.array([0, len(alone)])
        assert hash_words(alone, bounds, False).hash.tolist() == (
            hash_words(followed, bounds, False).hash.tolist()
        )


def reference(text: str) -> list[int]:
    """The recipe again, character by character and without any care for speed."""

    def replaced(found: re.Match[str]) -> str:
        return "" if found[1] else " "

    # In one pass from the left: what one replacement leaves behind makes no new entity.
    entity = r"&(#39|apos|[lr]squo);|&[A-Za-z0-9#]{1,8};|<[A-Za-z/1-6]{1,12}>"
    text = re.sub(entity, replaced, text)
    out: list[int] = []
    current: list[int] = []
    weight = 0

    def end(colon: bool = False) -> None:
        nonlocal current, weight
        label = colon and bytes(current) in (b"question", b"answer")
        if current and not label and (weight > 1 or 48 <= current[0] <= 57):
            out.append(_hash(current, weight))
        current, weight = [], 0

    for character in text:
        kind, value = _kind(character)
        if kind == "letters":
            current += value
            weight += sum(1 if byte < 128 else 2 for byte in value)
        elif kind != "nothing":
            end(colon=character == ":")
            if kind == "word":
                out.append(_hash(value, len(value), plain=True))
    end()
    return out


def _kind(character: str) -> tuple[str, list[int]]:
    code, raw = ord(character), list(character.encode())
    if 0xFF00 <= code <= 0xFF5F:
        character, code = chr(code - 0xFEE0), code - 0xFEE0
        return ("letters", [ord(character.lower())]) if character.isalnum() else ("break", [])
    if code < 128:
        if character.isalnum():
            return "letters", [ord(character.lower())]
        return ("nothing" if character == "'" else "break"), []
    if code in (0xAD, 0x2018, 0x2019, 0x2060, 0xFEFF) or 0x200B <= code <= 0x200F:
        return "nothing", []
    if 0x300 <= code <= 0x36F:
        return "nothing", []
    if 0xC0 <= code <= 0xFF and code not in (0xD7, 0xF7):
        return "letters", [ord(_base(character))]
    if code < 0x100 or 0x2000 <= code < 0x2C00 or code in (0xD7, 0xF7):
        return "break", []
    if 0x3000 <= code <= 0x303F or 0x1F000 <= code <= 0x1FFFF:
        return "break", []
    if 0x3040 <= code <= 0x9FFF or 0x20000 <= code <= 0x3FFFF:
        return "word", raw
    return "letters", raw


def _base(character: str) -> str:
    special = {"\u00c6": "a", "\u00e6": "a", "\u00d0": "d", "\u00f0": "d", "\u00d8": "o"}
    special |= {"\u00f8": "o", "\u00de": "t", "\u00fe": "t", "\u00df": "s"}
    return special.get(character) or unicodedata.normalize("NFD", character)[0].lower()


def _hash(values: list[int], weight: int, plain: bool = False) -> int:
    value = 0
    for byte in values:
        value = (value * 0x100000001B3 + byte) & MASK
    value = (value + weight) & MASK
    value ^= value >> 32
    value = value * 0x9E3779B97F4A7C15 & MASK
    value ^= value >> 29
    value = value * 0xC2B2AE3D27D4EB4F & MASK
    return value ^ value >> 32


PIECES = [
    "a", "I", "b7", "Word", "7", " ", "\n", "'", "\u2019", "-", "&amp;", "&#39;", "&rsquo;", "<b>",
    "</p>", "<br/>", "< b", "\u00e9", "\u00d7", "e\u0301", "\u00df", "\u4e2d", "\u3002", "\u304b",
    "\uff21", "\uff0c", "\U0001f600", "\U00020000", "\u0416", "\u20ac", "\u200b", "\u00ad",
    "Answer", "question", ":", "\ufeff", "\uff66", "\u03b1", "\ud55c", ";", "&", ">",
]  # fmt: skip


@settings(max_examples=400)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_the_kernel_equals_the_slow_reference(text: str) -> None:
    assert words(text) == reference(text)
