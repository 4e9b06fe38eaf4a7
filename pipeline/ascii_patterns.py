"""Regular expressions cut down to what can match in ASCII: most text, and quicker to search.

spaCy's patterns list letters and signs of all scripts. In a chunk of ASCII nearly all of them
cannot match, but Python tries one alternative after the other at every position.
"""

import re
from collections.abc import Iterator
from itertools import groupby

_PART = re.compile(
    r"\\u[0-9A-Fa-f]{4}|\\U[0-9A-Fa-f]{8}|\\.|\[(?:\\.|[^\]\\])*\]|\(\?(?:<?[=!]|:)|.", re.DOTALL
)
"""A character, escaped or not; a class of characters; the beginning of a group."""
_NOTHING = r"[^\s\S]"


def ascii_form(pattern: str) -> str:
    """A pattern that finds in any text of ASCII what the given one finds.

    Args:
        pattern: alternatives of literals, escapes, classes and groups; a quantifier stands behind
            ASCII only, and every alternative ends with the same anchor or none does.
    """
    kept = [parts for parts in map(_without_others, _alternatives(pattern)) if parts]
    out = list[str]()
    for frame, forms in groupby(kept, _frame):
        if frame is None:
            out += map("".join, forms)
        else:
            out.append(f"{frame[0]}[{''.join(map(_letter, forms))}]{frame[1]}")
    return "|".join(out)


def _alternatives(pattern: str) -> Iterator[list[str]]:
    """The parts of every alternative that is not inside a group."""
    parts, depth = list[str](), 0
    for part in _PART.findall(pattern):
        depth += part.startswith("(") - (part == ")")
        if part == "|" and not depth:
            yield parts
            parts = []
        else:
            parts.append(part)
    yield parts


def _without_others(parts: list[str]) -> list[str]:
    """The alternative with classes cut down to ASCII; empty where it needs another character."""
    forms = [_class(part) if part.startswith("[") else part for part in parts]
    depth = 0
    for form in forms:
        depth += form.startswith("(") - (form == ")")
        if not depth and (form == _NOTHING or not _is_ascii(form)):
            return []
    return forms


def _is_ascii(part: str) -> bool:
    return part.isascii() and not (part[:2] in ("\\u", "\\U") and int(part[2:], 16) > 127)


def _class(part: str) -> str:
    found = "".join(re.escape(c) for c in map(chr, range(128)) if re.fullmatch(part, c))
    return f"[{found}]" if found else _NOTHING


def _frame(parts: list[str]) -> tuple[str, str] | None:
    """The anchors around an alternative of one character; None for all others."""
    before, after = parts[0] == "^", parts[-1] == "$"
    middle = parts[before : len(parts) - after]
    if len(middle) != 1 or middle[0] in ("^", "$", "."):
        return None
    return "^" * before, "$" * after


def _letter(parts: list[str]) -> str:
    """The one character, as in a class."""
    part = next(part for part in parts if part not in ("^", "$"))
    return part[1:-1] if part.startswith("[") else part if part[0] == "\\" else re.escape(part)
