"""Lists beside pictures and sounds that are called as splits are hide them from `datasets`."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from multicl.data.rows import open_rows
from multicl.data.sources import named
from multicl.data.sources.hidden import only_media
from multicl.types import InputError

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open


def put(folder: Path, *names: str, text: str = "a line\n") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


CLASSES = [f"{kind}/{i}.wav" for kind in ("no", "yes") for i in range(3)]


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    "others", [["testing_list.txt", "validation_list.txt"], ["train_test_split.txt"], ["tests/test_it.py", "logo.gif"]]
)
@pytest.mark.parametrize("above", ["", "audio/"])
def test_media_beside_such_lists_are_read(
    tmp_path: Path, above: str, others: list[str], streaming: bool, caplog: pytest.LogCaptureFixture
) -> None:
    folder = put(tmp_path, *others, *(above + name for name in CLASSES))
    with caplog.at_level(logging.WARNING):
        rows = [list(open_rows(folder, streaming=streaming)) for _ in range(2)]
    assert [(Path(row["audio"]["path"]).relative_to(folder).as_posix(), row["label"]) for row in rows[0]] == [
        (above + name, int(name.startswith("yes"))) for name in CLASSES
    ]
    (told,) = (line for line in caplog.messages if "6 sounds are read" in line)
    assert ("named like a split" in told) == others[0].endswith(".txt")
    with pytest.raises(
        InputError, match=r"has no split 'test'; .* put some files of each class into test/CLASS/.*`multicl fit`"
    ):
        open_rows(folder, split="test")  # a slice at the end would be the last classes alone
    gc.collect()


@pytest.mark.parametrize(
    "names",
    [
        CLASSES,
        [*CLASSES, ".DS_Store", "no/.DS_Store", ".git/HEAD.wav"],
        ["b.PNG", "a.jpg", "sub/c.png"],
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_media_alone_are_not_searched_for_splits(
    tmp_path: Path, names: list[str], streaming: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It took `datasets` minutes in a folder of 200,000 pictures; rows and columns are as it finds them itself."""
    folder = put(tmp_path / "my training set", *names)
    with monkeypatch.context() as patch:
        patch.setattr(named, "only_media", lambda folder: None)
        searched = open_rows(folder, streaming=streaming)
        wanted = list(searched), searched.names, searched.data.features
    monkeypatch.setattr("datasets.load.get_data_patterns", lambda *_: pytest.fail("searched for splits"))
    rows = open_rows(folder, streaming=streaming)
    assert (list(rows), rows.names, rows.data.features) == wanted
    gc.collect()


@pytest.mark.parametrize(
    "name", ["train/2.wav", "x_test.wav", "val-1.wav", "x-00000-of-00001.wav", "notes.md", "2.png"]
)
def test_a_folder_that_may_say_more_is_left_to_datasets(tmp_path: Path, name: str) -> None:
    assert only_media(put(tmp_path, "no/1.wav", "yes/1.wav")) is not None
    assert only_media(put(tmp_path, name)) is None


def test_a_hidden_card_says_which_files_are_rows(tmp_path: Path) -> None:
    put(tmp_path, "a/1.wav", "b/1.wav")
    put(tmp_path, ".huggingface.yaml", text="configs:\n- config_name: default\n  data_files: a/*.wav\n")
    assert len(open_rows(tmp_path)) == 1


def test_pictures_and_masks_are_to_be_told_apart(tmp_path: Path) -> None:
    put(tmp_path, "annotations/test.txt", *(f"images/{i}.jpg" for i in range(3)), "annotations/trimaps/0.png")
    with pytest.raises(
        InputError, match=r"pictures at several depths \(.*trimaps/0\.png, .*images/2\.jpg\): give the path"
    ):
        open_rows(tmp_path)
    assert len(open_rows(tmp_path / "images")) == 3


def test_texts_of_which_there_are_more_are_read(tmp_path: Path) -> None:
    put(tmp_path, "a_test.txt", "b_test.txt", "logo.png")
    assert open_rows(tmp_path, split="test").column("text") == ["a line", "a line"]


def test_tables_that_name_none_of_more_pictures_are_refused(tmp_path: Path) -> None:
    """Food-101's list files without their ends, and by class."""
    for name in ("train", "test"):
        put(tmp_path, f"meta/{name}.json", text='{"pie": ["pie/0", "pie/1"], "ramen": ["ramen/0", "ramen/1"]}')
    put(tmp_path, *(f"images/{kind}/{i}.jpg" for kind in ("pie", "ramen") for i in range(2)))
    with pytest.raises(
        InputError, match=r"name none of its 4 pictures: give the path of their folder \(.*/images\), or"
    ):
        open_rows(tmp_path)
    assert len(open_rows(tmp_path / "meta" / "train.json")) == 2


@pytest.mark.parametrize("cell", ["0.jpg", "https://a.org/0.jpg", "/gone/0.jpg"])
def test_tables_that_name_files_are_read(tmp_path: Path, cell: str) -> None:
    put(tmp_path, *(f"images/{i}.jpg" for i in range(4)))
    put(tmp_path, "train.csv", text=f"image,text\n{cell},a\n,b\n")
    assert open_rows(tmp_path).column("text") == ["a", "b"]
    gc.collect()


def test_texts_and_labels_beside_a_few_pictures_are_read(tmp_path: Path) -> None:
    put(tmp_path, "figure.png")
    put(tmp_path, "train.csv", text="text,label\none,1\ntwo,2\n")
    assert len(open_rows(tmp_path)) == 2
    gc.collect()
