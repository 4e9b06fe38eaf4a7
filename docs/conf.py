"""Sphinx: the repository's own Markdown as a site. `make docs` builds it, warnings are errors.

The pages are the files as they lie in the repository, so every link works there and on the site.
docs/index.md says which page belongs where: the links under each of its headings are a part of the
navigation (`LISTS`). docs/generate.py makes the reference.
"""

import re
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx

from docs.generate import GENERATORS

ROOT = Path(__file__).parent.parent

project = "TallyLM"
root_doc = "docs/index"
LISTS = (root_doc, "docs/decisions/README")
extensions = ["myst_parser"]
include_patterns = [
    "*.md",
    "*/README.md",
    "docs/**.md",
    "docs/**/*.md",
    "tests/benchmarks/RESULTS.md",
]
exclude_patterns = [".*", "runs", "build", "data", "datasets"]
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
html_theme = "furo"
html_title = "TallyLM"
html_extra_path = ["site"]
html_show_sphinx = False
html_copy_source = False
highlight_language = "text"


def fill_generated(app: Sphinx, name: str, content: list[str]) -> None:
    """Put generated Markdown where a page asks for it."""
    content[0] = re.sub(
        r"<!-- generated: (\w+) -->", lambda found: GENERATORS[found[1]](), content[0]
    )


def add_navigation(app: Sphinx, name: str, content: list[str]) -> None:
    """Turn the links of a list of pages into navigation, a part for each of its headings."""
    if name not in LISTS:
        return
    sections = re.split(r"^## ", content[0], flags=re.M)
    for section in sections[1:] or sections:
        caption = f":caption: {section.splitlines()[0]}" if sections[1:] else ""
        links = re.findall(r"\[(.*?)\]\((.*?\.md)\)", section)
        here = ROOT / Path(name).parent
        pages = "\n".join(f"{title} <{_from_root(here / link)}>" for title, link in links)
        content[0] += f"\n```{{toctree}}\n:hidden:\n{caption}\n\n{pages}\n```\n"


def _from_root(path: Path) -> str:
    return f"/{path.resolve().relative_to(ROOT)}"


def name_folders(app: Sphinx, document: nodes.document) -> None:
    """Links to folders of the repository become their names: the site does not have them."""
    here = ROOT / Path(app.env.docname).parent
    for link in list(document.findall(pending_xref)):
        if (here / link["reftarget"]).is_dir():
            link.replace_self(link.children)


def setup(app: Sphinx) -> None:
    """Register the hooks above."""
    app.connect("source-read", fill_generated)
    app.connect("source-read", add_navigation)
    app.connect("doctree-read", name_folders)
