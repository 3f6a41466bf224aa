"""Tars have all the columns of their samples, whichever come first."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import media
import pytest

from multicl import InputError
from multicl.data.rows import open_rows
from multicl.data.sources import tars as module
from multicl.data.sources.tars import columns_of

Sample = Mapping[str, bytes]


def tar(path: Path, samples: Sequence[Sample], first: int = 0) -> Path:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as file:
        for number, sample in enumerate(samples, first):
            for end, content in sample.items():
                member = tarfile.TarInfo(f"{number:04}.{end}")
                member.size = len(content)
                file.addfile(member, io.BytesIO(content))
    return path


def unlike(count: int) -> list[Sample]:
    """Every third has a caption, and one far down what no other has."""
    samples = [{"png": media.png(i)} | ({"txt": f"thing {i}".encode()} if i % 3 == 2 else {}) for i in range(count)]
    samples[-2] |= {"wav": media.wav(1), "cls": b"7"}
    return samples


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("where", ["set.tar", "set.tar.gz", "folder"])
def test_samples_may_lack_what_others_have(tmp_path: Path, where: str, streaming: bool) -> None:
    samples = unlike(40)
    if where == "folder":
        (tmp_path / where).mkdir()
        tar(tmp_path / where / "train-0.tar", samples[:20])
        tar(tmp_path / where / "train-1.tar", samples[20:], first=20)
    else:
        tar(tmp_path / where, samples)
    rows = list(open_rows(tmp_path / where, streaming=streaming))
    assert [row["txt"] for row in rows] == [f"thing {i}" if i % 3 == 2 else None for i in range(40)]
    assert [row["png"]["bytes"] for row in rows] == [sample["png"] for sample in samples]
    assert [row["cls"] for row in rows] == [7 if i == 38 else None for i in range(40)]
    assert [row["wav"] and row["wav"]["bytes"] for row in rows] == [
        media.wav(1) if i == 38 else None for i in range(40)
    ]


def test_keys_of_json_and_kinds_of_numbers_are_joined(tmp_path: Path) -> None:
    cells = [{"width": 1}, {"width": 2.5, "words": "a b"}, {"width": 3}, *({"width": i} for i in range(9))]
    rows = open_rows(tar(tmp_path / "set.tar", [{"json": json.dumps(cell).encode()} for cell in cells]))
    assert [row["json"]["width"] for row in rows] == [cell["width"] for cell in cells]
    assert [row["json"]["words"] for row in rows] == [cell.get("words") for cell in cells]


def test_so_many_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = (tar(tmp_path / f"{n}.tar", [*({"txt": b"a"} for _ in range(9)), {"cls": b"1"}]) for n in range(2))
    monkeypatch.setattr(module, "FILES", 18)
    assert list(columns_of([one, two])) == ["txt", "__key__", "__url__"]
    monkeypatch.setattr(module, "FILES", 20)
    assert list(columns_of([one, two])) == ["txt", "cls", "__key__", "__url__"]


def test_what_is_hidden_or_has_no_end_is_no_column(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "set.tar", "w") as file:
        for name in ("folder/", "folder/.hidden.bin", "__MACOSX.x", "README", "folder/0.txt"):
            member = tarfile.TarInfo(name.rstrip("/"))
            member.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            file.addfile(member, io.BytesIO())
    assert list(columns_of([tmp_path / "set.tar"])) == ["txt", "__key__", "__url__"]


def test_tars_that_cannot_be_read_are_left_to_datasets(tmp_path: Path) -> None:
    whole = tar(tmp_path / "whole.tar.gz", unlike(20)).read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(whole[:100])
    (tmp_path / "none.tar").write_bytes(b"no tar")
    (tmp_path / "text.tar.gz").write_bytes(gzip.compress(b"no tar"))
    for name in ("cut.tar.gz", "none.tar", "text.tar.gz"):
        assert columns_of([tmp_path / name]) is None
        with pytest.raises(InputError, match=name):
            open_rows(tmp_path / name)


def test_unlike_types_are_told(tmp_path: Path) -> None:
    cells = [{"size": 1}, {"size": "large"}]
    with pytest.raises(InputError, match=r"cannot read.*set\.tar"):
        open_rows(tar(tmp_path / "set.tar", [{"json": json.dumps(cell).encode()} for cell in cells]))
