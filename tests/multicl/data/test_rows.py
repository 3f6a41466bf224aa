from __future__ import annotations

import gc
import gzip
import io
import json
import re
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from multicl import InputError
from multicl.data.cells import blamed, file_of, is_null, resolve_path
from multicl.data.rows import Rows, open_rows
from multicl.data.sources.reasons import reason

CELLS = [{"name": "x", "n": 1}, {"name": "y", "n": 2}, {"name": None, "n": 3}]


def png(value: int = 0) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4, 4), (value, value, value)).save(out, "PNG")
    return out.getvalue()


def sound(kind: str = "WAV") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, np.zeros(80, np.float32), 8000, format=kind)
    return out.getvalue()


def write(folder: Path, kind: str) -> Path:
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(CELLS), path)
    elif kind in ("jsonl", "ndjson"):
        path.write_text("".join(json.dumps(row) + "\n" for row in CELLS))
    elif kind == "json":
        path.write_text(json.dumps(CELLS))
    elif kind == "csv":
        path.write_text("name,n\nx,1\ny,2\n,3\n")
    elif kind == "csv.gz":
        pd.DataFrame(CELLS).to_csv(path, index=False)
    elif kind == "tsv":
        path.write_text("name\tn\nx\t1\ny\t2\n\t3\n")
    else:
        raise AssertionError(kind)
    return path


def tar(path: Path, **members: Callable[[int], bytes]) -> Path:
    with tarfile.open(path, "w") as file:
        for i in range(3):
            for suffix, make in members.items():
                content = make(i)
                info = tarfile.TarInfo(f"{i:03}.{suffix}")
                info.size = len(content)
                file.addfile(info, io.BytesIO(content))
    return path


def media(folder: Path, suffix: str, content: bytes) -> Path:
    for label in ("cat", "dog"):
        (folder / label).mkdir(parents=True)
        for i in range(2):
            (folder / label / f"{i}.{suffix}").write_bytes(content)
    return folder


# Files


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("kind", ["parquet", "jsonl", "ndjson", "json", "csv", "csv.gz", "tsv"])
def test_a_table_of_any_kind_gives_the_same_rows(tmp_path: Path, kind: str, streaming: bool) -> None:
    rows = open_rows(write(tmp_path, kind), streaming=streaming)
    assert rows.streaming == streaming
    assert rows.names == ["name", "n"]
    assert [dict(row) for row in rows] == CELLS
    assert rows.base == tmp_path
    if not streaming:
        assert len(rows) == 3
        assert rows.column("name") == ["x", "y", None]
        assert rows.fetch([2, 0], ["n"]) == [{"n": 3}, {"n": 1}]


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["file", "tsv", "pattern", "folder"])
def test_of_csv_only_empty_cells_are_missing(tmp_path: Path, where: str, streaming: bool) -> None:
    words = ["NA", "null", "None", "nan", "n/a", "", "word"]
    lines = ["text,label,score", *(f"{word},{word},{i if word else ''}" for i, word in enumerate(words))]
    sep, file = ("\t", "train.tsv") if where == "tsv" else (",", "train.csv")
    (tmp_path / file).write_text("\n".join(lines).replace(",", sep) + "\n")
    source = {"pattern": tmp_path / "*.csv", "folder": tmp_path}.get(where, tmp_path / file)
    rows = list(open_rows(source, streaming=streaming))
    for column in ("text", "label"):
        assert [row[column] for row in rows] == [word or None for word in words]
    assert [row["score"] for row in rows] == [0, 1, 2, 3, 4, None, 6]
    gc.collect()


def test_a_sets_own_card_says_what_is_missing_in_its_csv(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nconfigs:\n- config_name: default\n  data_files: rows.csv\n  na_values: ['?']\n---\n"
    )
    (tmp_path / "rows.csv").write_text("n\n1\n?\n")
    assert open_rows(tmp_path).column("n") == [1, None]


