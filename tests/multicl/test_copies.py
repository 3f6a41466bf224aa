"""Held-out rows that are trained on, too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from multicl import Data, HoldOut, Modality, Pair, Run, Train
from multicl.copies import caution_of, copies
from multicl.data.rows import open_rows
from multicl.modalities.text import Text
from multicl.model import Model
from multicl.run import execute
from multicl.types import InputError

FEW = Train(batch_size=4, steps=1)


def test_a_copy_is_one_row_in_every_column(tmp_path: Path) -> None:
    for name in ("a", "again"):
        (tmp_path / f"{name}.png").write_bytes(b"one")
    (tmp_path / "b.png").write_bytes(b"two")
    (tmp_path / "train.csv").write_text("image,text\na.png,cat\nb.png,dog\n")
    (tmp_path / "test.csv").write_text("image,text\nagain.png,cat\nb.png,cat\na.png, cat \nc.png,dog\n")
    train, held = (open_rows(str(tmp_path / f"{split}.csv")) for split in ("train", "test"))
    assert copies({"image": True, "text": False}, train, held) == 2
    assert copies({"image": True}, train, held) == 3
    assert copies({"text": False}, train, held) == 4
    assert copies({"image": False}, train, held) == 2  # names, then, of which one is another
    with pytest.raises(InputError, match="no column 'picture'"):
        copies({"picture": True}, train, held)


@dataclass(frozen=True, kw_only=True)
class Recipe(Run):
    train: Train = FEW

    def modalities(self) -> dict[str, Modality]:
        return {"text": Text("words", width=16)}

    def terms(self) -> list[Pair]:
        return [Pair("text", "text")]

    def measure(self, model: Model) -> dict[str, float]:
        return {"recall": 1.0}


def test_a_run_says_which_of_its_figures_flatter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for split, numbers in (("train", range(20)), ("test", range(15, 25))):
        (tmp_path / f"{split}.csv").write_text("text\n" + "".join(f"word {i}\n" for i in numbers))

    def said(data: Data) -> str | None:
        return caution_of(Recipe(data=data).trainer(), data)

    found = said(Data(path=str(tmp_path)))
    assert found is not None
    assert "5 of 10 held-out rows are copies of training rows" in found
    assert "test" in found
    assert said(Data(path=str(tmp_path), test="train[:0]")) is None
    assert said(Data(path=str(tmp_path), test="valid")) is None
    assert said(HoldOut(path=str(tmp_path / "train.csv"))) is None
    assert said(Data(path=str(tmp_path), streaming=True)) is None
    capsys.readouterr()
    execute(Recipe(data=Data(path=str(tmp_path))))
    first, then, *_ = capsys.readouterr().out.splitlines()
    assert first == found
    assert "before the first step" in then
