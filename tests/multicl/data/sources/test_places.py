"""Tables name files that lie in several folders: UrbanSound8K, HAM10000 and ChestX-ray14 have them so."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import pytest

from multicl.data.rows import open_rows
from multicl.data.sources.beside import ROWS
from multicl.data.sources.places import places

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")  # `datasets` leaves tables open
COUNT = ROWS + 4


def media(*files: Path) -> None:
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"")


@pytest.mark.parametrize("end", ["", ".wav"])
@pytest.mark.parametrize("where", ["", "part_{}", "audio/fold{}", "../audio/fold{}", "images_{}/images"])
def test_names_become_paths(tmp_path: Path, where: str, end: str, caplog: pytest.LogCaptureFixture) -> None:
    table, names = tmp_path / "set" / "table.csv", [f"100{i:03d}-7" for i in range(COUNT)]
    media(table, *(table.parent / where.format(i % 3) / f"{name}.wav" for i, name in enumerate(names)))
    lines = [f"{name}{end},{i % 3},\n" for i, name in enumerate(names)]
    table.write_text("name,class,other\n" + "".join(lines) + f"gone-at-all{end},1,\n,2,\n")
    deep = where.count("/") > where.count("..")
    with caplog.at_level(logging.WARNING):
        rows = open_rows(table)
    if deep and not end:  # ids, which may be of anything, are looked for nearby
        assert rows.column("name") == [*names, "gone-at-all", None]
        return
    *found, gone, missing = rows.resolved("name", files=True)
    assert [Path(path).name for path in found if Path(path).is_file()] == [f"{name}.wav" for name in names]
    assert (Path(gone).stem, missing) == ("gone-at-all", None)
    assert ("lie in several folders" in caplog.text) == bool(where)
    gc.collect()


def test_every_name_is_of_one_file(tmp_path: Path) -> None:
    media(tmp_path / "a" / "one-long-name.jpg", tmp_path / "b" / "7.jpg", tmp_path / "c" / "notes.txt")
    (tmp_path / "set").mkdir()
    expected = {"one-long-name.jpg": "a/one-long-name.jpg", "7.jpg": "b/7.jpg"}
    assert places(["one-long-name.jpg", "7.jpg"], tmp_path, "") == expected
    assert places(["one-long-name"], tmp_path / "set", ".jpg")["one-long-name"] == "../a/one-long-name.jpg"
    assert places(["7.jpg"], tmp_path / "set", "") == {}  # which may be anybody's
    assert places(["7.jpg", "gone.jpg"], tmp_path, "") == {}
    media(tmp_path / "b" / "one-long-name.jpg")
    assert places(["one-long-name.jpg"], tmp_path, "") == {}
    assert places(["7.jpg"], tmp_path, "") == {"7.jpg": "b/7.jpg"}
