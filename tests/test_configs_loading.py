"""Configurations: every mistake is refused, all of them together, with the nearest valid key."""

from pathlib import Path

import pytest

from configs.build import BuildConfig
from configs.errors import ConfigError
from configs.loading import load
from configs.mixture import MixtureConfig
from configs.train import TrainConfig

GOOD = """
sources:
  web: {dataset: data/one}
phases:
  - {global_batch_tokens: 4096, length: 1.5M tokens, weights: {web: 1}}
seq_len: 256
"""


def written(path: Path, text: str) -> Path:
    file = path / "config.yaml"
    file.write_text(text)
    return file


def test_a_good_file_loads_with_exact_amounts(tmp_path: Path) -> None:
    config = load(written(tmp_path, GOOD), MixtureConfig)
    assert config.phases[0].length is not None
    assert config.phases[0].length.value == 1_500_000
    assert str(config.phases[0].length) == "1500000 tokens"
    assert load(written(tmp_path, GOOD), MixtureConfig, ["seed=7", "phases.0.name=one"]) == (
        config.model_copy(
            update={"seed": 7, "phases": (config.phases[0].model_copy(update={"name": "one"}),)}
        )
    )


def test_all_mistakes_are_told_together(tmp_path: Path) -> None:
    text = GOOD.replace("seq_len: 256", "seq_length: 256\norder: random").replace(
        "global_batch_tokens: 4096", "global_batch_tokens: -1"
    )
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), MixtureConfig)
    message = str(caught.value)
    assert "4 mistake(s)" in message
    assert "seq_length: unknown key; did you mean 'seq_len'?" in message
    assert "seq_len: Field required" in message
    assert "order: Input should be 'shuffled', 'sequential' or 'rows' (given: 'random')" in message
    assert "phases.0.global_batch_tokens: Input should be greater than 0 (given: -1)" in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("1.5M tokens", "300", "write a number and a unit"),
        ("1.5M tokens", "300 hours", "unknown unit 'hours'; units are steps, tokens, epochs"),
        ("1.5M tokens", "2 epochs", "a phase's length is in steps or tokens"),
        ("seq_len: 256", "seq_len: 1000", "4096 is not a multiple of seq_len 1000"),
        ("weights: {web: 1}", "weights: {books: 1}", "no such source: books"),
        ("weights: {web: 1}", "weights: {web: 0}", "all weights are zero"),
        ("weights: {web: 1}", "read: {web: 1 epoch}", "`weights` with `length`, or `read` alone"),
        ("seq_len: 256", "seq_len: 256\nseq_len: 512", "key 'seq_len' is given twice"),
        ("seq_len: 256", "seq_len: [", "not readable as YAML: line"),
        ("seq_len: 256", "\tseq_len: 256", "start any token; indent with spaces, never with tabs"),
        ("seq_len: 256", "seq_len: *one", "found undefined alias 'one'"),
        ("seq_len: 256", "---\nseq_len: 256", "but found another document"),
        ("{dataset: data/one}", "{dataset: data/one, spilt: val}", "did you mean 'split'?"),
    ],
)
def test_one_mistake_one_message(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        load(written(tmp_path, GOOD.replace(old, new)), MixtureConfig)


def test_bad_overrides_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is a folder; give the path of a YAML configuration"):
        load(tmp_path, MixtureConfig)
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe4")
    with pytest.raises(ConfigError, match=r"latin\.yaml: byte 6 is no UTF-8; save the file"):
        load(tmp_path / "latin.yaml", MixtureConfig)
    (tmp_path / "bom.yaml").write_text(GOOD, encoding="utf-8-sig")
    assert load(tmp_path / "bom.yaml", MixtureConfig).seq_len == 256
    with pytest.raises(ConfigError, match="write it as"):
        load(written(tmp_path, GOOD), MixtureConfig, ["seed"])
    with pytest.raises(ConfigError, match="no such file"):
        load(tmp_path / "missing.yaml", MixtureConfig)
    with pytest.raises(ConfigError, match="'x' is not a section"):
        load(written(tmp_path, GOOD), MixtureConfig, ["seq_len.x.y=1"])


def test_a_file_extends_another_key_by_key(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    text = "extends: base.yaml\nseed: 3\nsources: {docs: {dataset: data/two}}\n"
    config = load(written(tmp_path, text), MixtureConfig, ["sources.web.split=val"])
    assert (config.seed, config.seq_len, config.sources["web"].split) == (3, 256, "val")
    assert {name: source.dataset for name, source in config.sources.items()} == {
        "web": "data/one",
        "docs": "data/two",
    }


def test_a_section_given_as_null_is_taken_out(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(GOOD)
    text = "extends: base.yaml\nsources: {web: null, docs: {dataset: data/two}}\n"
    text += "phases: [{read: {docs: 1 epoch}, global_batch_tokens: 1024}]\n"
    assert set(load(written(tmp_path, text), MixtureConfig).sources) == {"docs"}


def test_a_file_that_extends_itself_or_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text("extends: config.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load(written(tmp_path, "extends: other.yaml\n"), MixtureConfig)
    with pytest.raises(ConfigError, match=r"missing\.yaml: no such file"):
        load(written(tmp_path, "extends: missing.yaml\n"), MixtureConfig)
    with pytest.raises(ConfigError, match="give the path of one file"):
        load(written(tmp_path, "extends: [a.yaml]\n"), MixtureConfig)


def test_a_file_of_the_other_command(tmp_path: Path) -> None:
    file = tmp_path / "build.yaml"
    file.write_text("name: n\nsources: {web: {kind: jsonl, paths: [a.jsonl]}}\nsplit: {}\n")
    with pytest.raises(ConfigError, match="is it a configuration of `tally build`") as caught:
        load(file, TrainConfig)
    assert "data: Field required" in str(caught.value)


def test_a_section_that_is_new_by_a_typo(tmp_path: Path) -> None:
    file = tmp_path / "build.yaml"
    file.write_text("name: n\nsources: {web: {kind: jsonl, paths: [a.jsonl]}}\n")
    with pytest.raises(ConfigError, match=r"sources\.wbe: has no 'kind'; give it, or mend"):
        load(file, BuildConfig, ["sources.wbe.id=key"])
