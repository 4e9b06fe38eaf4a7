"""The text that a build reads: wheels, installed packages, files, web archives, the hub."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from configs.base import Section

SourceName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]*$", max_length=100)]
"""A source's name: it becomes a directory of the dataset."""
RepoName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)?$")]
"""A repository of the hub, as `owner/name`."""
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Profile = Literal["web", "crawl", "c4", "edu", "encyclopedia", "books", "docs", "math", "none"]
"""A named set of filter rules; `docs/filters.md` says what each one drops, and why."""
Edit = Literal["c4_lines", "pii"]
"""A rule that edits text: take out lines as C4 did; replace mail and public IPv4 addresses."""


class _Source(Section):
    licence: str
    """Licence of the text, as SPDX names where they exist."""
    profile: Profile = "none"
    """Filter rules; docs/filters.md says what each drops."""
    edits: tuple[Edit, ...] | None = None
    """Rules that edit the text, in whatever order; None takes those of the profile, `[]` none."""
    min_characters: Annotated[int, Field(ge=1)] | None = None
    """Shorter documents are dropped as `short`, before all rules."""
    max_characters: Annotated[int, Field(ge=1)] | None = None
    """Longer documents are cut there, before all rules; counted as an edit."""


class WheelFile(Section):
    """One text file inside a wheel."""

    path: str
    """Inside the wheel."""
    format: Literal["lines", "doc_tags", "separated", "sections"]
    """How documents are told apart: one a line; `<doc id= url= title=>` blocks; a separator
    line; articles run together, cut at section headings."""
    separator: str | None = None
    """The separator's text, for `separated` only."""

    @model_validator(mode="after")
    def _separator_where_needed(self) -> "WheelFile":
        if (self.format == "separated") != bool(self.separator):
            raise ValueError("'separator' goes with format 'separated', and only with it")
        return self


class WheelSource(_Source):
    """Text files that a Python package carries; the wheel is read as a zip, never installed."""

    kind: Literal["wheel"]
    """Which kind of source this is."""
    requirement: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+==[A-Za-z0-9._+!-]+$")]
    """Name and exact version, as in `exllamav3==1.6.5`."""
    sha256: Sha256
    """Digest of the wheel; no other file is accepted."""
    files: Annotated[tuple[WheelFile, ...], Field(min_length=1)]
    left_out: dict[str, str] = Field(default={})
    """Files of the wheel that could be read but are not, and why (for the record)."""


class DocstringsSource(_Source):
    """Docstrings of installed packages, found by parsing their files without importing them."""

    kind: Literal["docstrings"]
    """Which kind of source this is."""
    packages: Annotated[tuple[str, ...], Field(min_length=1)]
    """Distribution names, as `pip install` takes them; read in this order."""
    skip_folders: tuple[str, ...] = ("tests", "test", "testing")
    """Folders by name, at any depth, that are not read: tests hold code, little prose."""


class _Stored(_Source):
    max_document_mb: Annotated[float, Field(gt=0)] = 16
    """Megabytes of the largest document; of JSON lines, of the whole line. What is larger is
    dropped as `too_large` and never held in memory."""

    @property
    def max_document_bytes(self) -> int:
        """The same in bytes."""
        return int(self.max_document_mb * 1_000_000)


class _Rows(_Stored):
    text: str | Annotated[tuple[str, ...], Field(min_length=1)] = "text"
    """Column or key of the text; of several, what is not empty is put together by `joiner`."""
    joiner: str = "\n\n"
    """Stands between the texts of several columns."""
    id: str | None = None
    """Column of the document id; without one, ids are `<file>#<row>`."""
    url: str | None = None
    """Column of the address the text came from."""
    id_prefix: str = ""
    """Put before every id, where ids of two sources would collide."""
    min_scores: dict[str, float] = Field(default={})
    """Columns of numbers and the least that is kept; a row below, or without a number, is
    dropped as `low_<column>`."""
    max_rows: Annotated[int, Field(ge=1)] | None = None
    """Only so many rows of every file are read, from its start."""


class _Files(_Stored):
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """Files or glob patterns, relative to the current directory, or addresses of remote storage
    as `s3://bucket/folder/*.parquet`; read in this order, the matches of one pattern sorted."""


class _Table(_Rows, _Files):
    pass


class JsonlSource(_Table):
    """JSON lines, plain or compressed (.gz, .zst, .bz2)."""

    kind: Literal["jsonl"]
    """Which kind of source this is."""


class ParquetSource(_Table):
    """Parquet files."""

    kind: Literal["parquet"]
    """Which kind of source this is."""


class TextSource(_Files):
    """Plain UTF-8 text, also compressed (.gz, .zst, .bz2): one document a file."""

    kind: Literal["text"]
    """Which kind of source this is."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """A line that stands between documents, where a file holds several."""
    id_prefix: str = ""
    """Put before every id; ids are the file, and `#<line>` where a separator cuts it."""


class WarcSource(_Files):
    """Web archives (.warc, .warc.gz); the text of a page is extracted by trafilatura.

    Also WET files, whose text was extracted before.
    """

    kind: Literal["warc"]
    """Which kind of source this is."""
    favour_precision: bool = True
    """Rather leave out text than take in menus and footers."""
    timeout_s: Annotated[float, Field(gt=0)] = 10
    """Seconds of work after which a page is dropped as `extraction_timeout`."""
    id_prefix: str = ""
    """Put before every id; ids are those of the records."""


class HubSource(_Rows):
    """Files of a dataset repository on the Hugging Face Hub, downloaded once and then local."""

    kind: Literal["hub"]
    """Which kind of source this is."""
    repo: RepoName
    """Dataset repository, as `owner/name`."""
    revision: Annotated[str, Field(min_length=1)] = "main"
    """Branch, tag or commit; the build writes down which commit that is, and stays with it."""
    files: Annotated[tuple[str, ...], Field(min_length=1)]
    """Patterns of paths in the repository, where `*` also stands for slashes; read in this
    order, the matches of one pattern sorted."""
    format: Literal["parquet", "jsonl"]
    """What the files are; JSON lines may be compressed (.gz, .zst, .bz2)."""
    max_files: Annotated[int, Field(ge=1)] | None = None
    """Only the first so many of the files."""


Source = Annotated[
    WheelSource
    | DocstringsSource
    | JsonlSource
    | ParquetSource
    | TextSource
    | WarcSource
    | HubSource,
    Field(discriminator="kind"),
]
