"""The stages of a build, wired together: what each reads, what its key covers."""

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from configs.build import BuildConfig
from contamination.benchmarks import load_benchmarks
from pipeline.decontamination_plan import DecontaminationPlanner, DecontaminationStages
from pipeline.dedup_files import working_bytes
from pipeline.dedup_held import open_held
from pipeline.dedup_plan import DedupPlanner, DedupStages
from pipeline.filtered import Filtered
from pipeline.funnel_sums import DECONTAMINATE, PASSAGES
from pipeline.given_tokenizer import GivenTokenizer
from pipeline.source_code import code_of, versions
from pipeline.source_plan import SourcePlanner
from pipeline.sources import ResolvedSource
from pipeline.stages import Stage, stage_key
from pipeline.token_plan import TokenPlanner


class Plan(NamedTuple):
    """All stages of a build, in the order in which they run."""

    download: dict[str, Stage]
    """Of the sources that are read from afar."""
    extract: dict[str, Stage]
    filtered: Filtered
    find_duplicates: DedupStages
    """Up to the decision, `dedup`."""
    dedup: Stage
    decontaminate: DecontaminationStages | None
    """None where the configuration asks for none."""
    tokenizer: Stage
    encoder: Stage
    encode: Stage
    layout: Stage
    pack: Stage

    def stages(self) -> list[Stage]:
        """Every stage that is of use, in order; what is extracted need not be downloaded."""
        first = [
            stage for name, stage in self.download.items() if self.extract[name].facts() is None
        ]
        between = [*self.find_duplicates.needed(), *(self.decontaminate or ())]
        last = [self.tokenizer, self.encoder, self.encode, self.layout, self.pack]
        return [*first, *self.extract.values(), *self.filtered.stages.values(), *between, *last]

    def revising(self) -> dict[str, Stage]:
        """The stages that revise texts after the filters, by their names in the funnel."""
        return _revising(self.find_duplicates, self.decontaminate)


def _revising(found: DedupStages, clean: DecontaminationStages | None) -> dict[str, Stage]:
    cut = {PASSAGES: found.passages.cut} if found.passages else {}
    return cut | ({DECONTAMINATE: clean.remove} if clean else {})


class Planner:
    """Makes the plan of one build.

    Args:
        config: the build's configuration.
        sources: its sources, found and pinned.
        given: its tokenizer; None trains one.
        work: directory that gets the stages' directories.
    """

    def __init__(
        self,
        config: BuildConfig,
        sources: dict[str, ResolvedSource],
        given: GivenTokenizer | None,
        work: Path,
    ) -> None:
        self.config, self.sources, self.given, self.work = config, sources, given, work
        self.versions = versions()
        self.held = open_held(config.dedup.against)
        wanted = config.decontamination
        self.benchmarks = load_benchmarks(wanted.benchmarks) if wanted else []

    def plan(self) -> Plan:
        """All stages; nothing is read or written."""
        sources = SourcePlanner(self.sources, self._stage)
        downloads, extract = sources.downloads(), sources.extract()
        filtered = sources.filtered(extract)
        found = self._dedup(filtered)
        deduped, clean = found.decide, self._decontaminate(filtered, found)
        revised = _revising(found, clean)
        inputs = (self.config, self.sources, self.given, filtered, deduped, revised)
        tokens = TokenPlanner(*inputs, self._stage)
        tokenizer = tokens.tokenizer()
        encoder = tokens.encoder(tokenizer)
        encode = tokens.encode(tokenizer, encoder)
        laid_out = tokens.layout(encode, tokenizer)
        pack = tokens.pack(encode, laid_out, tokenizer, self._masks(clean))
        first = (downloads, extract, filtered, found, deduped, clean)
        return Plan(*first, tokenizer, encoder, encode, laid_out, pack)

    def _stage(
        self,
        name: str,
        modules: list[ModuleType],
        inputs: dict[str, Any],
        kind: type[Stage] = Stage,
        **rest: Any,
    ) -> Stage:
        code = code_of(module.__name__ for module in modules)
        key = stage_key(name, code, inputs | {"versions": self.versions})
        place = self.work / f"{name}-{key[:16]}"
        return kind(name=name, key=key, modules=frozenset(code), directory=place, **rest)

    def _dedup(self, filtered: Filtered) -> DedupStages:
        return DedupPlanner(
            self.config.dedup,
            self.held,
            filtered.named_files(),
            filtered.keys,
            filtered.weights,
            self._stage,
            working_bytes(self.config.dedup),
        ).plan()

    def _decontaminate(
        self, filtered: Filtered, found: DedupStages
    ) -> DecontaminationStages | None:
        wanted, revised = self.config.decontamination, _revising(found, None)
        if wanted is None:
            return None
        inputs = (self.benchmarks, filtered, found.decide, revised)
        return DecontaminationPlanner(*inputs, self._stage).plan(wanted)

    def _masks(self, clean: DecontaminationStages | None) -> Stage | None:
        wanted = self.config.decontamination
        return clean.remove if clean and wanted and wanted.action == "mask" else None
