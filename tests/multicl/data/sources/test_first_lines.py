"""Tables of which the first line is a row, and whose names of files lack an end, are read as they are meant."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from multicl.data.rows import Rows, open_rows
from multicl.data.sources.beside import ROWS
from multicl.types import InputError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
COUNT = ROWS + 4


def media(folder: Path, names: list[str]) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def files(rows: Rows, column: str) -> list[str]:
    found = (cell["path"] if isinstance(cell, dict) else cell for cell in rows.resolved(column, files=True))
    return [Path(path).name for path in found if path and Path(path).is_file()]


@pytest.mark.parametrize("streaming", [False, True])
def test_ljspeech_has_neither_names_of_columns_nor_ends_of_files(
    tmp_path: Path, streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"LJ001-{i:04d}" for i in range(COUNT)]
    media(tmp_path / "wavs", [f"{name}.wav" for name in names])
    texts = [f'{", " * (i % 3)}"Quote {i}' for i in range(COUNT)]
    lines = [f"{name}|{text}|{text} said\n" for name, text in zip(names, texts, strict=True)]
    (tmp_path / "metadata.csv").write_text("".join(lines))
    with caplog.at_level(logging.WARNING):
        rows = open_rows(tmp_path / "metadata.csv", streaming=streaming)
        assert open_rows(tmp_path, streaming=streaming).names == rows.names  # its folder
    assert rows.names == ["0", "1", "2"]
    assert [(row["0"], row["1"]) for row in rows] == [(f"{n}.wav", t) for n, t in zip(names, texts, strict=True)]
    assert rows.base == tmp_path / "wavs"
    nameless, endless = caplog.messages
    assert "metadata.csv: the first line is a row, not a header; the columns are called 0, 1, 2" in nameless
    assert "column '0' names files without their end, which is taken to be .wav" in endless
    gc.collect()


@pytest.mark.parametrize("names", ["path,text", "id,text", "file_name,text"])
def test_metadata_of_a_folder_may_call_its_files_otherwise(tmp_path: Path, names: str) -> None:
    """`datasets` asks for a column file_name."""
    end = "" if names.startswith("id") else ".png"
    media(tmp_path / "images", [f"{i}.png" for i in range(COUNT)])
    lines = [f"{'images/' if end else ''}{i}{end},a text {i}\n" for i in range(COUNT)]
    (tmp_path / "metadata.csv").write_text("".join([names, "\n", *lines]))
    rows = open_rows(tmp_path)
    column = names.partition(",")[0].replace("file_name", "image")
    assert rows.names == [column, "text"]
    assert files(rows, column) == [f"{i}.png" for i in range(COUNT)]
    with pytest.raises(InputError, match="split"):
        open_rows(tmp_path, split="test")
    gc.collect()


def test_one_that_names_files_or_links_is_a_row(tmp_path: Path) -> None:
    media(tmp_path / "images", [f"{i}.jpg" for i in range(COUNT)])
    (tmp_path / "a.csv").write_text("".join(f"{i}.jpg,text {i}\n" for i in range(COUNT)))
    assert files(open_rows(tmp_path / "a.csv"), "0") == [f"{i}.jpg" for i in range(COUNT)]
    (tmp_path / "cc3m.tsv").write_text("".join(f"text {i}\thttps://a.org/{i}.jpg\n" for i in range(COUNT)))
    assert len(open_rows(tmp_path / "cc3m.tsv")) == COUNT
    (tmp_path / "b.csv").write_text("gone.jpg,text\n0.jpg,one\n")  # which may be a column's name
    assert open_rows(tmp_path / "b.csv").names == ["gone.jpg", "text"]
    (tmp_path / "c.csv").write_text("0.jpg,text\n")
    with pytest.raises(InputError, match="no rows"):
        open_rows(tmp_path / "c.csv")
    gc.collect()


@pytest.mark.parametrize("where", ["audio", "../audio"])
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_ids_name_files(tmp_path: Path, where: str, kind: str) -> None:
    """AudioCaps' do, and of some five captions."""
    ids = [f"Y--0bn{i:03d}" for i in range(COUNT)]
    media(tmp_path / "set" / where, [f"{name}.flac" for name in ids])
    table = tmp_path / "set" / "train.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("n,id,caption\n" + "".join(f"{i},{n},one\n{i},{n},two\n" for i, n in enumerate(ids)) + "9,,x\n")
    rows = open_rows(table if kind == "file" else table.parent)
    assert files(rows, "id") == [f"{name}.flac" for name in ids for _ in range(2)]
    assert rows.column("n")[:3] == [0, 0, 1]
    assert rows.column("id")[-1] is None
    gc.collect()


