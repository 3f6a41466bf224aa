"""Folders of classes that are not the ones that hold the files, or stand beside flat ones."""

from __future__ import annotations

from pathlib import Path

import media
import pytest

from multicl.data.rows import open_rows


def write(folder: Path, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(media.png(at))


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("inside", ["images/", ""])
def test_classes_of_one_split_beside_flat_ones(tmp_path: Path, inside: str, streaming: bool) -> None:
    """Tiny-ImageNet's, whose classes hold a folder images each, and ImageNet's; of neither val and test are in any."""
    there = [f"train/{name}/{inside}{i}.JPEG" for name in ("n02", "n01") for i in range(3)]
    write(tmp_path, *there, f"val/{inside}7.JPEG", f"val/{inside}8.JPEG", f"test/{inside}9.JPEG")
    rows = list(open_rows(tmp_path, streaming=streaming))
    assert {(Path(row["image"]["path"]).relative_to(tmp_path).parts[1], row["label"]) for row in rows} == {
        ("n01", "n01"),
        ("n02", "n02"),
    }
    assert len(rows) == 6
    assert open_rows(tmp_path, split="validation", streaming=streaming).names == ["image"]
    assert open_rows(tmp_path, split="test", streaming=streaming).names == ["image"]


def test_parts_of_splits_and_several(tmp_path: Path) -> None:
    write(tmp_path, *(f"{split}/{name}/images/0.png" for split in ("train", "val") for name in ("a", "b")))
    assert open_rows(tmp_path, split="train[:50%]").column("label") == ["a"]
    assert open_rows(tmp_path, split="train+validation").names == ["image"]  # of a split, or of a class


@pytest.mark.parametrize(
    "names", [("a/x/images/0.png", "b/y/images/0.png"), ("a/0.png", "b/0.png", "1.png"), ("a/images/0.png",)]
)
def test_folders_that_are_no_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    write(tmp_path, *names)
    assert open_rows(tmp_path).names == ["image"]
