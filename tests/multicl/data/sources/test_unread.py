"""Of a folder of media it is told which tables below name its files, and which classes are none."""

from __future__ import annotations

from pathlib import Path

import media
import pytest

from multicl import Pair
from multicl.data.reader import Reader
from multicl.data.rows import open_rows
from multicl.data.sources.unread import no_classes
from multicl.modalities.image import Image


def notes(folder: Path, *names: str) -> list[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(media.png(1))
    return Reader(open_rows(folder), {"image": Image()}, [Pair("image", "image")]).notes


@pytest.mark.parametrize("line", ["{}.png,3", "{},3", "gone/{}.png,3"])
def test_a_table_in_a_folder_of_its_own(tmp_path: Path, line: str) -> None:
    (tmp_path / "meta").mkdir()
    rows = [line.format(f"picture-{i}") for i in range(4)]
    (tmp_path / "meta" / "labels.csv").write_text("\n".join(["file,class", *rows]) + "\n")
    (tmp_path / "meta" / "classes.csv").write_text("class,words\n3,picture-0\n4,picture\n")
    (told,) = notes(tmp_path, *(f"images/fold{i % 2}/picture-{i}.png" for i in range(4)))
    assert told.startswith(f"{tmp_path / 'meta' / 'labels.csv'} names files of {tmp_path}, but is not read")


def test_a_folder_that_may_be_no_class(tmp_path: Path) -> None:
    (told,) = notes(tmp_path, "_noise_/0.png", "no/0.png", "yes/0.png")
    assert told.startswith("_noise_ is read as a class, like the folders beside it")


@pytest.mark.parametrize("names", [("a/x/images/0.png", "b/y/images/0.png"), ("cat/0.png", "dog/0.png", "1.png")])
def test_folders_that_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    assert notes(tmp_path, *names) == []  # of no use to all recipes
    (told,) = no_classes(open_rows(tmp_path).data, tmp_path)
    assert "no classes are read" in told
    for folder, *more in (("flat", "0.png", "1.png"), ("classes", "cat/0.png", "dog/0.png")):
        assert notes(tmp_path / folder, *more) == []
        assert no_classes(open_rows(tmp_path / folder).data, tmp_path / folder) == []
