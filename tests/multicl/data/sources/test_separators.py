"""Tables called .csv are read with the separator that they have."""

from __future__ import annotations

import bz2
import csv
import gc
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import datasets
import media
import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.separators import AT_ONCE, LOOKED_AT, separator

ROWS = [("question", "answer"), *((f"what is, {i}", f'a line\nand "another"; {i} | {i}') for i in range(9))]


def write(path: Path, sep: str, rows: list[tuple[str, ...]] = ROWS, start: str = "") -> Path:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(start)
        csv.writer(file, delimiter=sep).writerows(rows)
    return path


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["file", "pattern", "folder"])
@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_a_table_has_its_own_separator(tmp_path: Path, sep: str, where: str, streaming: bool) -> None:
    file = write(tmp_path / "train.csv", sep, start="\ufeff" if sep == ";" else "")  # as spreadsheets begin it
    source = {"file": file, "pattern": tmp_path / "*.csv", "folder": tmp_path}[where]
    rows = [(row["question"], row["answer"]) for row in open_rows(source, streaming=streaming)]
    assert rows == ROWS[1:]
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("end", "packed"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".XZ", lzma.compress)])
def test_a_packed_table_has_one_too(tmp_path: Path, end: str, packed: Callable[[bytes], bytes]) -> None:
    plain = write(tmp_path / "plain.csv", ";").read_bytes()
    (tmp_path / f"a.csv{end}").write_bytes(packed(plain))
    assert separator([tmp_path / f"a.csv{end}"]) == ";"
    (tmp_path / f"cut.csv{end}").write_bytes(packed(plain)[:20])
    (tmp_path / f"none.csv{end}").write_bytes(plain)
    assert separator([tmp_path / f"cut.csv{end}"]) is separator([tmp_path / f"none.csv{end}"]) is None
    if end == ".gz":
        assert [(row["question"], row["answer"]) for row in open_rows(tmp_path / "a.csv.gz")] == ROWS[1:]
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_captions_of_a_folder_are_read_as_a_table_is(tmp_path: Path, sep: str, streaming: bool) -> None:
    words = ["NA", "null", f"one {'and' if sep == ',' else ','} two", "", "None"]
    for i in range(len(words)):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    lines = [("file_name", "text"), *((f"{i}.png", word) for i, word in enumerate(words))]
    write(tmp_path / "metadata.csv", sep, lines, start="\ufeff" if sep == ";" else "")
    if sep == ",":
        datasets.load_dataset(str(tmp_path))  # which keeps what its own way of reading found
    rows = open_rows(tmp_path, streaming=streaming)
    assert [row["text"] for row in rows] == [word or None for word in words]
    assert [row["image"]["path"] for row in rows] == [str(tmp_path / f"{i}.png") for i in range(len(words))]
    gc.collect()


def test_captions_beyond_what_is_read_at_once(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(media.png(0))
    rows = [("file_name", "text"), *(("0.png", f"NA {i}") for i in range(AT_ONCE + 5))]
    write(tmp_path / "metadata.csv", ";", rows)
    assert open_rows(tmp_path).column("text") == [text for _, text in rows[1:]]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("words\none; two\nthree\n", None),  # one column
        ("words; and others\none\ntwo\n", None),
        ("a;b\n", None),  # nothing to compare with
        ("a;b,c\n1;2,3\n", None),
        ("a;b\r1;2\r3;4\r", ";"),
        ("a;b\n\n1;2\n", ";"),
        ("", None),
    ],
)
def test_it_is_one_of_which_all_rows_have_equally_many(tmp_path: Path, text: str, found: str | None) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode())
    assert separator([tmp_path / "a.csv"]) == found


def test_a_large_table_is_judged_by_its_beginning(tmp_path: Path) -> None:
    long = [("a", "b"), *(("x" * 500, "y" * 500) for _ in range(LOOKED_AT // 500))]
    assert separator([write(tmp_path / "a.csv", ";", long)]) == ";"


def test_no_file_of_this_machine_has_none(tmp_path: Path) -> None:
    assert separator([]) is None
    assert separator([tmp_path / "gone.csv"]) is None
    assert separator([Path("https://host/a.csv")]) is None


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("sep", [",", "|"])
def test_spaces_after_separators_are_of_no_name_or_cell(tmp_path: Path, sep: str) -> None:
    """Flickr30k's results.csv is so."""
    lines = ["image_name", "comment_number", "comment"], ["1.jpg", "0", '"two , dogs"'], ["2.jpg", "1", "one"]
    (tmp_path / "a.csv").write_text("\n".join(map(f"{sep} ".join, lines)) + "\n")
    row = {"image_name": "1.jpg", "comment_number": 0, "comment": "two , dogs"}
    assert open_rows(tmp_path / "a.csv").row(0) == row
    (tmp_path / "b.csv").write_text(f"a{sep}b\n1{sep} x\n2{sep}y\n")  # only the cells have some, which may matter
    assert open_rows(tmp_path / "b.csv").column("b") == [" x", "y"]
    gc.collect()


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("where", ["file", "folder"])
@pytest.mark.parametrize(("sep", "name"), [("\t", "train.tsv"), ("|", "train.csv")])
def test_quotes_that_end_no_cell_are_letters(tmp_path: Path, sep: str, name: str, where: str) -> None:
    """Common Voice's: as quotes they would make one row of all lines up to the next."""
    texts = ['"a, b', "c, d, e", '"Yes," he said', 'a "b" c', '"f"', *(f"{i}, " * i for i in range(1, 5))]
    file = tmp_path / name
    file.write_text("".join(f"{i}{sep}{text}\n" for i, text in enumerate(["text", *texts])))
    source = file if where == "file" else tmp_path
    assert open_rows(source).column("text") == texts
    file.write_text(f'id{sep}text\n0{sep}"a ""b"" c"\n1{sep}"d"\n')  # as programs write them
    assert open_rows(source).column("text") == ['a "b" c', "d"]
    gc.collect()


def test_commas_in_texts_do_not_separate(tmp_path: Path) -> None:
    """LJSpeech's first line has some."""
    (tmp_path / "a.csv").write_text('1|"a, b|a\n2|c|c, d, e\n3|d|d\n')
    assert separator([tmp_path / "a.csv"]) == "|"
    (tmp_path / "metadata.csv").write_text('file_name|text\n0.png|"a, b\n1.png|c\n')
    for i in range(2):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    (tmp_path / "a.csv").unlink()
    assert open_rows(tmp_path).column("text") == ['"a, b', "c"]