def test_csv_that_was_downloaded_is_found_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    (tmp_path / "a-set").mkdir()
    (tmp_path / "a-set" / "train.csv").write_text("text\nNA\n")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    open_rows(tmp_path / "a-set")  # kept by `datasets` as a set of this name from the hub would be
    monkeypatch.chdir(tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    assert open_rows("a-set").column("text") == ["NA"]


def test_lines_of_a_text_file_are_a_column_named_text(tmp_path: Path) -> None:
    (tmp_path / "lines.txt").write_text("one\ntwo\n")
    assert open_rows(str(tmp_path / "lines.txt")).column("text") == ["one", "two"]


def test_a_pattern_opens_several_files_in_the_order_of_their_names(tmp_path: Path) -> None:
    for i in (2, 0, 1):
        (tmp_path / f"part-{i}.jsonl").write_text(json.dumps({"n": i}) + "\n")
    assert open_rows(f"{tmp_path}/part-*.jsonl").column("n") == [0, 1, 2]


def test_a_file_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / "we[ird] folder"
    folder.mkdir()
    assert len(open_rows(write(folder, "csv").rename(folder / "x [1].csv"))) == 3


def test_a_folder_of_tables_has_a_split_for_each(tmp_path: Path) -> None:
    for split, count in (("train", 3), ("test", 2)):
        pq.write_table(pa.table({"n": list(range(count))}), tmp_path / f"{split}.parquet")
    assert len(open_rows(tmp_path)) == 3
    assert len(open_rows(tmp_path, split="test")) == 2
    assert open_rows(tmp_path, split="train[1:]+test[:1]").column("n") == [1, 2, 0]
    with pytest.raises(InputError, match=r"split 'validation'.*\['train', 'test'\]"):
        open_rows(tmp_path, split="validation")
    with pytest.raises(InputError, match="'other'"):
        open_rows(tmp_path, config="other")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(("suffix", "column"), [("png", "image"), ("wav", "audio"), ("flac", "audio")])
def test_a_folder_of_media_gives_undecoded_files_and_labels(
    tmp_path: Path, suffix: str, column: str, streaming: bool
) -> None:
    folder = media(tmp_path / "set", suffix, png() if suffix == "png" else sound(suffix.upper()))
    rows = list(open_rows(folder, streaming=streaming))
    assert [row["label"] for row in rows] == [0, 0, 1, 1]
    assert rows[0][column] == {"bytes": None, "path": str(folder / "cat" / f"0.{suffix}")}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves the table of captions open
def test_a_folder_of_media_with_captions(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(png())
    (tmp_path / "metadata.csv").write_text("file_name,text\n0.png,hello\n")
    row = open_rows(tmp_path).row(0)
    assert row["text"] == "hello"
    assert row["image"]["path"] == str(tmp_path / "0.png")
    gc.collect()


@pytest.mark.parametrize("streaming", [False, True])
def test_a_web_dataset_keeps_its_media_as_bytes(tmp_path: Path, streaming: bool) -> None:
    path = tar(
        tmp_path / "set.tar",
        png=png,
        flac=lambda i: sound("FLAC"),
        wav=lambda i: sound("WAV"),
        txt=lambda i: f"caption {i}".encode(),
        cls=lambda i: str(i).encode(),
    )
    rows = list(open_rows(path, streaming=streaming))
    assert [row["txt"] for row in rows] == ["caption 0", "caption 1", "caption 2"]
    assert [row["cls"] for row in rows] == [0, 1, 2]
    assert [row["png"]["bytes"] for row in rows] == [png(0), png(1), png(2)]
    assert rows[1]["flac"]["bytes"] == sound("FLAC")
    assert rows[2]["wav"]["bytes"] == sound("WAV")


def test_media_of_a_parquet_set_stay_bytes_also_in_lists(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "image": datasets.Image(decode=False),
            "audio": datasets.Audio(decode=False),
            "views": datasets.List(datasets.Image(decode=False)),
        }
    )
    cell = {"bytes": png(), "path": None}
    made = datasets.Dataset.from_dict(
        {"image": [cell], "audio": [{"bytes": sound(), "path": None}], "views": [[cell, cell]]}, features=features
    )
    decoding = {"image": datasets.Image(), "audio": datasets.Audio(), "views": datasets.List(datasets.Image())}
    made.cast(datasets.Features(decoding)).to_parquet(tmp_path / "set.parquet")
    row = open_rows(tmp_path / "set.parquet").row(0)
    assert row == {"image": cell, "audio": {"bytes": sound(), "path": None}, "views": [cell, cell]}


# What cannot be opened


@pytest.mark.parametrize(
    "name", ["gone.parquet", "gone/", "gone/deeper/still", "gone-*.csv", "./gone", "~/gone-for-good", ""]
)
def test_a_missing_file_or_folder_is_named(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file or folder: " + (re.escape(name) or "''")):
        open_rows(name)


def test_braces_are_spelt_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s").mkdir()
    for i in range(8, 12):
        (tmp_path / "s" / f"{i:03}.csv").write_text(f"n\n{i}\n")
    assert open_rows("s/{008..011}.csv").column("n") == [8, 9, 10, 11]
    assert open_rows(tmp_path / "{s,s}" / "0{08,1*}.csv").column("n") == [8, 10, 11]
    with pytest.raises(InputError, match=r"no such file or folder: s/012\.csv"):
        open_rows("s/{011..013}.csv")
    with pytest.raises(InputError, match=r"no such file or folder: s/\{00\}.csv"):
        open_rows("s/{00}.csv")
    (tmp_path / "s" / "{1,2}.csv").write_text("n\n7\n")  # a file of that very name
    assert open_rows("s/{1,2}.csv").column("n") == [7]


def test_a_path_inside_a_folder_that_exists_is_no_hub_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="no such file or folder: data/train"):
        open_rows("data/train")


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"x")
    with pytest.raises(InputError, match=r"x\.bin: a data file must end in one of .*'\.parquet'"):
        open_rows(tmp_path / "x.bin")


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("bad.parquet", b"PAR1 and then nothing of use"),
        ("bad.jsonl", b'{"a": 1\nand then nothing of use'),
        ("bad.tar", b"and then nothing of use" * 100),
    ],
)
def test_a_corrupt_file_is_named(tmp_path: Path, name: str, content: bytes, streaming: bool) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=f"cannot read .*{name}.*: ") as caught:
        open_rows(tmp_path / name, streaming=streaming)
    assert "error occurred while generating" not in str(caught.value)


