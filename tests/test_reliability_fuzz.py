"""A few thousand damaged files for every parser; `python -m tests.fuzz --cases 1000000` is more."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from configs.errors import ConfigError
from configs.loading import parse_yaml
from configs.text_sources import WarcSource
from pipeline.errors import BuildError
from pipeline.streams import InputFile
from pipeline.warc import ReadWarc
from shards.errors import DatasetError
from shards.json_input import parse_json
from shards.plan import Plan
from shards.tokenizer_file import MOST_IDS, load_tokenizer
from tests.fuzz import all_targets, fuzz
from tests.fuzz_targets import small_plan
from tests.helpers import byte_tokenizer
from tests.test_pipeline_sources_text import RIVERS, archive, page

_CASES = 25
_NAMES = ["a", *(f"a{i}" for i in range(40))]
_LAUGHS = "a: &a [1, 1]\n" + "".join(
    f"{name}: &{name} [*{before}, *{before}]\n" for before, name in pairwise(_NAMES)
)


@pytest.mark.filterwarnings("ignore")
def test_parsers_raise_only_our_own_errors(tmp_path: Path) -> None:
    for target in all_targets(tmp_path):
        outcome = fuzz(target, seed=3, count=_CASES)
        assert not outcome.bugs, f"{target.name}: {[bug.said for bug in outcome.bugs]}"
        assert outcome.read + outcome.refused == _CASES


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"a": NaN}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud800"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        "{}".encode("utf-16"),
        b"\xed\xa0\x80",
        b"",
    ],
    ids=["deep", "nan", "infinity", "too large", "half a pair", "long", "utf-16", "half", "empty"],
)
def test_json_that_is_none(text: bytes) -> None:
    with pytest.raises(DatasetError, match="here: not readable as JSON"):
        parse_json(text, "here")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_LAUGHS, "values, references written out"),
        ("a: &a {b: *a}", "values, references written out"),
        ("? [1, 2]\n: 3", "line 1: a list or mapping as a key"),
        ("a: 2001-99-99", "month must be in 1"),
        ("a: " + "[" * 1000, "not readable as YAML"),
        ("!!python/object/apply:os.system ['echo hacked']", "could not determine a constructor"),
    ],
    ids=["blown up", "in itself", "key", "date", "deep", "code"],
)  # fmt: skip
def test_yaml_that_is_refused(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_yaml(text)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seq_len",), 0),
        (("seq_len",), True),
        (("order",), "random"),
        (("sources", 0, "tokens"), -1),
        (("sources", 0, "tokens"), 3),
        (("sources", 1, "name"), "a"),
        (("phases", 0, "batch_windows"), 0),
        (("phases", 0, "batch_windows"), 1 << 60),
        (("phases", 0, "num_steps"), 1 << 61),
        (("phases", 0, "weights"), ("1/2",)),
        (("phases", 0, "weights"), ("0", "0")),
        (("phases", 0, "weights"), ("1/0", "1")),
        (("phases", 0, "weights"), ("1e999999999", "1")),
        (("phases", 0, "weights"), ("-1", "1")),
        (("phases", 0, "seq_len"), "8"),
        (("phases",), []),
        (("seq_len",), (1 << 31) + 1),
        (("seed",), -(1 << 63) - 1),
        (("seed",), (1 << 64) + 1),
        (("document_mask",), 1),
        (("sources", 0, "split"), None),
        (("sources", 0, "tokens"), (1 << 50) + 1),
        (("sources", 0, "masked"), 1),
        (("phases", 0, "name"), 1),
        (("phases", 0, "restart"), 0),
        (("phases", 0, "num_steps"), -1),
        (("phases", 0, "num_steps"), (1 << 58) + 1),
        (("phases", 0, "batch_windows"), (1 << 28) + 1),
        (("phases", 0, "weights"), ("1/" + "9" * 199, "1")),
        (("phases", 1, "seq_len"), 0),
    ],
    ids=str,
)
def test_a_strangers_plan_is_looked_at_before_it_is_used(
    path: tuple[str | int, ...], value: object
) -> None:
    assert Plan.from_json(small_plan().to_json()) == small_plan()
    with pytest.raises(DatasetError, match="not a plan of ours"):
        Plan.from_json(_changed_plan(path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("seq_len",), 1),
        (("seed",), -(1 << 63)),
        (("seed",), 1 << 64),
        (("sources", 0, "tokens"), 1 << 50),
        (("sources", 0, "masked"), True),
        (("phases", 0, "num_steps"), 0),
        (("phases", 0, "num_steps"), 1 << 58),  # of four windows each
        (("phases", 0, "batch_windows"), 1),
        (("phases", 0, "batch_windows"), 1 << 28),
        (("phases", 0, "weights"), ("1/" + "9" * 198, "1")),
        (("phases", 0, "weights"), ("0", "1")),
        (("phases", 1, "seq_len"), 1),
    ],
    ids=str,
)
def test_a_plan_at_the_limits_is_taken(path: tuple[str | int, ...], value: object) -> None:
    Plan.from_json(_changed_plan(path, value))


def test_a_source_without_a_window_is_taken_where_it_has_no_weight() -> None:
    values = _changed_plan(("sources", 0, "tokens"), 8)  # one too few for a window of 8
    with pytest.raises(DatasetError, match="source 'a' has no window"):
        Plan.from_json(values)
    for phase in values["phases"]:
        phase["weights"] = ["0", "1"]
    Plan.from_json(values)
    rows = _changed_plan(("sources", 0, "tokens"), 1) | {"order": "rows"}
    Plan.from_json(rows)
    rows["sources"][0]["tokens"] = 0
    with pytest.raises(DatasetError, match="source 'a' has no window"):
        Plan.from_json(rows)


def _changed_plan(path: tuple[str | int, ...], value: object) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(small_plan().to_json()))
    place: Any = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return values


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (b"WARC-Date", "behind row 0 .*a record without 'archive-date'"),
        (b"WARC-Target-URI", "at its start .*a record that cannot be read"),
    ],
)
def test_a_web_archive_whose_records_lack_a_header(
    tmp_path: Path, header: bytes, said: str
) -> None:
    path = tmp_path / "pages.warc"
    archive(path, [("response", "text/html", page(*RIVERS))] * 2)
    before, found, after = path.read_bytes().rpartition(header)
    if b"Date" not in header:
        before, found, after = path.read_bytes().partition(header)
    path.write_bytes(before + b"X" * len(found) + after)
    spec = WarcSource(kind="warc", licence="x", paths=(str(path),))
    with pytest.raises(BuildError, match=said):
        list(ReadWarc([InputFile(str(path), "f")], spec).run())


@pytest.mark.parametrize(("largest", "refused"), [(MOST_IDS - 1, False), (2**32 - 1, True)])
def test_an_id_beyond_any_vocabulary(tmp_path: Path, largest: int, refused: bool) -> None:
    """`tokenizers` asks for memory in proportion to the largest id when such a file is written."""
    content = json.loads(byte_tokenizer().to_str())
    last = max(content["model"]["vocab"], key=content["model"]["vocab"].get)
    content["model"]["vocab"][last] = largest
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    if refused:
        with pytest.raises(DatasetError, match=r"has the id 4,294,967,295; ids must be below"):
            load_tokenizer(path)
    else:
        assert load_tokenizer(path).token_to_id(last) == largest
