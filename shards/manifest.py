"""DATASET/manifest.json: the contract that everything else reads; written last, atomically.

The dataset id is a hash over the manifest itself, which holds the BLAKE3 of every other file:
equal ids mean equal bytes. Clock times and host facts are therefore not in it.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from shards.atomic import write_json_atomic
from shards.errors import DatasetError
from shards.hashing import blake3_json
from shards.json_input import parse_json

FORMAT_VERSION = 1
MANIFEST_NAME = "manifest.json"


def _inside(path: str) -> str:
    parts = set(path.split("/"))  # pathlib would take most of the time of opening a dataset
    nowhere = parts <= {"", "."} or ".." in parts
    if nowhere or path.startswith("/") or "\\" in path or not path.isprintable():
        raise ValueError(f"path '{path}' leaves the dataset directory")
    return path


InsidePath = Annotated[str, AfterValidator(_inside)]
"""A relative POSIX path that stays inside the dataset directory."""
Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=100)]
"""A source or split name: it becomes a directory name."""


class FileFacts(NamedTuple):
    """What the manifest says of one file."""

    bytes: int | None
    """Size; None where it is not stated."""
    blake3: str


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class MaskFacts(_Part):
    """The file that says which tokens of a shard give no loss (see `shards.loss_mask`)."""

    path: InsidePath
    bytes: Count
    blake3: str
    tokens: Annotated[int, Field(gt=0)]
    """That give no loss."""


class ShardFacts(_Part):
    """One file of packed tokens, its document index, and the table of the documents' ids."""

    path: InsidePath
    tokens: Count
    documents: Count
    bytes: Count
    blake3: str
    index_path: InsidePath
    index_bytes: Count
    index_blake3: str
    ids_path: InsidePath
    ids_bytes: Count
    ids_blake3: str
    masked: MaskFacts | None = Field(default=None, exclude_if=lambda facts: facts is None)
    """Not stated where every token gives a loss."""


class SplitFacts(_Part):
    """One split of one source: its shards in stream order, and their totals."""

    tokens: Count
    """Tokens, the EOS of every document included."""
    documents: Count
    characters: Count
    bytes_utf8: Count
    """UTF-8 bytes of the documents' text (for bits per byte)."""
    shards: tuple[ShardFacts, ...]


class Dropped(_Part):
    """What one rule dropped."""

    documents: Count
    characters: Count
    tokens: Count | None = None


class Edited(_Part):
    """What one editing rule changed in documents that went on.

    A document whose text became shorter counts as removed by the difference, one that became longer
    as added.
    """

    documents: Count
    characters_removed: Count
    characters_added: Count
    tokens_removed: Count
    tokens_added: Count


class FunnelStage(_Part):
    """Documents, characters and tokens in and out of one stage; drops by reason, edits by rule.

    What comes out is what went in, less what was dropped and removed, plus what was added.
    """

    stage: str
    documents_in: Count
    characters_in: Count
    tokens_in: Count | None = None
    documents_out: Count
    characters_out: Count
    tokens_out: Count | None = None
    dropped: dict[str, Dropped] = {}
    edited: dict[str, Edited] = {}


class SourceFacts(_Part):
    """One source: where it came from, what became of it, what is in the dataset."""

    licence: str
    pin: dict[str, Any]
    """What exactly was read upstream: package or hub commit, files, sizes, hashes."""
    profile: str
    """Name of the filter profile."""
    edits: tuple[str, ...] = ()
    """Rules that edited the text."""
    funnel: tuple[FunnelStage, ...]
    splits: dict[Name, SplitFacts]


class RoundTripFacts(_Part):
    """Whether the tokens of a document decode to its text, tried on documents of the build."""

    why_not: str | None
    """What in the tokenizer may change a text; None where every text comes back exactly."""
    documents: Count
    """Documents that were decoded again: all that filters kept where every text comes back."""
    failed: Count
    """Of them, those whose text did not come back."""


class TrainedOn(_Part):
    """The sample of the training text that a tokenizer was trained on."""

    share: float
    """Of the documents of every source, chosen by content hash; 1 is all."""
    documents: Count
    characters: Count


