"""What a column is, is seen in all of it: in rows that are in order, lack cells, or are of many classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import media
import pytest

from multicl import InputError
from multicl.cli import main
from multicl.data.rows import open_rows
from multicl.fit.columns import Column, columns_of, labels_among
from multicl.fit.plan import plan


def column(cells: list[Any], name: str = "kind") -> Column:
    (found,) = columns_of(open_rows([{name: cell} for cell in cells]))
    return found


@pytest.mark.parametrize("missing", [None, -1, "", float("nan")])
def test_labels_that_some_rows_lack_are_labels(missing: Any) -> None:
    labels = [i % 3 if i % 5 else missing for i in range(60)]
    if isinstance(missing, str):
        labels = [str(label) for label in labels]
    found = column(labels)
    assert (found.classes, found.present) == (3, 0.8)
    data = open_rows([{"text": f"text {i}", "kind": label} for i, label in enumerate(labels)])
    made = plan(data, columns_of(data), accelerator=False)
    assert made.label == "kind"
    assert "column kind: 3 labels, in 80% of the rows, only for measuring" in made.why


def test_of_labels_those_come_first_that_all_rows_have() -> None:
    some, every, few = (Column(name, None, (1, 2), share, 2) for name, share in (("a", 0.9), ("b", 1.0), ("c", 0.4)))
    assert labels_among([some, every, few]) is every
    assert labels_among([few, some]) is some
    assert labels_among([few]) is None
    named = Column("Label", None, (1, 2), 0.9, 2)
    assert labels_among([every, named]) is named


def test_labels_that_no_held_out_row_has_measure_nothing() -> None:
    rows, held = (
        open_rows([{"text": f"text {i}", "label": label(i)} for i in range(40)])
        for label in (lambda i: i % 2, lambda i: -1)
    )
    made = plan(rows, columns_of(rows, held), accelerator=False)
    assert made.label is None
    assert "column label: left alone (labels, but no held-out row has one)" in made.why
    assert plan(rows, columns_of(rows, rows), accelerator=False).label == "label"


@pytest.mark.parametrize("rows", [201, 399, 1000])
def test_all_of_the_rows_are_looked_at(rows: int) -> None:
    assert column([i * 3 // rows for i in range(rows)]).classes == 3  # in order of their classes


def test_every_third_row_is_no_measure_of_all() -> None:
    assert column([f"text {i}" if i % 3 else "  " for i in range(54)], "words").adapter == "text"
    cells = [b"no picture" if i % 25 == 0 else f"text {i}" for i in range(1000)]
    assert column(cells).adapter == "text"


@pytest.mark.parametrize(("classes", "found"), [(100, 100), (1000, 1000), (1500, 0)])
def test_many_classes_are_counted_in_more_rows(classes: int, found: int) -> None:
    for cells in ([i % classes for i in range(8000)], [f"class {i * classes // 8000}" for i in range(8000)]):
        assert column(cells, "label").classes == found
        assert column(cells, "width").classes == 0  # which is rarely a class


def test_numbers_that_do_not_repeat_are_no_labels() -> None:
    assert column(list(range(3000)), "label").classes == 0


def test_classes_that_the_data_declare_are_labels_however_many() -> None:
    names = [f"class {i}" for i in range(90)]
    kinds = datasets.Features({"kind": datasets.ClassLabel(names=names)})
    data = datasets.Dataset.from_dict({"kind": [i % 90 for i in range(180)]}, kinds)
    assert columns_of(open_rows(data))[0].classes == 90


def test_a_table_without_names_is_told(tmp_path: Path) -> None:
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    (tmp_path / "t.csv").write_text("".join(f"id{i},some picture of {i},{'ab'[i % 2]}\n" for i in range(9)))  # VGGSound
    rows = open_rows(tmp_path / "t.csv")
    told = r"holds a row \('a'\), not column names: write names before it, such as image,caption,label$"
    with pytest.raises(InputError, match=told):
        columns_of(rows)
    (tmp_path / "t.csv").write_text("".join(f"{i}.png,a picture of {i},9\n" for i in range(4)))
    assert [(column.name, column.adapter) for column in columns_of(open_rows(tmp_path / "t.csv"))] == [
        *(("0", "image"), ("1", "text"), ("2", None))
    ]
    (tmp_path / "t.csv").write_text("a.png,2.png.of\n" + "".join(f"{i}.png,{i}\n" for i in range(4)))
    assert [column.name for column in columns_of(open_rows(tmp_path / "t.csv"))] == ["a.png", "2.png.of"]


def test_what_is_called_label_may_be_long_and_rare() -> None:
    names = [f"a class of things with a long name, number {i}" for i in range(20)]
    cells = [names[i % 20] for i in range(60)]
    assert column(cells, "Label").classes == 20
    assert column(cells, "remark").adapter == "text"
    assert column([f"one of a kind, and called at length, {i}" for i in range(60)], "label").adapter == "text"


def test_short_texts_that_repeat_are_labels_unless_they_are_said_to_be_texts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{"image": media.png(i, i), "the word": media.COLORS[i % 8], "n": i % 2} for i in range(120)]
    data = open_rows(rows)
    made = plan(data, columns_of(data), accelerator=False)
    assert made.label == "the word"
    assert "column the word: 8 labels, only for measuring (--as-text 'the word' trains on them as texts)" in made.why
    found = columns_of(data, texts=["the word"])
    assert [column.adapter for column in found] == ["image", "text", None]
    made = plan(data, found, accelerator=False)
    assert {(edge.a, edge.b) for edge in made.edges} == {("image", "text"), ("image", "image")}
    assert made.label == "n"
    assert "column n: 2 labels, only for measuring" in made.why
    other = open_rows([{**row, "caption": f"thing {i} at length"} for i, row in enumerate(rows)])
    assert {n.column for n in plan(other, columns_of(other), accelerator=False).nodes} == {"image", "caption"}
    made = plan(other, columns_of(other, texts=["the word"]), accelerator=False)
    assert {node.column for node in made.nodes} == {"image", "the word"}
    for name, why in (("word", r"no such column; it has \['image', 'the word', 'n'\]"), ("n", "holds no texts")):
        with pytest.raises(InputError, match=f"--as-text {name}: .*{why}"):
            columns_of(data, texts=[name])

    monkeypatch.setattr("multicl.fit.run.seconds_a_step", lambda recipe: 3.0)
    table = tmp_path / "a.csv"
    table.write_text("word,about\n" + "".join(f"{media.COLORS[i % 8]},the {i} of them\n" for i in range(120)))
    main(["fit", str(table), "--run", str(tmp_path / "run"), "--dry-run", "--as-text", "word"])
    assert "pairs: word and about" in capsys.readouterr().out


@pytest.mark.parametrize("there", [True, False])
def test_files_that_repeat_are_no_labels(tmp_path: Path, there: bool) -> None:
    """As where each row is a caption, five of one picture."""
    for i in range(5 * there):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    rows = [f"{i % 5}.png,caption {i}" for i in range(25)]
    (tmp_path / "captions.csv").write_text("\n".join(["image,caption", *rows]) + "\n")
    image, _ = columns_of(open_rows(tmp_path / "captions.csv"))
    assert (image.adapter, image.classes) == ("image" if there else None, 0)
    assert there or (image.odd and "paths of missing files" in image.odd.what)


@pytest.mark.parametrize(
    ("cell", "wanted"),
    [
        ("Y--0bn{0}9iE", "ids, such as 'Y--0bn09iE'; --as-text x trains on them"),
        ("{0}.jpg#{0}r1n", "ids, such as '0.jpg#0r1n'; --as-text x trains on them"),
        ("word-{0}", None),  # one of seven characters may be read in a picture
        ("the {0}th of many", None),
        ("第{0}句话没有空格也是文字", None),
    ],
)
def test_ids_are_no_texts(cell: str, wanted: str | None) -> None:
    """AudioCaps' and SNLI's."""
    rows = open_rows([{"x": cell.format(i), "text": cell.format(i)} for i in range(30)])
    found, named = columns_of(rows)
    assert (found.odd and found.odd.what) == wanted
    assert (found.adapter, named.adapter) == ("text" if wanted is None else None, "text")
    assert columns_of(rows, texts=["x"])[0].adapter == "text"


def test_lists_of_labels_are_no_texts() -> None:
    rows = [{"annotators": [["yes", "no"][i % 2]] * (1 + i % 3), "said": [f"thing {i}", "one"]} for i in range(30)]
    assert [column.adapter for column in columns_of(open_rows(rows))] == [None, "text"]