@pytest.mark.parametrize("name", ["a.csv", "a.txt"])
def test_a_text_that_is_not_utf_8_says_how_to_write_it(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("Größe\nfür\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"byte 0xf6.*write it as UTF-8"):
        open_rows(tmp_path / name)


def test_tables_of_different_columns_are_told_which(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("one,two\nx,y\n")
    (tmp_path / "b.csv").write_text("one,three\nx,y\n")
    with pytest.raises(InputError, match="three: "):
        open_rows(tmp_path / "*.csv")
    (tmp_path / "a.csv").write_text("one,two\n" + "x,y\n" * 50_000)  # of which `datasets` has written a part by then
    with pytest.raises(InputError, match=r"cast one: .* three: "):
        open_rows(tmp_path / "*.csv")
    found = reason(ValueError("An error occurred while generating the dataset\n\nAll files must have the same columns"))
    assert found == "All files must have the same columns"


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing of use"])
def test_a_torn_file_in_a_folder_is_named(tmp_path: Path, content: bytes) -> None:
    pq.write_table(pa.table({"a": [1, 2]}), tmp_path / "whole.parquet")
    (tmp_path / "torn.parquet").write_bytes(content)
    with pytest.raises(InputError, match=r"split 'train'\): \S*torn\.parquet: empty or cut short: remove it"):
        open_rows(tmp_path)


def test_a_file_cut_short_breaks_its_stream_with_the_row(tmp_path: Path) -> None:
    line = json.dumps({"text": "x" * 1000}) + "\n"
    (tmp_path / "cut.jsonl").write_text(line * 20_000 + '{"text": "x')
    rows = open_rows(tmp_path / "cut.jsonl", streaming=True)
    with pytest.raises(InputError, match=r"cut\.jsonl: the stream broke after \d+ rows: .*JSON"):
        list(rows)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("name", ["none.csv", "head.csv", "none.jsonl", "none.parquet"])
def test_data_without_rows_is_refused(tmp_path: Path, name: str, streaming: bool) -> None:
    path = tmp_path / name
    path.write_text("a,b\n" if name == "head.csv" else "")
    if path.suffix == ".parquet":
        pq.write_table(pa.table({"a": pa.array([], pa.int64())}), path)
    with pytest.raises(InputError, match=f"{name} has no rows"):
        open_rows(path, streaming=streaming)


ROWLESS = {  # no row is seen before they are unpacked
    "none.csv.gz": gzip.compress(b""),
    "head.csv.gz": gzip.compress(b"a,b\n"),
    "blank.jsonl": b"\n\n",
    "none.json": b"[]",
    "none.tar": b"\0" * 10240,
}


@pytest.mark.parametrize("name", ROWLESS)
def test_data_that_turn_out_to_have_no_rows_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(ROWLESS[name])
    with pytest.raises(InputError, match=f"cannot read '.*{name}' .*: it has no rows"):
        open_rows(tmp_path / name)
    gc.collect()


def test_a_table_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"])
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(InputError, match="two columns are called 'a': give one of them another name"):
        open_rows(tmp_path / "t.parquet")


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    (tmp_path / "t.csv.zip").write_bytes(b"PK")
    with pytest.raises(InputError, match="or be a folder of media; unpack archives"):
        open_rows(tmp_path / "t.csv.zip")


def test_the_mark_at_the_beginning_of_a_file_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "t.txt").write_bytes("\ufeffone\r\ntwo\r\n".encode())
    assert open_rows(tmp_path / "t.txt").column("text") == ["one", "two"]


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="doesn't contain any data files"):
        open_rows(tmp_path)


@pytest.mark.parametrize("split", ["test", "validation", "test[:1]", "train+test"])
def test_one_file_has_no_held_out_split(tmp_path: Path, split: str) -> None:
    with pytest.raises(InputError, match="is one file, all of it split 'train': it has no split"):
        open_rows(write(tmp_path, "csv"), split=split)


@pytest.mark.parametrize("split", ["test", "train+test[:1]"])
def test_a_folder_without_the_split_says_what_there_is(tmp_path: Path, split: str) -> None:
    write(tmp_path, "parquet")
    with pytest.raises(InputError, match=r"has no split 'test'; it has \['train'\].*'train\[90%:\]'\)\. `multicl fit`"):
        open_rows(tmp_path, split=split)
    assert len(open_rows(tmp_path, split="train[:1]+train[1:]")) == len(open_rows(tmp_path))


def test_a_slice_of_one_file(tmp_path: Path) -> None:
    path = write(tmp_path, "csv")
    assert open_rows(path, split="train[1:]").column("n") == [2, 3]
    with pytest.raises(InputError, match=r"train\[:x\]"):
        open_rows(path, split="train[:x]")
    with pytest.raises(InputError, match=r"a stream has no slices: split 'train\[:1\]'"):
        open_rows(path, split="train[:1]", streaming=True)
    with pytest.raises(InputError, match="no configuration 'en'"):
        open_rows(path, config="en")


@pytest.mark.parametrize("offline", [True, False])
@pytest.mark.parametrize("name", ["cifar10", "somebody/something"])
def test_a_hub_name_out_of_reach_fails_at_once(name: str, offline: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not offline:

        def unreachable(*_: Any, **__: Any) -> None:
            raise ConnectionError("name or service not known")

        monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", unreachable)
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    began = time.perf_counter()
    with pytest.raises(InputError, match=f"'{name}': there is no such file or folder, and the Hugging Face hub"):
        open_rows(name)
    assert time.perf_counter() - began < 5
    assert offline == datasets.config.HF_HUB_OFFLINE


# Objects


class Dicts(torch.utils.data.Dataset[dict[str, Any]]):
    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> dict[str, Any]:
        return CELLS[range(3)[index]]


class Tuples(Dicts):
    def __getitem__(self, index: int) -> Any:
        return tuple(CELLS[range(3)[index]].values())


class Flow(torch.utils.data.IterableDataset[dict[str, Any]]):
    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from CELLS


class CountedFlow(Flow):
    def __len__(self) -> int:
        return 3


class Arrows:
    """As polars' DataFrame is for others."""

    def __arrow_c_stream__(self, schema: Any = None) -> Any:
        return pa.Table.from_pylist(CELLS).__arrow_c_stream__(schema)


@pytest.mark.parametrize(
    "make",
    [
        lambda: CELLS,
        lambda: tuple(CELLS),
        lambda: datasets.Dataset.from_list(CELLS),
        lambda: datasets.Dataset.from_list(CELLS).with_format("numpy"),
        lambda: datasets.DatasetDict(train=datasets.Dataset.from_list(CELLS)),
        lambda: pd.DataFrame(CELLS),
        lambda: pa.Table.from_pylist(CELLS),
        Arrows,
        lambda: list(pd.DataFrame(CELLS).astype(object).where(lambda f: f.notna(), None).itertuples(index=False)),
        Dicts,
    ],
)
def test_rows_in_hand_of_any_kind(make: Callable[[], Any]) -> None:
    rows = open_rows(make())
    assert (rows.names, len(rows), rows.streaming) == (["name", "n"], 3, False)
    assert [dict(row) for row in rows] == CELLS
    assert rows.column("name") == ["x", "y", None]
    assert [row["n"] for row in rows.fetch([2, 1], ["n"])] == [3, 2]
    assert type(rows.row(0)["n"]) is int


@pytest.mark.parametrize(
    "make",
    [
        lambda: datasets.Dataset.from_list(CELLS).to_iterable_dataset(),
        lambda: datasets.IterableDataset.from_generator(lambda: iter(CELLS)),
        lambda: datasets.IterableDatasetDict(train=datasets.Dataset.from_list(CELLS).to_iterable_dataset()),
        Flow,
        CountedFlow,
    ],
)
def test_streams_in_hand_know_their_columns_and_begin_anew(make: Callable[[], Any]) -> None:
    rows = open_rows(make())
    assert (rows.names, rows.streaming) == (["name", "n"], True)
    assert [dict(row) for row in rows] == CELLS
    assert [dict(row) for row in rows] == CELLS
    with pytest.raises(InputError, match="has no column 'image'"):
        rows.resolve("image")
    with pytest.raises(InputError, match="stream and has no length"):
        len(rows)


def test_a_users_transform_stays() -> None:
    data = datasets.Dataset.from_list(CELLS).with_transform(lambda batch: {"twice": [2 * n for n in batch["n"]]})
    rows = open_rows(data)
    assert rows.row(1) == {"twice": 4}
    assert rows.fetch([1, 2], ["twice"]) == [{"twice": 4}, {"twice": 6}]


def test_rows_that_are_tuples_have_numbered_columns() -> None:
    rows = open_rows(Tuples(), columns={"text": "0"})
    assert rows.names == ["0", "1"]
    assert rows.column("text") == ["x", "y", None]


def test_rows_that_lack_keys_hold_nulls_and_all_names_are_known() -> None:
    rows = open_rows([{"a": 1}] * 100 + [{"b": 2}])
    assert rows.names == ["a", "b"]
    assert rows.column("b") == [None] * 100 + [2]


def test_a_frames_missing_cells_are_null_and_its_arrays_arrays() -> None:
    frame = pd.DataFrame(
        {
            "text": ["x", None, np.nan],
            "whole": pd.array([1, None, 3], dtype="Int64"),
            "number": [0.5, np.nan, 2.0],
            "wave": [np.arange(3.0), None, np.array([np.nan, 1.0])],
            7: [1, 2, 3],
        }
    )
    rows = open_rows(frame)
    assert rows.names == ["text", "whole", "number", "wave", "7"]
    assert rows.column("text") == ["x", None, None]
    assert rows.column("whole") == [1, None, 3]
    assert rows.column("number") == [0.5, None, 2.0]
    assert rows.column("7") == [1, 2, 3]
    waves = rows.column("wave")
    assert waves[1] is None
    assert [w.shape for w in (waves[0], waves[2])] == [(3,), (2,)]


def test_several_texts_in_a_cell_of_a_frame_are_a_list(tmp_path: Path) -> None:
    """From Parquet pandas has arrays."""
    cells = [["one", "two"], None, ["three"]]
    pd.DataFrame({"text": cells}).to_parquet(tmp_path / "a.parquet")
    frame = pd.read_parquet(tmp_path / "a.parquet")
    assert isinstance(frame["text"][0], np.ndarray)
    assert open_rows(frame).column("text") == cells


def test_a_frame_with_two_columns_of_one_name_is_refused() -> None:
    with pytest.raises(InputError, match="two columns 'a'"):
        open_rows(pd.DataFrame([[1, 2]], columns=["a", "a"]))


@pytest.mark.parametrize("data", [[], pd.DataFrame({"a": []}), datasets.Dataset.from_dict({"a": []})])
def test_no_rows_in_hand_are_refused(data: Any) -> None:
    with pytest.raises(InputError, match="has no rows"):
        open_rows(data)


def test_a_split_that_a_dict_lacks_is_refused() -> None:
    with pytest.raises(InputError, match=r"no split 'test'; it has \['train'\]"):
        open_rows(datasets.DatasetDict(train=datasets.Dataset.from_list(CELLS)), split="test")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (7, "cannot read rows from a int"),
        ({"a": [1, 2]}, "cannot read rows from a dict"),
        (b"abc", "cannot read rows from a bytes"),
        (["one", "two"], "a row must be a dict of columns or a tuple, got str"),
        ((row for row in CELLS), "a generator can be read only once"),
        (pd.Series([1, 2]), "cannot read rows from a Series"),
        (pa.array([1, 2]), "cannot read rows from a Int64Array"),
        (pa.table({"a": []}), "the table has no rows"),
        (torch.utils.data.DataLoader(Dicts()), r"a DataLoader gives batches: give its data set, loader\.dataset"),
    ],
)
def test_what_are_no_rows_is_refused(data: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        open_rows(data)


# Columns and paths


def test_columns_are_mapped_and_a_missing_one_is_named_with_the_nearest() -> None:
    rows = open_rows([{"img": 1, "caption": "x"}], columns={"image": "img"})
    assert rows.resolve("image") == "img"
    assert (rows.has("caption"), rows.has("sound")) == (True, False)
    with pytest.raises(InputError, match=r"no column 'captions', which 'text' reads; .*Did you mean 'caption'\?"):
        rows.resolve("captions", ", which 'text' reads")
    with pytest.raises(InputError, match=r"--data\.columns sound COLUMN"):
        rows.resolve("sound")


def test_a_mapped_column_that_another_set_lacks_gives_way_to_the_name_itself() -> None:
    assert Rows([{"image": 1}], columns={"image": "img"}).resolve("image") == "image"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_paths_in_a_table_are_looked_for_beside_it(tmp_path: Path, kind: str) -> None:
    absolute = str(tmp_path / "elsewhere.png")
    for name in ("a.png", absolute):
        row = f"image\n{name}\n" if kind == "csv" else json.dumps({"image": name}) + "\n"
        (tmp_path / f"t.{kind}").write_text(row)
        assert open_rows(tmp_path / f"t.{kind}").resolved("image", files=True) == [str(tmp_path / name)]
        assert open_rows(tmp_path / f"t.{kind}").resolved("image", files=False) == [name]


def test_only_relative_paths_are_resolved() -> None:
    base = Path("/base")
    held = {"bytes": b"x", "path": "a.png"}
    for cell, found in [
        ({"path": "a.png", "bytes": None}, {"path": "/base/a.png", "bytes": None}),
        ({"path": "/a.png", "bytes": None}, {"path": "/a.png", "bytes": None}),
        ({"path": "a.png"}, {"path": "/base/a.png"}),
        (held, held),
        (["a.png", {"path": "b.png"}], ["/base/a.png", {"path": "/base/b.png"}]),
        ([None, "a.png"], [None, "/base/a.png"]),
        ("./x//a.png", "/base/x/a.png"),
        ("../a.png", "/base/../a.png"),
        ("https://host/a.png", "https://host/a.png"),
        ([1.0, 2.0], [1.0, 2.0]),
        (b"bytes", b"bytes"),
        ("", ""),
        (None, None),
    ]:
        assert resolve_path(cell, base) == found
        assert resolve_path(cell, None) == cell


def test_paths_from_the_home_folder_and_as_browsers_have_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for cell, found in [
        ("~/a.png", "/home/me/a.png"),
        ("~a.png", "/base/~a.png"),
        ("file:///x/a%20b.png", "/x/a b.png"),
        ({"path": "~/a.png", "bytes": None}, {"path": "/home/me/a.png", "bytes": None}),
        (["~/a.png"], ["/home/me/a.png"]),
    ]:
        assert resolve_path(cell, Path("/base")) == found


@given(
    base=st.sampled_from(["/", "/base", "base", ".", "..", "a/b"]),
    parts=st.lists(st.sampled_from(["a.png", "b c", "", ".", "..", "~"]), min_size=1),
)
def test_paths_are_joined_as_pathlib_joins_them(base: str, parts: list[str]) -> None:
    path = "/".join(parts)
    wanted = path if path.startswith("/") or not path else str(Path(base) / path)
    if not path.startswith("~/"):
        assert resolve_path(path, Path(base)) == wanted


def test_null_cells() -> None:
    assert all(is_null(cell) for cell in (None, float("nan"), np.float32("nan"), np.float64("nan")))
    assert not any(is_null(cell) for cell in (0, 0.0, "", "nan", [], np.zeros(2), torch.zeros(2), b""))


def test_fifty_thousand_cells_of_bytes_are_read_within_seconds(tmp_path: Path) -> None:
    cells = [{"bytes": i.to_bytes(4, "big") * 250, "path": None} for i in range(50_000)]
    pq.write_table(pa.table({"image": cells}), tmp_path / "set.parquet")
    rows = open_rows(tmp_path / "set.parquet")
    began = time.perf_counter()
    assert rows.column("image") == cells
    assert time.perf_counter() - began < 5


@pytest.mark.parametrize("count", [1, 3, 9])
def test_the_first_rows(count: int) -> None:
    table = Rows(datasets.Dataset.from_dict({"a": [5, 6, 7]}))
    for rows in (table, Rows([{"a": 5}, {"a": 6}, {"a": 7}])):
        assert rows.first(count).column("a") == [5, 6, 7][:count]


def test_cells_of_several_kinds_are_what_they_were(tmp_path: Path) -> None:
    cells = ['caf\u00e9 "x"', ["two", "captions"], "one more", None, 7, ""]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps({"text": cell, "n": 1}) + "\n" for cell in cells))
    assert open_rows(str(tmp_path / "t.jsonl")).column("text") == cells


