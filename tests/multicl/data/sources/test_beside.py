"""Tables name files that lie in folders of their own: ESC-50, Common Voice, Flickr30k, COCO have them so."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.beside import ROWS, folder_of_media

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
COUNT = ROWS + 2


def table(file: Path, ends: str = "jpg") -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"sound-00{i}.{ends},label {i % 2}" for i in range(COUNT)]
    file.write_text("\n".join(["file,kind", *lines]) + "\n")
    return file


def media(folder: Path, numbers: range = range(COUNT), ends: str = "jpg") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for i in numbers:
        (folder / f"sound-00{i}.{ends}").write_bytes(b"")
    return folder


def found(file: Path) -> set[Path]:
    return {Path(path).parent.resolve() for path in open_rows(file).resolved("file", files=True)}


@pytest.mark.parametrize("ends", ["jpg", "wav"])
@pytest.mark.parametrize("where", ["", "images", "../audio"])
def test_files_are_beside_the_table_inside_or_next_to_it(
    tmp_path: Path, where: str, ends: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = table(tmp_path / "set" / "meta.csv", ends)
    home = media(file.parent / where, ends=ends)
    (tmp_path / "set" / "empty").mkdir(exist_ok=True)
    assert found(file) == {home.resolve()}
    monkeypatch.chdir(tmp_path / "set")
    assert found(Path("meta.csv")) == {home.resolve()}
    streamed = open_rows(file, streaming=True)
    assert (streamed.base or Path()).resolve() == home.resolve()
    gc.collect()


def test_files_beside_the_table_come_first(tmp_path: Path) -> None:
    file = table(tmp_path / "set" / "meta.csv")
    media(tmp_path / "set" / "images")
    media(tmp_path / "set", range(1, 2))
    assert found(file) == {tmp_path / "set"}


def test_the_folder_with_most_of_them_is_taken_and_none_of_two(tmp_path: Path) -> None:
    file = table(tmp_path / "set" / "meta.csv")
    media(tmp_path / "other")
    media(tmp_path / "set" / "test", range(2, 4))
    media(tmp_path / "set" / "train", range(3))
    assert found(file) == {tmp_path / "set" / "train"}
    media(tmp_path / "set" / "val", range(3))
    assert found(file) == {tmp_path / "set"}


def test_a_folder_next_to_it_has_all_of_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One that has some may be of another set."""
    file = table(tmp_path / "meta" / "meta.csv")
    media(tmp_path / "else", range(3))
    assert found(file) == {tmp_path / "meta"}
    assert not caplog.records
    home = media(tmp_path / "images")
    assert found(file) == found(file) == {home}
    (told,) = caplog.messages
    assert f"meta names (sound-000.jpg ...) are read from {home}" in told
    media(tmp_path / "copies")
    assert found(file) == {tmp_path / "meta"}


def test_short_names_are_not_looked_for_next_to_it(tmp_path: Path) -> None:
    for folder in ("inside/images", "other"):
        media(tmp_path / folder)
        (tmp_path / folder / "0.jpg").write_bytes(b"")
    assert folder_of_media([{"file": "0.jpg"}], tmp_path / "inside") == tmp_path / "inside" / "images"
    assert folder_of_media([{"file": "0.jpg"}], tmp_path / "other") == tmp_path / "other"
    (tmp_path / "meta").mkdir()
    assert folder_of_media([{"file": "0.jpg"}], tmp_path / "meta") == tmp_path / "meta"
    assert folder_of_media([{"file": "sound-000.jpg"}], tmp_path / "meta") == tmp_path / "other"


@pytest.mark.parametrize(
    "cell", ["a text.", "7", None, "https://x.org/0.jpg", "/0.jpg", "~/0.jpg", "a\n0.jpg", b"0.jpg"]
)
def test_other_cells_are_no_such_files(tmp_path: Path, cell: object) -> None:
    (media(tmp_path / "images") / "0.jpg").write_bytes(b"")
    assert folder_of_media([{"file": cell}], tmp_path) == tmp_path
    assert folder_of_media([{"file": cell, "other": "0.jpg"}], tmp_path) == tmp_path / "images"


@pytest.mark.parametrize("where", ["", "tables", "tables/more"])
def test_paths_with_a_folder_begin_above_the_table(
    tmp_path: Path, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that were written where a program was started are of a folder above, as a rule."""
    for name in ("0.jpg", "1.jpg"):
        (media(tmp_path / "images" / "all", range(0)) / name).write_bytes(b"")
    (home := tmp_path / "images" / where).mkdir(parents=True, exist_ok=True)
    rows = [{"file": f"images/all/{i}.jpg"} for i in range(2)]
    assert folder_of_media(rows, home) == tmp_path
    assert f"are read from {tmp_path}" in caplog.text
    assert folder_of_media([*rows, {"file": "images/all/gone.jpg"}], home) == home
    assert folder_of_media([{"file": "0.jpg"}], home / "deep") == home / "deep"


def test_paths_with_a_folder_begin_where_the_program_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    media(tmp_path / "my" / "work" / "images")
    (tmp_path / "tables").mkdir()
    rows = [{"file": "images/sound-000.jpg"}]
    assert folder_of_media(rows, tmp_path / "tables") == tmp_path / "tables"
    monkeypatch.chdir(tmp_path / "my" / "work")
    assert folder_of_media(rows, tmp_path / "tables") == tmp_path / "my" / "work"
