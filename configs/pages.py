"""What the HTML pages share: one environment that escapes everything, one style sheet, pictures.

Documents are hostile: whatever a template prints is escaped, and characters that control the
terminal or turn the direction of the text around them are replaced first.
"""

import base64
import hashlib
import re
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_SHARED = Path(__file__).parent / "pages"
# Control characters, and those that turn the direction of the text around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without characters that could disturb what stands around it."""
    return _UNSAFE.sub("\ufffd", text)


class Script(NamedTuple):
    """A page's script and what its security policy calls it: no other may run."""

    source: Markup
    digest: str


def sort_script() -> Script:
    """Sorts the tables of class "sortable"."""
    return script_of(_SHARED / "sort.js")


def script_of(path: Path) -> Script:
    """A script of ours, ready for a page."""
    source = path.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
    return Script(Markup(source), f"sha256-{digest}")  # our own file


def environment(folder: Path) -> Environment:
    """Templates of a folder, which may include those in configs/pages."""
    return Environment(
        loader=ChoiceLoader([FileSystemLoader(folder), FileSystemLoader(_SHARED)]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
    )


def _finalize(value: object) -> object:
    return clean(value) if isinstance(value, str) and not isinstance(value, Markup) else value
