"""LibriSpeech says in one text of a chapter what its sounds say."""

from __future__ import annotations

from pathlib import Path

import pytest

from multicl.data.rows import open_rows


def chapter(folder: Path, name: str, lines: list[str], sounds: int = 3) -> None:
    folder.mkdir(parents=True)
    for i in range(sounds):
        (folder / f"{name}-{i:04d}.flac").write_bytes(b"")
    (folder / f"{name}.trans.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("streaming", [False, True])
def test_lines_are_a_column(tmp_path: Path, streaming: bool) -> None:
    chapter(tmp_path / "84" / "121", "84-121", ["84-121-0000 GO  ON", "", "84-121-0002\tMR. B", "85-1-0001 OTHER"])
    chapter(tmp_path / "85" / "1", "85-1", ["85-1-0001 ÜBER", "85-1-0002", "84-121-0001 OF ANOTHER FOLDER"])
    (tmp_path / "README.txt").write_text("84-121-0001 what is no line of it\n")
    rows = list(open_rows(tmp_path, streaming=streaming))
    assert {Path(row["audio"]["path"]).stem: (row["text"], row["label"]) for row in rows} == {
        "84-121-0000": ("GO  ON", 1),
        "84-121-0001": (None, 1),
        "84-121-0002": ("MR. B", 1),
        "85-1-0000": (None, 0),
        "85-1-0001": ("ÜBER", 0),
        "85-1-0002": (None, 0),
    }
    assert open_rows(tmp_path / "84" / "121").names == ["audio", "text"]


def test_other_texts_are_left(tmp_path: Path) -> None:
    chapter(tmp_path / "a", "x", ["a text of its own"])
    (tmp_path / "a" / "x-0000.txt").write_text("x-0000\n")
    rows = open_rows(tmp_path)
    assert rows.names == ["audio"]
    assert rows.data.info.builder_name == "audiofolder"


def test_metadata_come_first(tmp_path: Path) -> None:
    chapter(tmp_path / "a", "x", ["x-0000 one", "x-0001 two", "x-0002 three"])
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "a/x-0000.flac", "caption": "a caption"}\n')
    assert open_rows(tmp_path).names == ["audio", "caption"]
