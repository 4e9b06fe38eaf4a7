"""Writes `pipeline/english_words.json`, the rules of spaCy's English tokenizer, from a spaCy.

spaCy is not among the project's dependencies; the file needs writing again only if datatrove's word
rules are to follow a newer one. In an environment that has it:

    python tests/benchmarks/write_english_words.py pipeline/english_words.json
"""

import json
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import spacy
from spacy.pipeline import Sentencizer

LICENCE = "MIT, Copyright (C) 2016-2026 ExplosionAI GmbH, 2016 spaCy GmbH, 2015 Matthew Honnibal"


def main(path: Path) -> None:
    """Write the rules to `path`."""
    words: Any = spacy.blank("en").tokenizer
    patterns = {
        "prefix": words.prefix_search,
        "suffix": words.suffix_search,
        "infix": words.infix_finditer,
        "url": words.url_match,
    }
    rules: dict[str, Any] = {"source": f"spaCy {version('spacy')}", "licence": LICENCE}
    rules |= {name: bound.__self__.pattern for name, bound in patterns.items()}
    parts = {chunk: [token[65] for token in rule] for chunk, rule in words.rules.items()}
    rules["special"] = {k: parts[k] for k in sorted(parts) if not any(map(str.isspace, k))}
    rules["end_marks"] = "".join(sorted(Sentencizer().punct_chars))
    path.write_text(json.dumps(rules, indent=0, ensure_ascii=True) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
