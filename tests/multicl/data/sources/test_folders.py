from __future__ import annotations

import io
import re
import tarfile
import zipfile
from pathlib import Path

import media
import pytest
from PIL import Image as Pillow

from multicl import InputError, Pair
from multicl.data.mixture import Mixture
from multicl.data.reader import Reader
from multicl.data.rows import Rows, open_rows
from multicl.data.sources.folders import passed_over, refuse_mixed, unread
from multicl.modalities.image import Image


def put(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}" if "json" in name else "n\n1\n")
    return folder


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a/1.png", "a/2.PNG", "b/3.jpg", "b/4.wav"], r"pictures \(.*1.png\) and sounds \(.*4.wav\).*another folder"),
        (["x.csv", "y.csv", "z.jsonl"], r"CSV tables \(.*x.csv\) and JSON tables \(.*z.jsonl\).*'.*/\*.csv'"),
        (["x.csv.gz", "y.parquet"], r"CSV tables \(.*x.csv.gz\) and Parquet tables \(.*y.parquet\)"),
        (["x.csv", "y.tsv"], r"CSV tables \(.*\) and TSV tables"),  # of which the TSV would be read with commas
        (["00.tar", "00.parquet"], r"Parquet tables \(.*\) and WebDataset tars"),
        (
            ["00.tar", "00.parquet", "00_stats.json"],
            r"name the files \(such as '.*/\*.tar'",
        ),  # as img2dataset leaves it
        (["a/1.png", "b/2.png", "more.zip"], r"pictures \(.*1.png\) and zip archives \(.*more.zip\).*unpack them"),
        (["1.wav", "more.zip"], r"sounds \(.*1.wav\) and zip archives \(.*more.zip\).*unpack them"),
        (["train.csv", "test.json"], r"CSV tables \(.*\) and JSON tables"),
    ],
)
def test_a_folder_of_two_kinds_is_refused(tmp_path: Path, names: list[str], message: str, streaming: bool) -> None:
    with pytest.raises(InputError, match=message):
        open_rows(put(tmp_path, *names), streaming=streaming)


@pytest.mark.parametrize(
    "names",
    [
        ["0.png", "1.png", "metadata.csv", "README.md", "LICENSE.txt"],
        ["0.wav", "metadata.jsonl", ".cover.png", ".cache/1.png"],
        ["0.png", "labels.csv"],
        ["train.csv", "test.csv", "classes.json"],
        ["x.csv", "dataset_infos.json", "README.md", ".y.parquet", "__MACOSX/z.parquet"],
        ["x.jsonl", "y.json"],
        ["x.csv", "more.zip"],
        ["train/1.png", "test/1.png", "raw.zip"],
        [],
    ],
)
def test_what_is_no_second_kind(tmp_path: Path, names: list[str]) -> None:
    refuse_mixed(put(tmp_path, *names))


def test_a_folder_whose_card_names_its_files_may_hold_others(tmp_path: Path) -> None:
    put(tmp_path, "x.csv", "y.parquet")
    (tmp_path / "README.md").write_text("---\nconfigs:\n- config_name: default\n  data_files: x.csv\n---\n")
    assert open_rows(tmp_path).column("n") == [1]


def test_one_kind_of_two_is_read_by_its_pattern(tmp_path: Path) -> None:
    put(tmp_path, "x.csv", "y.parquet")
    assert open_rows(tmp_path / "*.csv").column("n") == [1]


@pytest.mark.parametrize("streaming", [False, True])
def test_classes_in_an_archive_alone(tmp_path: Path, streaming: bool) -> None:
    picture = io.BytesIO()
    Pillow.new("RGB", (4, 4)).save(picture, "PNG")
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for name in ("cat/1.png", "dog/1.png"):
            archive.writestr(name, picture.getvalue())
    with pytest.raises(InputError, match="zip archives; unpack them"):
        list(open_rows(tmp_path, streaming=streaming))


