"""Damage to files, the same for the same seed: flips, cuts, insertions, JSON turned inside out.

`mutations` makes bytes that a parser should refuse or read, of bytes that it reads; half of them
keep the form of JSON where the example has it, so that they get past the parser's first look.
"""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SPECIAL_INTEGERS = (-(2**63), -(2**31), -1, 0, 1, 255, 2**31 - 1, 2**31, 2**32, 2**63, 10**400)
_SPECIAL_VALUES: tuple[Any, ...] = (
    None, True, False, "", "\x00", "\ud800", "../../etc/passwd", "/etc/passwd", "1/0", "nan", [],
    {}, [[]], {"": {}}, float("inf"), float("nan"), 1e308, 0.1, *_SPECIAL_INTEGERS,
)  # fmt: skip
_TEXT_PIECES = (
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xed\xa0\x80", b"[" * 5000, b'{"a":' * 3000,
    b"\n", b"\r", b"- " * 500, b"&a [*a]", b"<<: *a", b"? [1]\n: 2\n", b"!!python/object:os.system",
    b"9" * 5000, b"\\ud800", b"NaN", b"1e999", b'"', b"%", b"'", b"\xf4\x90\x80\x80", b"2001-99-99",
)  # fmt: skip


def flip_bit(path: Path, seed: int) -> int:
    """Flip one bit of a file somewhere; returns the byte's offset."""
    chance = random.Random(seed)
    offset = chance.randrange(path.stat().st_size)
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 1 << chance.randrange(8)]))
    return offset


def mutations(examples: list[bytes], seed: int, count: int) -> Iterator[bytes]:
    """Damaged versions of the examples, `count` of them."""
    chance = random.Random(seed)
    values = [_json_of(example) for example in examples]
    for _ in range(count):
        number = chance.randrange(len(examples))
        lines = values[number]
        if lines is not None and chance.random() < 0.5:
            yield _turned(lines, chance)
        else:
            data = examples[number]
            for _ in range(chance.choice((1, 1, 2, 4, 8))):
                data = _damaged(data, chance)
            yield data


def _json_of(example: bytes) -> list[Any] | None:
    """The JSON values of the lines, or of the whole; None where it is no JSON."""
    try:
        return [json.loads(example)]
    except ValueError:
        pass
    try:
        return [json.loads(line) for line in example.splitlines()] or None
    except ValueError:
        return None


def _turned(lines: list[Any], chance: random.Random) -> bytes:
    """The lines with one place in one of them changed."""
    number = chance.randrange(len(lines))
    changed = [*lines[:number], turn(lines[number], chance), *lines[number + 1 :]]
    return "\n".join(json.dumps(value) for value in changed).encode() + b"\n"


def turn(value: Any, chance: random.Random) -> Any:
    """A JSON value with one place changed: replaced, left out, doubled, or under another key."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        kind = chance.random()
        if kind < 0.05:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.1:
            return value | {chance.choice(("", "__class__", "x", "../x", key + "x")): value[key]}
        return value | {key: turn(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        place = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:place] + value[place + 1 :]
        if chance.random() < 0.1:
            return value + value[place:]
        return [*value[:place], turn(value[place], chance), *value[place + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.5:
        return value + chance.choice((-1, 1, 2, 1000))
    if isinstance(value, str) and value and chance.random() < 0.5:
        place = chance.randrange(len(value))
        return (
            value[:place] + chance.choice(("", "a", "/", "..", "\u0000", "9")) + value[place + 1 :]
        )
    return chance.choice(_SPECIAL_VALUES)


def _damaged(data: bytes, chance: random.Random) -> bytes:
    if not data:
        return chance.choice(_TEXT_PIECES)
    place, size = chance.randrange(len(data)), min(chance.choice((1, 2, 4, 8, 64)), len(data))
    kind = chance.randrange(8)
    if kind <= 1:
        return data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
    if kind == 2:
        return data[:place]
    if kind == 3:
        return data[:place] + chance.randbytes(size) + data[place + size :]
    if kind == 4:
        return data[:place] + data[place + size :]
    if kind == 5:
        return data[:place] + data[place : place + size] + data[place:]
    if kind == 6:
        return data[:place] + chance.choice(_TEXT_PIECES) + data[place:]
    number = chance.choice(_SPECIAL_INTEGERS[:-1]) % 2**64
    width = chance.choice((1, 2, 4, 8))
    return data[:place] + number.to_bytes(8, "little")[:width] + data[place + width :]