def test_a_star_may_stand_for_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.csv").write_text(f"x\n{name}\n")
    assert open_rows(str(tmp_path / "*" / "part.csv")).column("x") == ["a", "b"]
    monkeypatch.chdir(tmp_path)
    assert open_rows("*/part.csv").column("x") == ["a", "b"]
    assert open_rows("**/part.csv").column("x") == ["a", "b"]


def test_the_folder_one_is_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "train.csv").write_text("x\n1\n")
    monkeypatch.chdir(tmp_path)
    for name in (".", "./"):
        assert open_rows(name).column("x") == [1]


def test_the_first_rows_of_a_stream_are_read() -> None:
    class Stream:
        def __iter__(self) -> Iterator[dict[str, int]]:
            return iter([{"x": i} for i in range(5)])

    first = open_rows(Stream()).first(3)
    assert not first.streaming
    assert first.column("x") == [0, 1, 2]


@pytest.mark.parametrize("streaming", [False, True])
def test_what_datasets_saved_to_disk_is_opened_without_what_it_cached_there(tmp_path: Path, streaming: bool) -> None:
    data = datasets.Dataset.from_dict({"text": [f"text {i}" for i in range(6)]})
    data.save_to_disk(tmp_path / "one", num_shards=2)
    both = datasets.DatasetDict({"train": data, "test": data.select([4, 5])})
    both.save_to_disk(tmp_path / "both")
    for loaded in (datasets.load_from_disk(tmp_path / "one"), datasets.load_from_disk(tmp_path / "both")["train"]):
        mapped = loaded.map(lambda row: {"text": row["text"].upper()})
        assert mapped.cache_files  # beside what was saved
    for name in ("one", "both"):
        rows = open_rows(tmp_path / name, streaming=streaming)
        assert [row["text"] for row in rows] == data["text"]
    assert [row["text"] for row in open_rows(tmp_path / "both", split="test", streaming=streaming)] == data["text"][4:]
    assert [row["text"] for row in open_rows(tmp_path / "one", split="train[:2]")] == data["text"][:2]


