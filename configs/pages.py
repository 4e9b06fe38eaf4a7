"""What the HTML pages share: one environment that escapes everything, one style sheet, pictures.

Documents are hostile: whatever a template prints is escaped, and characters that control the
terminal or turn the direction of the text around them are replaced first.
"""

import re
from pathlib import Path

from jinja2 import ChoiceLoader, Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_SHARED = Path(__file__).parent / "pages"
# Control characters, and those that turn the direction of the text around them.
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def clean(text: str) -> str:
    """The text without characters that could disturb what stands around it."""
    return _UNSAFE.sub("\ufffd", text)


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
