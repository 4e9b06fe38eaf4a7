"""The model card, written from receipts alone.

    RUN/card/README.md       for the hub
    RUN/card/card.html       for people; one file, no network
    RUN/card/curve-*.svg     the figures of the README
    RUN/card/receipts.json   every fact: what is shown, its value, where it comes from

train/card_check.py reads the receipts again.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shards.atomic import write_json_atomic, write_text_atomic
from shards.plan_file import load_plan
from shards.reader import Dataset
from shards.remote import is_remote
from train import card_audit, card_cost, card_data, card_recipe, card_results
from train.card_content import Card, Figure, Line, Metadata, line
from train.card_markdown import render_markdown
from train.card_page import render_page
from train.curves import STANDALONE_STYLE
from train.errors import TrainError
from train.facts import Evidence, Fact

RECEIPTS_NAME = "receipts.json"
_RECEIPT_FORMAT = 1
PAGES = ("README.md", "card.html")
_FOOTER = (
    "Every figure on this page was read from a file of the run, the dataset or the audit; point "
    "at one to see which. card/receipts.json lists them all, `tally card RUN --verify` reads them "
    "again."
)


@dataclass(frozen=True)
class Rendered:
    """The files of a card, and the facts they may show."""

    files: dict[str, str]
    facts: dict[str, Fact]

    @property
    def shown(self) -> set[str]:
        """Ids of the facts that some page shows."""
        return {fact for page in PAGES for fact in shown_ids(self, page)}


def write_card(run_dir: Path, audit: Path | None = None) -> Path:
    """Write RUN/card from whatever result files are there; returns the folder.

    Args:
        run_dir: the RUN directory.
        audit: an audit directory (`audit.json`) of the run's dataset.

    Raises:
        TrainError: no run, or an audit of another dataset.
    """
    rendered = render(run_dir, audit)
    folder = run_dir / "card"
    for name, text in rendered.files.items():
        write_text_atomic(folder / name, text)
    shown = {name: shown_ids(rendered, name) for name in PAGES}
    used = {fact for ids in shown.values() for fact in ids}
    receipts = {
        "format": _RECEIPT_FORMAT,
        "audit": str(audit.resolve()) if audit else None,
        "pages": shown,
        "facts": {i: _entry(fact) for i, fact in rendered.facts.items() if i in used},
    }
    write_json_atomic(folder / RECEIPTS_NAME, receipts)
    if (run_dir / "export" / "export.json").exists():
        for path in folder.iterdir():
            if path.suffix in (".md", ".svg"):
                shutil.copyfile(path, run_dir / "export" / path.name)
    return folder


def render(run_dir: Path, audit: Path | None = None) -> Rendered:
    """The card's files as the run's files give them now; the same files give the same text."""
    evidence = Evidence(find_roots(run_dir, audit))
    _check_same_model(run_dir)
    card = build_card(evidence, run_dir.resolve().name)
    figures = [b for s in card.sections for b in s.blocks if isinstance(b, Figure)]
    names = {figure.wide: f"curve-{number}.svg" for number, figure in enumerate(figures, start=1)}
    files = {name: _standalone(svg) for svg, name in names.items()}
    files["README.md"] = render_markdown(card, names)
    files["card.html"] = render_page(card)
    return Rendered(files, evidence.facts)


def find_roots(run_dir: Path, audit: Path | None) -> dict[str, Path]:
    """Directories that receipts speak of: the run, its datasets, the audit.

    Raises:
        TrainError: no run there, or the audit is of another dataset.
    """
    if not (run_dir / "plan.json").is_file():
        raise TrainError(f"{run_dir}: no plan.json; is this a run of `tally train`?")
    plan, addresses = load_plan(run_dir / "plan.json")
    roots = {"run": run_dir}
    for address, root in card_data.dataset_roots(addresses).items():
        roots[root] = Dataset.open(address).path if is_remote(address) else Path(address)
    if audit is not None:
        _check_audit(audit, {source.dataset_id for source in plan.sources})
        roots["audit"] = audit
    return roots


def _check_audit(audit: Path, dataset_ids: set[str]) -> None:
    path = audit / "audit.json"
    if not path.is_file():
        raise TrainError(f"{audit}: no audit.json; run `tally audit DATASET -o {audit}` first")
    audited = card_audit.audited_dataset(json.loads(path.read_bytes()))
    if audited is not None and audited not in dataset_ids:
        raise TrainError(
            f"{path}: an audit of dataset {audited}, the run was trained on "
            f"{', '.join(sorted(dataset_ids))}; give the audit of that dataset"
        )


def _check_same_model(run_dir: Path) -> None:
    """A card describes one model: results of different checkpoints must not stand together."""
    found: dict[str, list[str]] = {}
    for path in [*sorted((run_dir / "eval").glob("*.json")), run_dir / "export" / "export.json"]:
        if path.is_file() and (model := json.loads(path.read_bytes()).get("model")):
            name = f"{path.relative_to(run_dir)} (step {model['step']})"
            found.setdefault(model["weights_blake3"], []).append(name)
    if len(found) > 1:
        groups = "; ".join(", ".join(names) for names in found.values())
        raise TrainError(
            f"{run_dir}: results of different checkpoints: {groups}. Run `tally eval`, `generate` "
            "and `export` again on one of them, or delete what is out of date"
        )


def build_card(evidence: Evidence, fallback_name: str) -> Card:
    """Everything that can be said with a receipt."""
    scores = card_results.scores(evidence)
    in_part = any(score.partial for score in scores)
    sections = [
        card_data.data_section(evidence),
        card_recipe.training_section(evidence),
        card_results.held_out_section(evidence),
        card_results.benchmark_section(evidence),
        card_audit.audit_section(evidence),
        card_results.sample_section(evidence),
        card_recipe.model_section(evidence),
        card_data.funnel_section(evidence),
        card_results.reproduce_section(evidence),
        card_data.limits(evidence, in_part),
    ]
    return Card(
        kicker="Model card",
        title=str(evidence.raw("run/config.yaml", "/name") or fallback_name),
        summary=_summary(evidence),
        tiles=card_results.tiles(evidence),
        sections=tuple(found for found in sections if found is not None),
        scores=scores,
        footer=_FOOTER,
        metadata=_metadata(evidence),
    )


def _metadata(evidence: Evidence) -> Metadata:
    on_hub = evidence.raw("run/origin.json", "/revision") is not None
    return Metadata(
        license=evidence.fact(card_cost.STATED, "/license"),
        datasets=card_data.hub_repositories(evidence),
        base_model=evidence.fact("run/origin.json", "/model") if on_hub else None,
    )


def _summary(evidence: Evidence) -> Line:
    size = line("A language model of ", card_recipe.parameters(evidence), " parameters")
    origin = card_recipe.origin_line(evidence)
    began = (", trained on from ", *origin, " with ") if origin else (", trained from scratch on ",)
    read = line(
        *began,
        card_data.total(evidence, "tokens"),
        " tokens (",
        card_data.total(evidence, "unique_tokens"),
        " of them different positions of the data)",
    )
    names = [source.name for source in card_data.sources(evidence)]
    listed = " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))
    return (*(size or ("A language model",)), *(read or ()), f" from {listed}.")


def shown_ids(rendered: Rendered, page: str) -> list[str]:
    """Ids of the facts that a page shows, in order."""
    from train.card_check import marks

    return [mark.fact for mark in marks(page, rendered.files[page])]


def _entry(fact: Fact) -> dict[str, Any]:
    return {
        "shown": fact.shown,
        "value": fact.value,
        "style": fact.style,
        "receipt": dict(fact.receipt),
    }


def _standalone(svg: str) -> str:
    start = svg.index(">") + 1
    return svg[:start] + STANDALONE_STYLE + svg[start:] + "\n"