def test_numbers_name_files_unless_they_may_be_labels(tmp_path: Path) -> None:
    media(tmp_path / "images", [f"{i:02d}.jpg" for i in range(COUNT)])
    (tmp_path / "a.csv").write_text("id,label\n" + "".join(f"{i:02d},{i % 3:02d}\n" for i in range(COUNT)))
    rows = open_rows(tmp_path / "a.csv")
    assert files(rows, "id") == [f"{i:02d}.jpg" for i in range(COUNT)]
    assert set(rows.column("label")) == {0, 1, 2}
    (tmp_path / "b.csv").write_text("file,id\n" + "".join(f"images/{i:02d}.jpg,{i:02d}\n" for i in range(COUNT)))
    assert open_rows(tmp_path / "b.csv").column("id") == list(range(COUNT))  # files have names already
    (tmp_path / "c.csv").write_text("id,other\n" + "".join(f"{i:02d},{i:02d}\n" for i in range(COUNT)))
    assert open_rows(tmp_path / "c.csv").column("id") == list(range(COUNT))  # one of two
    (tmp_path / "d.csv").write_text("id,label\n" + "".join(f"{i:02d},a\n" for i in range(2, COUNT + 20)))
    assert files(open_rows(tmp_path / "d.csv"), "id") == [f"{i:02d}.jpg" for i in range(2, COUNT)]
    gc.collect()


def test_long_integers_beside_ids_keep_their_digits(tmp_path: Path) -> None:
    media(tmp_path, [f"name-{i:04d}.wav" for i in range(COUNT)])
    lines = [f"name-{i:04d},{'' if i == 3 else 2**53 + i}\n" for i in range(COUNT)]
    (tmp_path / "a.csv").write_text("id,user\n" + "".join(lines))
    rows = open_rows(tmp_path / "a.csv")
    assert files(rows, "id") == [f"name-{i:04d}.wav" for i in range(COUNT)]
    assert rows.column("user") == [None if i == 3 else 2**53 + i for i in range(COUNT)]
    gc.collect()


@pytest.mark.parametrize("sep", [",", "\t"])
def test_a_txt_may_be_a_table_of_files(tmp_path: Path, sep: str) -> None:
    """Flickr8k's captions.txt is one, with commas."""
    media(tmp_path / "Images", [f"{i}.jpg" for i in range(COUNT)])
    file = tmp_path / "captions.txt"
    file.write_text(f"image{sep}caption\n" + "".join(f'{i}.jpg{sep}"a dog, {i}"\n' for i in range(COUNT)))
    assert files(open_rows(file), "image") == [f"{i}.jpg" for i in range(COUNT)]
    assert open_rows(file).column("caption")[2] == "a dog, 2"
    file.write_text("a text, of which\ngone.jpg, is a part\n")
    assert open_rows(file).column("text") == ["a text, of which", "gone.jpg, is a part"]
    gc.collect()


def test_windows_separators_are_read_where_files_are_there_with_others(tmp_path: Path) -> None:
    media(tmp_path / "images", [f"{i}.jpg" for i in range(COUNT)])
    paths = [f"images\\{i}.jpg" for i in range(COUNT)]
    lines = [f"{path},{'' if i % 2 else path},a\\b {i}\n" for i, path in enumerate(paths)]
    (tmp_path / "a.csv").write_text("one,two,text\n" + "".join(lines) + ",,c\n")
    rows = open_rows(tmp_path / "a.csv")
    assert files(rows, "one") == [f"{i}.jpg" for i in range(COUNT)]
    assert files(rows, "two") == [f"{i}.jpg" for i in range(0, COUNT, 2)]
    assert rows.column("text")[1] == "a\\b 1"
    assert rows.column("one")[-1] is None
    (tmp_path / "b.csv").write_text("one\n" + "".join(f"C:\\images\\{i}.jpg\n" for i in range(COUNT)))
    assert open_rows(tmp_path / "b.csv").column("one")[0] == "C:\\images\\0.jpg"
    gc.collect()