@pytest.mark.parametrize(
    ("names", "rows", "told"),
    [
        (["1.png", "cat/2.png", "metadata.csv"], 2, []),
        (["1.png", "cat/2.png", "metadata.csv"], 1, [r"^1 of 2 files have no line in metadata\.csv"]),
        (["1.png", "cat/2.png", "metadata.csv"], None, []),
        (["1.png", "metadata.jsonl"], 5, []),  # several lines a picture
        (["1.png", "2.png", "README.txt", "sub/x.csv"], 1, []),
        (["1.png", "captions.csv", "more.tsv.gz"], 1, [r"captions\.csv beside them is not read", r"more\.tsv\.gz"]),
    ],
)
def test_what_of_a_folder_is_not_read(tmp_path: Path, names: list[str], rows: int | None, told: list[str]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    found = passed_over(tmp_path, rows)
    assert len(found) == len(told)
    assert all(re.search(wanted, line) for wanted, line in zip(told, found, strict=True))


def pets(folder: Path, *more: str) -> Rows:
    """A folder of pictures by class, and files that are no pictures for `datasets`."""
    for name in ("cat/1.png", "dog/2.png", *more):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(media.png(1))
    return open_rows(folder)


def test_pictures_and_sounds_that_are_no_rows_are_counted_and_named(tmp_path: Path) -> None:
    rows = pets(tmp_path, "cat/b.HEIC", "cat/a.heic", "dog/c.avif", "dog/d.m4a", "dog/.e.heic", "dog/f.xyz")
    assert len(rows) == 2
    pictures, sounds = unread(tmp_path)
    assert pictures.startswith(
        f"2 .heic and 1 .avif are left out ({tmp_path / 'cat' / 'a.heic'} ...): write them as .png"
    )
    assert sounds.startswith(f"1 .m4a are left out ({tmp_path / 'dog' / 'd.m4a'} ...): write them as .flac")
    pair = [Pair("image", "image")]
    both = Mixture([rows, pets(tmp_path / "other")])
    for found in (rows, rows.take([1]), open_rows(tmp_path, streaming=True), both):
        assert Reader(found, {"image": Image()}, pair).notes == [pictures, sounds]
    assert Reader(both.sets[1], {"image": Image()}, pair).notes == []


def test_what_a_table_names_is_left_to_it(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a.avif"}\n')
    assert len(pets(tmp_path, "a.avif")) == 1
    assert Reader(open_rows(tmp_path), {"image": Image()}, [Pair("image", "image")]).notes == []
    (tmp_path / "pictures.csv").write_text("image\na.avif\n")
    assert Reader(open_rows(tmp_path / "pictures.csv"), {"image": Image()}, [Pair("image", "image")]).notes == []


def test_a_folder_of_such_files_alone_says_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "a.m4a").write_bytes(b"a sound")
    with pytest.raises(InputError, match=r"1 \.m4a are left out .*: write them as \.flac \(ffmpeg"):
        open_rows(tmp_path)


def test_metadata_that_names_no_files_says_how(tmp_path: Path) -> None:
    put(tmp_path, "wavs/1.wav")
    (tmp_path / "metadata.csv").write_text("1|in words|in words\n2|more|more\n")  # as LJSpeech has it
    with pytest.raises(
        InputError, match=r"its metadata\.csv has no column file_name .*: rename a column, or give the table"
    ):
        open_rows(tmp_path)


@pytest.mark.parametrize("text", ["", "file_name,text\n", "LJ001-0001|a|a\n"])
def test_metadata_without_rows_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "0.png").write_bytes(media.png(0))
    (tmp_path / "metadata.csv").write_text(text)
    with pytest.raises(InputError, match=r"metadata\.csv: empty or cut short"):
        open_rows(tmp_path)


def test_texts_called_as_the_pictures_beside_them_are_told_and_can_be_packed(tmp_path: Path) -> None:
    """Where there are as many, `datasets` reads the texts alone."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(4):
        (folder / f"{i}.png").write_bytes(media.png(i))
        (folder / f"{i}.txt").write_text(f"a picture of {i}")
    with pytest.raises(InputError, match=r"^4 texts are named .*pictures/0\.txt.*: pack them \(tar --sort=name -cf"):
        open_rows(folder)
    with tarfile.open(tmp_path / "pairs.tar", "w") as tar:
        for file in sorted(folder.iterdir()):
            tar.add(file, f"./{file.name}")
    rows = open_rows(tmp_path / "pairs.tar")
    assert rows.column("txt") == [f"a picture of {i}" for i in range(4)]
    (folder / "3.txt").unlink()
    assert len(open_rows(folder)) == 4
    (line,) = passed_over(folder, 4)
    assert line.startswith("3 texts are named")
    (folder / "texts").mkdir()
    for i in range(3):
        (folder / f"{i}.txt").rename(folder / "texts" / f"{i}.txt")
    assert passed_over(folder, 4) == []


def test_splits_of_several_kinds_are_told(tmp_path: Path) -> None:
    put(tmp_path, "meta/train.json", "meta/test.txt", "data/images/a/1.png", "data/images/b/2.png")
    with pytest.raises(
        InputError, match="called train, test and the like are of several kinds: give the path of the rows' file"
    ) as error:
        open_rows(tmp_path)
    assert str(error.value).endswith(f"; its 2 pictures are in {tmp_path / 'data' / 'images'}")


def test_lines_of_lists_are_told(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('["one", "two"]\n["three", "four"]\n')
    with pytest.raises(InputError, match="its lines are not all JSON objects: write each row as one"):
        open_rows(tmp_path / "a.jsonl")