def test_a_folder_whose_name_is_a_pattern_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "photos [2024]"
    folder.mkdir()
    write(folder, "csv")
    with pytest.raises(InputError, match="pattern: rename the folder"):
        open_rows(folder)


@pytest.mark.parametrize("streaming", [False, True])
def test_links_to_folders_are_refused_where_they_would_be_passed_over(tmp_path: Path, streaming: bool) -> None:
    for name in ("elsewhere/blue", "pictures/red", "pictures/.hidden"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "1.png").write_bytes(png())
    pictures = tmp_path / "pictures"
    (pictures / ".cache").symlink_to(tmp_path / "elsewhere")
    (pictures / "red" / "2.png").symlink_to(tmp_path / "elsewhere" / "blue" / "1.png")
    assert len(list(open_rows(pictures, streaming=streaming))) == 2  # links to files are followed
    (pictures / "blue").symlink_to(tmp_path / "elsewhere" / "blue")
    with pytest.raises(InputError, match=r"blue is a link to a folder.*cp -rs"):
        open_rows(pictures, streaming=streaming)
    for path in (pictures / "red").iterdir():
        path.unlink()
    with pytest.raises(InputError, match="blue is a link to a folder"):  # and not that there are no files
        open_rows(pictures, streaming=streaming)
    (tmp_path / "tables").mkdir()
    write(tmp_path / "tables", "csv")
    (tmp_path / "tables" / "raw").symlink_to(tmp_path / "elsewhere")
    assert len(list(open_rows(tmp_path / "tables", streaming=streaming))) == 3


def test_a_file_is_named_once_and_what_is_no_path_never() -> None:
    assert blamed("a.png", True, "empty") == "a.png: empty"
    assert blamed("a.png", True, "no such file: 'a.png'") == "no such file: 'a.png'"
    assert blamed(r"a\b.png", True, r"no such file: 'a\\b.png'") == r"no such file: 'a\\b.png'"
    assert blamed("iVBORw0KGgo" * 100, True, "no path") == "no path"
    assert file_of("", True) is file_of("a.png", False) is None