@pytest.mark.parametrize("ends", [True, False])
@pytest.mark.parametrize("line", ["{} 7", "{} {} 1", "{}"])
@pytest.mark.parametrize("name", ["Maine_Coon_{}", "longer/{}"])
def test_a_txt_may_be_a_list_of_files_and_classes(tmp_path: Path, name: str, line: str, ends: bool) -> None:
    """As Caffe's lists, Oxford's Pets and Food-101 have them."""
    names = [name.format(f"{i}0") for i in range(COUNT)]
    media(tmp_path / "images", [f"{name}.jpg" for name in names])
    (tmp_path / "lists").mkdir()
    lines = [line.format(name + ".jpg" * ends, i % 3) + "\n" for i, name in enumerate(names)]
    (tmp_path / "lists" / "train.txt").write_text("".join(lines))
    rows = open_rows(tmp_path / "lists" / "train.txt")
    column = "text" if ends and line == "{}" else "0"
    assert files(rows, column) == [f"{Path(name).name}.jpg" for name in names]
    assert len(rows.names or ()) == len(line.split())
    gc.collect()


@pytest.mark.parametrize("end", ["", ".jpg"])
def test_comments_before_a_list_are_no_rows(tmp_path: Path, end: str) -> None:
    """Oxford's pets' list.txt has six; one line may name columns."""
    media(tmp_path / "images", [f"Maine_Coon_{i}.jpg" for i in range(COUNT)])
    (tmp_path / "meta").mkdir()
    lines = "".join(f"Maine_Coon_{i}{end} 1 {i}\n" for i in range(COUNT))
    for name, head in (("list", "#Image CLASS ID BREED\n# 1:37 Class ids\n#\n"), ("names", "#image class id\n")):
        (tmp_path / "meta" / f"{name}.txt").write_text(head + lines)
    rows = open_rows(tmp_path / "meta" / "list.txt")
    assert rows.names == ["0", "1", "2"]
    assert files(rows, "0") == [f"Maine_Coon_{i}.jpg" for i in range(COUNT)]
    assert rows.column("2") == list(range(COUNT))
    assert open_rows(tmp_path / "meta" / "names.txt").names == ["#image", "class", "id"]
    gc.collect()


def test_texts_that_begin_with_a_files_name_are_texts(tmp_path: Path) -> None:
    media(tmp_path, ["somebody.jpg"])
    lines = ["a first", "somebody was here", "nobody was"]
    (tmp_path / "a.txt").write_text("\n".join(lines))
    assert open_rows(tmp_path / "a.txt").column("text") == lines


def test_ids_of_pictures_and_of_their_masks_are_refused(tmp_path: Path) -> None:
    names = [f"Maine_Coon_{i}" for i in range(COUNT)]
    for folder in ("images", "meta", "sounds"):
        media(tmp_path / folder, [f"{name}.{'wav' if folder == 'sounds' else 'jpg'}" for name in names])
    (tmp_path / "meta" / "a.csv").write_text("id,label\n" + "".join(f"{name},1\n" for name in names))
    assert files(open_rows(tmp_path / "meta" / "a.csv"), "id") == [f"{name}.wav" for name in names]
    media(tmp_path / "meta" / "masks", [f"{name}.png" for name in names])
    (tmp_path / "sounds").rename(tmp_path / ".sounds")
    with pytest.raises(
        InputError, match=r"Maine_Coon_0\.\w+ or Maine_Coon_0\.\w+: write the full names, .*/masks/Maine_Coon_0\.png"
    ):
        open_rows(tmp_path / "meta" / "a.csv")
    gc.collect()
