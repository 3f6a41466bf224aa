"""Data that are indexed a second time."""

from __future__ import annotations

from pathlib import Path

import found
import media
import pytest
from ranked_search import index_share
from ranks import run_ranks

from multicl import Model
from multicl.search import Index
from multicl.search.database import SPARE
from multicl.types import InputError


@pytest.fixture(scope="module")
def model() -> Model:
    return found.model()


def table(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def numbers(index: Index) -> dict[str, int]:
    """Text -> number of its row."""
    return {hit.row["text"]: hit.row["row"] for hit in index.search("red", k=99)["text"]}


def test_a_row_in_front_and_another_order_give_rows_their_new_numbers(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add([{"text": "white"}])
    index.add(table(tmp_path / "a.csv", "text,label", "red,1", "green,2", "blue,3"), exact_below=2)
    (scored,) = index.search("red", among=["text"], k=1)["text"]
    for lines in (["grey,0", "red,1", "green,2", "blue,3"], ["blue,3", "grey,0", "blue,3", "red,1", "green,2"]):
        added = index.add(table(tmp_path / "a.csv", "text,label", *lines), exact_below=2)
        assert (added.moved, added.gone) == ((3, 0) if lines[0] == "grey,0" else (4, 0))
        texts = [line.partition(",")[0] for line in lines]
        assert numbers(index) == {text: texts.index(text) for text in texts} | {"white": 0}
        (hit,) = index.search("red", among=["text"], k=1)["text"]
        assert (hit.score, hit.previews) == (pytest.approx(scored.score), scored.previews)
        assert hit.row == {**scored.row, "row": texts.index("red")}
    assert index.table.index_stats("text_vector_idx").num_unindexed_rows == 0
    assert index.add(tmp_path / "a.csv").moved == 0


def test_who_waits_is_told_of_rows_once_where_nobody_watches(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("multicl.waiting.LINE_EVERY", 0.0)
    monkeypatch.setattr("multicl.search.fill.CHUNK", 2)
    Index(tmp_path / "db", model).add([{"text": text} for text in ("red", "green", "blue")])
    assert capsys.readouterr().err == "index: 2 of 3 rows\nindex: 3 of 3 rows\n"


def test_a_renamed_file_is_found_under_its_new_name(model: Model, tmp_path: Path) -> None:
    (tmp_path / "pets").mkdir()
    for thing, name in enumerate("bcd"):
        (tmp_path / "pets" / f"{name}.png").write_bytes(media.png(thing))
    index = Index(tmp_path / "db", model)
    index.add(tmp_path / "pets")
    (tmp_path / "pets" / "b.png").rename(tmp_path / "pets" / "e.png")
    added = index.add(tmp_path / "pets")
    assert (added.new, added.known, added.moved, added.gone) == (0, 3, 3, 0)
    (hits,) = index.search(tmp_path / "pets" / "e.png", among=["image"]).values()
    assert hits[0].row["image_file"] == "e.png"
    assert {hit.row["image_file"]: hit.row["row"] for hit in hits} == {"c.png": 0, "d.png": 1, "e.png": 2}


def test_what_another_data_set_had_first_keeps_its_place(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add(table(tmp_path / "a.csv", "text", "red", "green"))
    added = index.add(table(tmp_path / "b.csv", "text", "blue", "green"))
    assert (added.known, added.moved) == (1, 0)
    assert index.add(table(tmp_path / "b.csv", "text", "green", "blue")).moved == 1
    assert numbers(index) == {"red": 0, "green": 1, "blue": 1}


def test_two_ranks_give_rows_their_new_numbers(model: Model, tmp_path: Path) -> None:
    words = [f"word {i}" for i in range(9)]
    Index(tmp_path / "db", model).add(table(tmp_path / "a.csv", "text", *words))
    table(tmp_path / "a.csv", "text", *words[::-1])
    run_ranks(index_share, 2, str(tmp_path / "db"), str(tmp_path / "a.csv"))
    assert numbers(Index(tmp_path / "db", model)) == {word: 8 - i for i, word in enumerate(words)}


@pytest.mark.parametrize(
    ("before", "after", "kept"),
    [
        (["", ""], ["3", ""], {"red": 3, "green": None}),
        (["1", "2"], ["1", "2.5"], {"red": 1.0, "green": 2.5}),
        (["1", "2"], ["1", ""], {"red": 1, "green": None}),
        (["1", ""], ["1.5", ""], {"red": 1.5, "green": None}),
        (["1.5", "2"], ["1", "2"], {"red": 1.0, "green": 2.0}),
        (["a", ""], ["", ""], {"red": None, "green": None}),
    ],
)
def test_a_column_of_numbers_may_have_empty_cells_and_halves_later(
    before: list[str], after: list[str], kept: dict[str, float | None], model: Model, tmp_path: Path
) -> None:
    index = Index(tmp_path / "db", model)
    for stars in (before, after):
        lines = (f"{text},{cell}" for text, cell in zip(("red", "green"), stars, strict=True))
        added = index.add(table(tmp_path / "a.csv", "text,stars", *lines), exact_below=1)
    changed = sum(one != two for one, two in zip(before, after, strict=True))
    assert (added.new, added.known, added.gone) == (changed, 2 - changed, changed)
    hits = index.search("red", k=9)["text"]
    assert {hit.row["text"]: hit.row.get("stars") for hit in hits} == kept
    assert {type(hit.row["stars"]) for hit in hits} <= {type(cell) for cell in kept.values()}
    assert all(len(hit.previews) == 1 for hit in hits)


def test_a_kill_while_a_column_is_widened_loses_nothing(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add([{"text": "red", "stars": 1}])
    index.table.add_columns(dict.fromkeys(SPARE, "CAST(stars AS DOUBLE)"))
    index.add([{"text": "green", "stars": 2.5}])
    assert {hit.row["stars"] for hit in index.search("red")["text"]} == {1.0, 2.5}
    assert not {*SPARE} & {*index.table.schema.names}
    with pytest.raises(InputError, match="column 'stars' of the data holds string, but double in the database"):
        index.add([{"text": "blue", "stars": "many"}])


def test_halves_of_an_emoji_are_kept_as_the_text_adapter_reads_them(model: Model, tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    rows = [{"text": text, "note": text} for text in ("cut \ud83d", "cut \ude00", "whole \ud83d\ude00")]
    assert index.add(rows).new == 3
    assert index.add(rows).known == 3
    hits = sorted(index.search("cut")["text"], key=lambda hit: hit.row["row"])
    assert [hit.row["text"] for hit in hits] == [hit.row["note"] for hit in hits]
    assert [hit.row["text"] for hit in hits] == ["cut \ufffd", "cut \ufffd", "whole \U0001f600"]
    assert [hit.previews["text"][1].decode() for hit in hits] == [hit.row["text"] for hit in hits]


def test_a_files_name_may_be_no_unicode(model: Model, tmp_path: Path) -> None:
    (tmp_path / "a\udcff.png").write_bytes(media.png(0))
    index = Index(tmp_path / "db", model)
    assert index.add([{"image": {"bytes": None, "path": str(tmp_path / "a\udcff.png")}}]).new == 1
    (hits,) = index.search(media.png(0), among=["image"]).values()
    assert hits[0].row["image_file"] == "a\ufffd.png"


def test_classes_of_a_folder_are_kept_by_their_names(model: Model, tmp_path: Path) -> None:
    for name in ("cats", "dogs"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        for thing in range(2):
            (tmp_path / "pets" / name / f"{thing}.png").write_bytes(media.png(thing + 2 * (name == "dogs")))
    index = Index(tmp_path / "db", model)
    index.add(tmp_path / "pets")
    (hits,) = index.search(tmp_path / "pets" / "dogs" / "0.png", among=["image"], where="label = 'dogs'", k=9).values()
    assert [hit.row["label"] for hit in hits] == ["dogs", "dogs"]
    assert index.add(tmp_path / "pets").known == 4
