"""Large inputs in parts: every row of a Parquet file once, a bounded sample to train on."""

from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from configs.build import SplitConfig
from configs.text_sources import ParquetSource
from pipeline.bpe import Sample
from pipeline.dedup import SCHEMA
from pipeline.documents import DocumentFile, document
from pipeline.streams import InputFile
from pipeline.tables import ReadParquet, into_parts, row_groups


def test_files_are_cut_at_64_mb() -> None:
    files = [InputFile("a", "a"), InputFile("b", "b")]
    parts = into_parts(files, [130_000_000, 5])
    assert [(file.name, file.part, size) for file, size in parts] == [
        ("a", (0, 3), 43_333_333),
        ("a", (1, 3), 43_333_333),
        ("a", (2, 3), 43_333_333),
        ("b", (0, 1), 5),
    ]


def test_a_source_has_a_bounded_number_of_parts() -> None:
    parts = into_parts([InputFile("a", "a"), InputFile("b", "b")], [10**13, 10**9])
    assert len(parts) == 10_001
    assert parts[0][1] == 10**13 // 10_000


def test_parts_have_every_row_once_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    pl.DataFrame({"text": [f"text {i}" for i in range(10)]}).write_parquet(path, row_group_size=3)
    assert row_groups(pq.read_metadata(path), 0, 1) == ([0, 1, 2, 3], 0)
    for parts in (1, 2, 3, 7):
        files = [InputFile(str(path), "rows", part=(i, parts)) for i in range(parts)]
        for most, wanted in ((None, 10), (5, 5)):
            spec = ParquetSource(
                kind="parquet", licence="CC0-1.0", paths=(str(path),), max_rows=most
            )
            reader = ReadParquet(files, spec)
            found = [doc for rank in range(parts) for doc in reader.run(rank=rank)]
            assert [doc.metadata["origin_row"] for doc in found] == list(range(wanted))
            assert [doc.text for doc in found] == [f"text {i}" for i in range(wanted)]


def test_a_tokenizer_is_trained_on_a_share_chosen_by_content(tmp_path: Path) -> None:
    texts = [f"text number {i:04d}" for i in range(400)]
    (tmp_path / "duplicates").mkdir()
    pq.write_table(SCHEMA.empty_table(), tmp_path / "duplicates/00000.parquet")
    for name, order in (("a", texts), ("b", texts[::-1])):
        with DocumentFile(tmp_path / f"{name}.parquet") as file:
            for row, text in enumerate(order):
                file.add(document(f"d{row}", text, "f", row))

    def taken(name: str, most: int) -> tuple[set[str], Sample]:
        inputs = [("s", tmp_path / f"{name}.parquet")]
        sample = Sample(inputs, tmp_path / "duplicates", [], SplitConfig(val_fraction=0), most)
        return {text for batch in sample.texts() for text in batch}, sample

    everything, sample = taken("a", 10**9)
    assert everything == set(texts)
    assert sample.facts == {"share": 1.0, "documents": 400, "characters": 6400}
    part, sample = taken("a", 1600)
    assert sample.facts["share"] == 0.25
    assert 70 < sample.facts["documents"] == len(part) < 130
    assert taken("b", 1600)[0] == part
