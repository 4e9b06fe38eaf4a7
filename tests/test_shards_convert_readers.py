"""Other people's own readers and writers: datatrove here, Megatron and OLMo where installed.

docs/interchange.md says how to make a throw-away environment that has the latter two.
"""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset

from shards.convert_import import Wanted
from shards.reader import Dataset
from shards.verify import verify_dataset
from tests.helpers_convert import (
    SHARD_TOKENS,
    TEXTS,
    WIDE_EOS,
    bring,
    export,
    ids_of,
    narrow_dataset,
    save_tokenizer,
    texts_of,
    wide_dataset,
)

MAKERS = {"uint16": narrow_dataset, "uint32": wide_dataset}


def imported(module: str) -> Any:
    """A package that is no dependency of ours; its warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(module, reason="see docs/interchange.md", exc_type=ImportError)


def shards_of(dataset: Dataset) -> list[list[list[int]]]:
    """Every shard of a/train as its documents' tokens."""
    stream = dataset.stream("a")
    rows = stream.documents().select("shard", "token_start", "token_count").iter_rows()
    shards: list[list[list[int]]] = [[] for _ in stream.facts.shards]
    for shard, start, count in rows:
        shards[shard].append(stream.tokens(start, start + count).tolist())
    return shards


@pytest.mark.parametrize("dtype", MAKERS)
def test_datatrove_reads_ours(tmp_path: Path, dtype: str) -> None:
    ours = MAKERS[dtype](tmp_path / "ours")
    export(ours, tmp_path / "theirs", "datatrove")
    folder, width = tmp_path / "theirs/a/train", np.dtype(dtype).itemsize
    theirs = DatatroveFolderDataset(
        str(folder), seq_len=4, filename_pattern="*.ds", token_size=width, return_positions=True
    )
    read = [item["input_ids"].tolist() for item in theirs]
    # Windows of 5 tokens a file, its tail left out: theirs, not ours.
    flat = [[i for document in shard for i in document] for shard in shards_of(ours)]
    whole = [shard[at : at + 5] for shard in flat for at in range(0, len(shard) // 5 * 5, 5)]
    assert read == whole


def test_datatrove_sees_our_documents(tmp_path: Path) -> None:
    ours = narrow_dataset(tmp_path / "ours")
    export(ours, tmp_path / "theirs", "datatrove")
    for number, documents in enumerate(shards_of(ours)):
        path = tmp_path / f"theirs/a/train/{number:05d}.ds"
        length = sum(map(len, documents))
        item = DatatroveFileDataset(str(path), length - 1, return_positions=True)[0]
        expected = [place for document in documents for place in range(len(document))]
        assert item["positions"].tolist() == expected


@pytest.mark.parametrize("width", [2, 4])
def test_what_datatrove_writes_we_read(tmp_path: Path, width: int) -> None:
    save_tokenizer(tmp_path / "theirs")
    file = TokenizedFile(str(tmp_path / "theirs"), "00000_train.ds", token_size=width)
    for text in TEXTS:
        file.write([*ids_of(text), 0], None)
    file.close()
    bring(tmp_path / "theirs", tmp_path / "ours", "datatrove", Wanted(source="a"))
    assert texts_of(Dataset.open(tmp_path / "ours"), "a") == TEXTS


@pytest.mark.parametrize("dtype", MAKERS)
def test_megatron_reads_ours(tmp_path: Path, dtype: str) -> None:
    megatron = imported("megatron.core.datasets.indexed_dataset")
    ours = MAKERS[dtype](tmp_path / "ours")
    export(ours, tmp_path / "theirs", "megatron")
    for number, documents in enumerate(shards_of(ours)):
        theirs = megatron.IndexedDataset(str(tmp_path / f"theirs/a/train_{number:05d}"))
        assert [theirs[row].tolist() for row in range(len(theirs))] == documents
        assert theirs.document_indices.tolist() == list(range(len(documents) + 1))


@pytest.mark.parametrize("dtype", [np.uint16, np.int32])
def test_what_megatron_writes_we_read(tmp_path: Path, dtype: Any) -> None:
    megatron = imported("megatron.core.datasets.indexed_dataset")
    save_tokenizer(tmp_path / "theirs")
    prefix = str(tmp_path / "theirs/corpus_text_document")
    builder = megatron.IndexedDatasetBuilder(f"{prefix}.bin", dtype=dtype)
    for text in TEXTS:
        builder.add_document(np.array([*ids_of(text), 0]), [len(ids_of(text)) + 1])
    builder.finalize(f"{prefix}.idx")
    bring(tmp_path / "theirs", tmp_path / "ours", "megatron", Wanted(source="a"))
    ours = Dataset.open(tmp_path / "ours")
    assert texts_of(ours, "a") == TEXTS
    assert verify_dataset(ours.path).problems == []
    # And back again, their bytes but for the type.
    export(ours, tmp_path / "again", "megatron")
    assert sum(len(shard) for shard in shards_of(ours)) == len(TEXTS)
    if dtype == np.uint16:
        parts = sorted((tmp_path / "again/a").glob("*.bin"))
        assert b"".join(p.read_bytes() for p in parts) == Path(f"{prefix}.bin").read_bytes()


@pytest.mark.parametrize("dtype", MAKERS)
def test_olmo_reads_ours(tmp_path: Path, dtype: str) -> None:
    olmo, utils = imported("olmo_core.data"), imported("olmo_core.data.utils")
    ours = MAKERS[dtype](tmp_path / "ours")
    export(ours, tmp_path / "theirs", "olmo")
    eos = 0 if dtype == "uint16" else WIDE_EOS
    paths = sorted((tmp_path / "theirs/a/train").glob("*.npy"))
    theirs = olmo.NumpyFSLDataset(
        *map(str, paths),
        sequence_length=5,
        pad_token_id=eos,
        eos_token_id=eos,
        vocab_size=eos + 1 if eos else 257,
        dtype=getattr(np, dtype),
    )
    flat = [[i for document in shard for i in document] for shard in shards_of(ours)]
    whole = [shard[at : at + 5] for shard in flat for at in range(0, len(shard) // 5 * 5, 5)]
    assert [theirs[row]["input_ids"].tolist() for row in range(len(theirs))] == whole
    for path, documents in zip(paths, shards_of(ours), strict=True):
        ends = np.cumsum([len(document) for document in documents]).tolist()
        spans = list(zip([0, *ends], ends, strict=False))
        assert list(utils.iter_document_indices(str(path), use_array_if_local=False)) == spans
        cut = utils.iter_document_indices(str(path), eos_token_id=eos, dtype=getattr(np, dtype))
        assert [(int(start), int(end)) for start, end in cut] == spans


def test_nanogpt_reads_ours(tmp_path: Path) -> None:
    """The line of nanoGPT's get_batch, over the joined shards."""
    ours = narrow_dataset(tmp_path / "ours")
    assert ours.stream("a").num_tokens > SHARD_TOKENS
    export(ours, tmp_path / "theirs", "nanogpt")
    data = np.memmap(tmp_path / "theirs/a/train.bin", dtype=np.uint16, mode="r")
    assert data.tolist() == [i for s in shards_of(ours) for d in s for i in d]
