"""Sources that are shipped by name: `{preset: wikipedia_en}` stands for configs/sources/*.yaml.

Keys beside `preset` take the place of the preset's own, so `{preset: c4_en, max_files: 2}` is the
beginning of C4.
"""

import difflib
from pathlib import Path
from typing import Any

from configs.errors import ConfigError
from configs.loading import parse_yaml

PRESETS = Path(__file__).parent / "sources"


def with_presets(sources: dict[str, Any]) -> dict[str, Any]:
    """The sources of a configuration, presets written out.

    Raises:
        ConfigError: there is no preset of that name; says which is near.
    """
    return {name: _written_out(name, values) for name, values in sources.items()}


def _written_out(source: str, values: Any) -> Any:
    if not isinstance(values, dict) or "preset" not in values:
        return values
    preset = values["preset"]
    known = sorted(path.stem for path in PRESETS.glob("*.yaml"))
    if preset not in known:
        near = difflib.get_close_matches(str(preset), known, n=1) or known
        raise ConfigError(f"source '{source}': no preset '{preset}'; there is {', '.join(near)}")
    written = parse_yaml((PRESETS / f"{preset}.yaml").read_text(encoding="utf-8"))
    return written | {key: value for key, value in values.items() if key != "preset"}
