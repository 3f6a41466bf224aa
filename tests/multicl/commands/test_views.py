"""`multicl views`: a recipe's data and its views, as the first epoch draws them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from toys import Vectors, rows

import multicl
from multicl import Data, InfoNCE, Pair, cli
from multicl.commands import views as views_command
from multicl.launcher import recipe_class
from multicl.seeds import row_seeds
from multicl.types import Batch, InputError, Modality

RECIPE = '''
"""A toy."""
from dataclasses import dataclass
import multicl
from multicl import Modality, Pair
from multicl.modalities.text import Text

@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    text: Text = Text()

    def modalities(self) -> dict[str, Modality]:
        return {"text": self.text}

    def terms(self) -> list[Pair]:
        return [Pair("text", "text")]
'''


@dataclass(frozen=True)
class Seen(Vectors):
    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        return [("text/plain", str(row.tolist()).encode()) for row in batch.get("x")]


class Endless:
    def __iter__(self) -> Iterator[dict[str, Any]]:
        return cycle(rows(4))


@dataclass(frozen=True, kw_only=True)
class Toy(multicl.Run):
    given: Any = None
    seen: Vectors = Seen(noise=0.5)

    def modalities(self) -> dict[str, Modality]:
        return {"a": self.seen, "b": Vectors()}

    def terms(self) -> list[Pair]:
        return [Pair("a", "a", InfoNCE()), Pair("a", "b", InfoNCE())]

    def rows(self) -> Any:
        return self.given


def test_every_source_in_the_kinds_that_the_graph_asks_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = rows(20)
    data[1]["a"], data[2]["a"] = None, [1.0]
    written: dict[str, Any] = {}
    monkeypatch.setattr(views_command, "write_gallery", lambda path, **given: written.update(given))
    views_command.views(Toy(given=data), tmp_path / "v.html", rows=3, draws=2)
    a, b = written["sections"]
    assert (a.title, a.columns) == ("a", ["as it is", "strong 0", "strong 1", "weak 0", "weak 1"])
    assert [name for name, _ in a.rows] == ["0", "3", "4"]  # what is absent or cannot be read is passed by
    assert (b.title, b.columns) == ("b", ["as it is"])
    assert "Vectors has no views to show" in b.note
    toy = Seen(noise=0.5)
    batch = toy.collate([toy.load(data[n]["a"], None) for n in (0, 3, 4)])
    batch.row = batch.row.new_tensor([0, 3, 4])
    drawn = toy.show(toy.view(batch, row_seeds(batch.row, 0, 0, "a", "strong", 1), "strong"))
    assert [media[2] for _, media in a.rows] == drawn
    assert [media[0] for _, media in a.rows] == [toy.preview(data[n]["a"]) for n in (0, 3, 4)]


def test_what_cannot_be_shown_is_said(tmp_path: Path) -> None:
    empty: list[dict[str, Any]] = [{"a": None, "b": None}] * 4
    with pytest.raises(InputError, match="null in every row"):
        views_command.views(Toy(given=empty), tmp_path / "v.html")
    with pytest.raises(InputError, match="nothing to show in its first rows"):
        views_command.views(Toy(given=empty * (views_command.LOOKED_AT // 4) + rows(1)), tmp_path / "v.html")
    with pytest.raises(InputError, match="--rows and --draws"):
        views_command.views(Toy(given=rows(4)), tmp_path / "v.html", rows=0)
    with pytest.raises(InputError, match="is a stream"):
        views_command.views(Toy(given=Endless()), tmp_path / "v.html")
    with pytest.raises(InputError, match=r"cannot be written.* or give another --out"):
        views_command.views(Toy(given=rows(4)), tmp_path)


def test_the_command_takes_the_recipes_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "toy.py").write_text(RECIPE)
    (tmp_path / "t.jsonl").write_text('{"words": "green ideas"}\n{"words": "sleep"}\n')
    out = tmp_path / "v.html"
    line = ["views", str(tmp_path / "toy.py"), "--data", str(tmp_path / "t.jsonl"), "--out", str(out)]
    cli.main([*line, "--data.columns", "text", "words"])
    assert "green ideas" in out.read_text()
    assert f"written: {out}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        cli.main(["eval", "runs/x", "--data.columns", "text", "words"])
    assert "unrecognized arguments: --data.columns" in capsys.readouterr().err


def test_why_nothing_can_be_shown(tmp_path: Path) -> None:
    (tmp_path / "toy.py").write_text(RECIPE)
    (tmp_path / "t.jsonl").write_text('{"text": null}\n' + '{"text": 7}\n' * 20)
    recipe = recipe_class(str(tmp_path / "toy.py"))(data=Data(path=str(tmp_path / "t.jsonl")))
    with pytest.raises(InputError, match="nothing to show in its first rows: row 1, column 'text': a text must be"):
        views_command.view_sections(recipe)
