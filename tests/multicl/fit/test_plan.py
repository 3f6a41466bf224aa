"""Columns are told apart, and the graph is the one that people would draw."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import media
import pytest

from multicl import InputError
from multicl.data.rows import open_rows
from multicl.fit.columns import Column, columns_of, labels_among
from multicl.fit.plan import Plan, plan

ROWS = [
    {**row, "caption": f"a much longer text about thing {i}", "number": i / 7, "kind": "ab"[i % 2]}
    for i, row in enumerate(media.rows(40))
]


def planned(*names: str, rows: Sequence[dict[str, Any]] = ROWS, **options: bool) -> Plan:
    data = open_rows([{name: row[name] for name in names} for row in rows])
    return plan(data, columns_of(data), **{"accelerator": False, **options})


def edges(made: Plan) -> set[tuple[str, str]]:
    return {(edge.a, edge.b) for edge in made.edges}


def test_columns_are_told_apart() -> None:
    found = {c.name: c for c in columns_of(open_rows(ROWS))}
    owners = {name: c.adapter for name, c in found.items()}
    assert owners == {
        "image": "image", "audio": "audio", "text": "text", "negative": "text", "caption": "text",
        "label": None, "number": None, "kind": None,
    }  # fmt: skip
    assert found["kind"].classes == 2
    assert found["number"].classes == 0


def test_captions_that_repeat_are_captions() -> None:
    rows = [{**row, "caption": f"a {'high' if i % 2 else 'low'} tone"} for i, row in enumerate(ROWS)]
    assert {c.name: c.adapter for c in columns_of(open_rows(rows))}["caption"] == "text"
    assert edges(planned("audio", "caption", rows=rows)) == {("audio", "text"), ("audio", "audio")}


def test_what_is_the_same_in_every_row_or_a_formats_own_describes_nothing() -> None:
    licence = "Creative Commons Attribution-ShareAlike 4.0 International"
    rows = [
        {"jpg": row["image"], "txt": f"thing {i}", "licence": licence, "__key__": f"key {i:09}", "__url__": f"{i % 2}"}
        for i, row in enumerate(ROWS)
    ]
    made = planned("jpg", "txt", "licence", "__key__", "__url__", rows=rows)
    assert {node.column for node in made.nodes} == {"jpg", "txt"}
    assert made.label is None
    assert "column licence: left alone (the same in every row)" in made.why


def test_a_path_is_a_file_where_there_is_one(tmp_path: Any) -> None:
    for i in range(9):
        (tmp_path / f"{i}.png").write_bytes(media.png(i))
    data = open_rows([{"picture": str(tmp_path / f"{i}.png"), "missing": f"nowhere/{i}.png"} for i in range(9)])
    found = columns_of(data)
    assert [c.adapter for c in found] == ["image", None]
    assert found[1].odd is not None
    assert found[1].odd.what == "paths of missing files, such as 'nowhere/0.png'"
    made = plan(data, found, accelerator=False)
    assert "column missing: left alone (paths of missing files, such as 'nowhere/0.png')" in made.why


def test_paths_to_nothing_are_no_texts_to_train_on(tmp_path: Any) -> None:
    table = tmp_path / "pictures.csv"
    table.write_text("image,caption\n" + "".join(f"pics/{i}.png,a picture of thing {i}\n" for i in range(20)))
    data = open_rows(table)
    with pytest.raises(InputError, match=r"column 'image' holds paths.*pics/0.png"):
        plan(data, columns_of(data), accelerator=False)


def test_pictures_some_of_which_are_missing_are_pictures(tmp_path: Any) -> None:
    for i in range(20):
        if i % 3:
            (tmp_path / f"{i}.png").write_bytes(media.png(i))
    data = open_rows([{"picture": str(tmp_path / f"{i}.png")} for i in range(20)])
    assert [c.adapter for c in columns_of(data)] == ["image"]


def test_whole_numbers_that_a_table_made_floats_are_labels() -> None:
    rows = [{"text": f"text {i}", "class": float(i % 3), "length": i % 3 + 0.5} for i in range(40)]
    assert [c.classes for c in columns_of(open_rows(rows))] == [0, 3, 0]


def test_numbers_among_texts_are_left_out_of_their_length() -> None:
    rows = [{"text": 7 if i % 9 == 0 else [f"text {i}", 8] if i % 2 else f"text {i}"} for i in range(40)]
    assert edges(planned("text", rows=rows)) == {("text", "text")}


def test_why_a_column_is_left_alone() -> None:
    rows = [
        {"text": f"text {i}", "rare": f"and {i}" if i < 10 else " ", "few": "ab"[i % 2] if i < 16 else None}
        for i in range(40)
    ]
    why = planned("text", "rare", "few", rows=rows).why
    assert "column rare: left alone (text, in 25% of the rows)" in why
    assert "column few: left alone (labels, in 40% of the rows)" in why
    with pytest.raises(InputError, match=r"text \(the same in every row\)"):
        planned("text", rows=[{"text": "the same"}] * 9)


def test_of_several_label_columns_the_one_that_is_called_so() -> None:
    def labels(name: str) -> Column:
        return Column(name, None, (1, 2), 1.0, 2)

    assert labels_among([labels("speaker"), labels("label")]).name == "label"  # type: ignore[union-attr]
    assert labels_among([labels("speaker"), labels("colour")]).name == "speaker"  # type: ignore[union-attr]
    assert labels_among([Column("x", "text", ("a",), 1.0)]) is None


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        (["image"], {("image", "image")}),
        (["text"], {("text", "text")}),
        (["image", "text"], {("image", "text"), ("image", "image")}),
        (["audio", "text"], {("audio", "text"), ("audio", "audio")}),
        (["text", "caption"], {("text", "caption")}),
        (["image", "audio"], {("image", "audio")}),
        (["image", "audio", "text"], {("image", "text"), ("audio", "text")}),
    ],
)
def test_the_graph(names: list[str], wanted: set[tuple[str, str]]) -> None:
    made = planned(*names)
    assert {frozenset(edge) for edge in edges(made)} == {frozenset(edge) for edge in wanted}


def test_beside_media_one_text_is_taken_and_labels_are_for_figures() -> None:
    made = planned(
        "image", "other", "caption", "kind", rows=[{**row, "other": f"id {i}"} for i, row in enumerate(ROWS)]
    )
    assert {node.column for node in made.nodes} == {"image", "caption"}
    assert made.label == "kind"
    assert any("other: left alone" in line for line in made.why)


def test_of_many_texts_the_first_and_the_longest() -> None:
    rows = [{"term": f"t{i}", "also": f"t{i}; u{i}", "meaning": f"what t{i} means at length"} for i in range(20)]
    assert edges(planned("term", "also", "meaning", rows=rows)) == {("term", "meaning")}


@pytest.mark.parametrize("first", [0, 2])
def test_negatives_are_explicit_ones_and_never_a_match(first: int) -> None:
    """AllNLI's anchor, positive, negative; before, the longest was the anchor's match."""
    names = ["anchor", "positive", "negative"]
    names = names[first:] + names[:first]
    rows = [{n: f"{n} {i}" + " of many words" * (n == "negative") for n in names} for i in range(20)]
    made = planned(*names, rows=rows)
    (edge,) = made.edges
    assert (edge.a, edge.b, edge.negatives) == ("anchor", "positive", "negative")
    assert {node.tower for node in made.nodes} == {"text"}
    assert "pairs: anchor and positive, with hard negatives from negative" in made.why
    assert made.crossings == [("anchor", "positive")]


def test_negatives_alone_or_beside_pictures_are_texts_as_others() -> None:
    assert edges(planned("negative")) == {("text", "text")}
    assert {node.column for node in planned("image", "text", "negative").nodes} == {"image", "text"}
    assert {node.column for node in planned("image", "negative").nodes} == {"image", "negative"}
    assert edges(planned("text", "negative")) == {("text", "text")}


@pytest.mark.parametrize("name", ["score", "is_duplicate", "Label"])
def test_texts_of_which_a_column_may_say_that_they_do_not_match_are_told(name: str) -> None:
    rows = [{"one": f"text {i}", "two": f"a text {i}", name: i % 2} for i in range(20)]
    line = f"all rows are trained as matches: if column {name} says which match, recipe scored_pairs"
    assert any(why.startswith(line) for why in planned("one", "two", name, rows=rows).why)
    assert not any("match" in why for why in planned("one", name, rows=rows).why)


def test_two_columns_of_a_kind_share_a_tower() -> None:
    rows = [{"front": media.png(i), "run": media.png(i, 1)} for i in range(12)]
    made = planned("front", "run", rows=rows)
    assert [(n.name, n.column, n.tower) for n in made.nodes] == [
        ("front", "front", "image"),
        ("image_2", "run", "image"),
    ]


@pytest.mark.parametrize(
    "name", ["from", "class", "terms", "rows", "field", "multicl", "probe", "self", "held_out", "label", "measure"]
)
def test_a_column_is_called_by_a_number_where_the_recipe_cannot_have_its_name(name: str) -> None:
    rows = [{name: f"a short text {i}", "to": f"another one about {i}"} for i in range(20)]
    assert [n.name for n in planned(name, "to", rows=rows).nodes] == ["text_1", "to"]


def test_sizes_follow_cells_and_machine() -> None:
    (node,) = planned("image").nodes
    assert node.suggestion.settings == {"encoder": "small", "size": 32}
    (large,) = planned("image", rows=[{"image": media.png(i, size=200)} for i in range(12)], accelerator=True).nodes
    assert large.suggestion.settings["size"] == 224
    (sound,) = planned("audio").nodes
    assert sound.suggestion.settings == {"encoder": "small", "rate": 8000, "max_seconds": 1.0}
    assert "--pretrained" in planned("image").why[-1]
    assert "--pretrained" not in planned("image", pretrained=True).why[-1]
    assert planned("image").batch_size == 8


def test_data_that_no_adapter_reads_are_refused_and_every_column_named() -> None:
    with pytest.raises(InputError, match=r"number \(unknown\), kind \(labels\)"):
        planned("number", "kind")


def test_a_long_name_of_a_column_may_be_a_row() -> None:
    """MS MARCO's triplets name no columns."""
    long = "what is the longest river of all " * 4
    made = planned(long, "b", rows=[{long: f"a text {i}", "b": f"another {i}"} for i in range(20)])
    assert any(line.endswith("if the first line is a row, write column names before it") for line in made.why)
