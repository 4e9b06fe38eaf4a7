"""JSON from files that may be damaged or come from strangers: plain values, or an error of ours."""

import json
import math
from typing import Any, NoReturn

from shards.errors import DatasetError


def parse_json(raw: bytes, where: str, error: type[Exception] = DatasetError) -> Any:
    """Parse JSON strictly: UTF-8, finite numbers, text that can be written again.

    Args:
        raw: the file's content, or a line of it.
        where: the file and place, for the message.
        error: what to raise.

    Raises:
        DatasetError: not JSON, or nested deeper than anything of ours; or `error` instead.
    """
    try:
        text = raw.decode("utf-8")
        value = json.loads(text, parse_constant=_refuse, parse_float=_finite)
        if "\\u" in text:  # half a surrogate pair can be escaped, and nothing can store it
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as reason:
        said = " ".join(str(reason).split())[:200]
        raise error(f"{where}: not readable as JSON ({said}); restore the file") from None
    return value


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is out of range")
    return value