class TokenizerFacts(_Part):
    """The exact tokenizer and how the tokens were made with it."""

    file: InsidePath = "tokenizer.json"
    blake3: str
    vocab_size: Annotated[int, Field(gt=0)]
    eos_id: Count
    eos_token: str
    dtype: Literal["uint16", "uint32"]
    encoder: str
    """Library and version that encoded the text."""
    encoder_check: dict[str, Any]
    """How the encoder's equality with `tokenizers` was checked, and the result."""
    trained_on: TrainedOn | None = None
    """None where the tokenizer was given."""
    pin: dict[str, Any] | None = None
    """What exactly was given: hub repository and commit, or the file's hash; None where trained."""
    round_trip: RoundTripFacts | None = None
    """None where the text was not at hand, as after an import."""


class Manifest(_Part):
    """Everything there is to know about a dataset."""

    format_version: Literal[1] = 1
    dataset_id: str = ""
    name: str
    config: dict[str, Any]
    """The resolved build configuration."""
    tokenizer: TokenizerFacts
    sources: dict[Name, SourceFacts]
    dedup: dict[str, Any]
    """Method, parameters, clusters, overlap matrix between sources."""
    decontamination: dict[str, Any] | None = None
    versions: dict[str, str]
    """Versions of the packages that determine the bytes."""

    def shards(self) -> Iterator[tuple[str, str, ShardFacts]]:
        """Yield (source, split, shard) in stream order."""
        for source, facts in self.sources.items():
            for split, split_facts in facts.splits.items():
                for shard in split_facts.shards:
                    yield source, split, shard

    def files(self) -> set[str]:
        """Relative paths of all files a complete dataset has."""
        named = {MANIFEST_NAME, self.tokenizer.file}
        for _, _, shard in self.shards():
            named |= {shard.path, shard.index_path, shard.ids_path}
            named |= {shard.masked.path} if shard.masked else set()
        return named

    def checksums(self) -> dict[str, FileFacts]:
        """Size and checksum of all files but the manifest, by relative path."""
        facts = {self.tokenizer.file: FileFacts(None, self.tokenizer.blake3)}
        for _, _, shard in self.shards():
            facts[shard.path] = FileFacts(shard.bytes, shard.blake3)
            facts[shard.index_path] = FileFacts(shard.index_bytes, shard.index_blake3)
            facts[shard.ids_path] = FileFacts(shard.ids_bytes, shard.ids_blake3)
            if shard.masked:
                facts[shard.masked.path] = FileFacts(shard.masked.bytes, shard.masked.blake3)
        return facts

    def computed_id(self) -> str:
        """The id that this manifest's content has, whatever `dataset_id` says."""
        return blake3_json(self.model_dump(mode="json", exclude={"dataset_id"}))[:32]


def seal(directory: Path, manifest: Manifest) -> Manifest:
    """Give the manifest its dataset id and write it: the dataset is complete from here on."""
    sealed = manifest.model_copy(update={"dataset_id": manifest.computed_id()})
    write_json_atomic(directory / MANIFEST_NAME, sealed.model_dump(mode="json"))
    return sealed


def load_manifest(directory: Path) -> Manifest:
    """Read DATASET/manifest.json.

    Raises:
        DatasetError: not a dataset, unknown format version or field, or an id that does not fit.
    """
    path = directory / MANIFEST_NAME
    if not path.is_file():
        missing = MANIFEST_NAME if directory.exists() else "such directory"
        raise DatasetError(
            f"{directory}: no {missing}, so not a complete dataset; "
            "run `tally build` (again) with this output directory"
        )
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """Check the bytes of a manifest.

    Args:
        raw: the file's content.
        where: the file, for messages.

    Raises:
        DatasetError: unknown format version or field, or an id that does not fit.
    """
    manifest = _parse(raw, where)
    if manifest.dataset_id != manifest.computed_id():
        raise DatasetError(
            f"{where}: dataset_id is {manifest.dataset_id} but its content hashes to "
            f"{manifest.computed_id()}: the manifest was edited; rebuild or restore it"
        )
    return manifest


def _parse(raw: bytes, where: str) -> Manifest:
    values = parse_json(raw, where)
    version = values.get("format_version") if isinstance(values, dict) else None
    if version != FORMAT_VERSION:
        raise DatasetError(
            f"{where}: format version {version!r}, this release reads {FORMAT_VERSION}"
        )
    try:
        return Manifest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise DatasetError(f"{where}: {field}: {first['msg']}; not a manifest of ours") from None
