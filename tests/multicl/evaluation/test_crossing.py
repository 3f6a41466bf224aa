from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
from toys import Vectors

from multicl.data.rows import Rows, open_rows
from multicl.evaluation import modality_gap
from multicl.evaluation.crossing import classify, crossing, every, named, seen
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.types import InputError, Modality

WORDS = ["red", "green", "blue", "black"]
NODES: dict[str, Modality] = {"image": Image(), "text": Text("words")}


def embed(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
    """Pictures are arrays with their vector; a text is the words that it holds."""
    if node == "text":
        return torch.tensor([[float(word in cell) + 0.01 for word in WORDS] for cell in cells])
    return torch.stack([torch.tensor(cell) for cell in cells])


def picture(*words: float) -> list[float]:
    return [float(word) for word in words]


def test_each_of_several_captions_searches_and_is_found() -> None:
    rows = open_rows(
        [
            {"image": picture(1, 0.2, 0, 0), "text": ["red", "green", " "]},
            {"image": picture(0, 0.1, 1, 0), "text": ["blue"]},
            {"image": picture(0, 0, 0.2, 1), "text": ["red", "black"]},
            {"image": None, "text": ["green"]},
        ]
    )
    found = crossing(embed, NODES, "image", "text", rows, ks=(1, 2))
    # captions: red0 green0 blue1 red2 black2; row 0's best text is red, of rows 0 and 2, whose tie counts against it
    assert found["image_to_text_recall@1"] == pytest.approx(2 / 3)
    assert found["text_to_image_recall@1"] == pytest.approx(4 / 5)  # red2 finds row 0
    joined = crossing(embed, NODES, "image", "text", rows, ids="text", ks=(1, 2))
    assert joined["image_to_text_recall@1"] == joined["text_to_image_recall@1"] == 1  # rows that share a caption
    images = torch.stack([torch.tensor(rows.row(i)["image"]) for i in range(3)])
    assert found["image_text_gap"] == pytest.approx(
        modality_gap(images, embed("text", ["red", "green", "blue", "red", "black"], {}))
    )
    assert {"image_to_text_median_rank", "text_to_image_map@2"} <= found.keys()


def test_rows_that_share_a_text_or_a_file_in_any_of_several_columns_are_all_right() -> None:
    data = [{"image": picture(*(i == j for j in range(4))), "text": w, "file": w} for i, w in enumerate(WORDS)]
    data[1]["text"], data[3]["file"], data[2]["text"] = "red", b"\0", "black"
    one = crossing(embed, NODES, "image", "text", open_rows(data), ids=["text"], ks=(1,))
    assert one["text_to_image_recall@1"] == 1  # the second "red" finds the first's, either "black" the last
    data[0]["file"] = data[2]["file"] = {"bytes": b"the same", "path": None}
    data[1]["text"], data[2]["text"] = "green", "red"
    assert crossing(embed, NODES, "image", "text", open_rows(data), ks=(1,))["text_to_image_recall@1"] == 0.75
    both = crossing(embed, NODES, "image", "text", open_rows(data), ids=["file"], ks=(1,))
    assert both["text_to_image_recall@1"] == 1  # the files of rows 0 and 2 are one


def test_files_that_hold_the_same_are_one_under_any_name(tmp_path: Path) -> None:
    for name, content in (("one", b"same"), ("copy", b"same"), ("other", b"else")):
        (tmp_path / name).write_bytes(content)
    nodes: dict[str, Modality] = {"image": Image(column="file"), "text": Text("words")}
    data = [{"file": name, "text": word} for name, word in zip(("one", "copy", "other"), WORDS, strict=False)]

    def found(ids: list[str] | None) -> float:
        return crossing(backwards, nodes, "image", "text", Rows(data, base=tmp_path), ids=ids, ks=(1,))[
            "text_to_image_recall@1"
        ]

    def backwards(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
        """The picture of either copy is said by the other's word."""
        words = {"one": "green", "copy": "red", "other": "blue"}
        return embed("text", cells if node == "text" else [words[Path(cell).name] for cell in cells], skipped)

    assert found(None) == pytest.approx(1 / 3)
    assert found(["file"]) == found(["text", "file"]) == 1


def test_a_row_for_each_caption_of_a_picture_is_as_good_as_several_in_a_cell(tmp_path: Path) -> None:
    """CSVs of COCO, Flickr30k and AudioCaps: a model that is always right finds the right ones, all copies of them."""
    captions = {"red": ["red", "a red one"], "blue": ["blue", "a blue one"]}
    for name in captions:
        (tmp_path / name).write_bytes(name.encode())
    data = [{"file": name, "title": caption} for name, several in captions.items() for caption in several]
    nodes: dict[str, Modality] = {"image": Image(column="file"), "text": Text("words", column="title")}

    def knows(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
        return embed("text", cells if node == "text" else [Path(cell).name for cell in cells], skipped)

    def found(ids: Sequence[str] | str | None) -> tuple[float, float]:
        figures = crossing(knows, nodes, "image", "text", Rows(data, base=tmp_path), ids=ids, ks=(1, 2))
        return figures["text_to_image_recall@1"], figures["image_to_text_map@2"]

    assert found(("image", "text")) == (1, 1)
    assert found("title")[0] == 0  # two copies of one picture, of which one counted as false
    every_two = every(knows, nodes, Rows(data, base=tmp_path), [("image", "text")])
    assert every_two["text_to_image_recall@1"] == 1


def test_numbers_that_rows_of_a_node_share_say_nothing() -> None:
    data = [{"image": picture(*(i == j for j in range(4))), "text": w} for i, w in enumerate(WORDS)]
    data[0]["text"], data[1]["text"] = "green", "red"
    nodes: dict[str, Modality] = {"image": Vectors(), "text": Text("words")}
    found = crossing(embed, nodes, "image", "text", open_rows(data), ids=["image", "text"], ks=(1,))
    assert found["text_to_image_recall@1"] == 0.5


def test_rows_without_an_id_are_about_themselves() -> None:
    data = [{"image": picture(*(i == j for j in range(4))), "text": w, "topic": None} for i, w in enumerate(WORDS)]
    data[0]["topic"] = data[1]["topic"] = "warm"
    data[1]["text"] = "red"
    found = crossing(embed, NODES, "image", "text", open_rows(data), ids="topic", ks=(1,))
    assert found["text_to_image_recall@1"] == 1  # "red" of row 1 finds row 0, of one topic; blue and black their own
    data[2]["text"], data[3]["text"] = "black", "blue"
    found = crossing(embed, NODES, "image", "text", open_rows(data), ids="topic", ks=(1,))
    assert found["text_to_image_recall@1"] == 0.5


@pytest.mark.parametrize("names", [("a", "b", "c"), (1, 2, 3)])
def test_rows_that_share_one_of_several_ids_are_right_and_no_others(names: Sequence[Any]) -> None:
    a, b, c = names
    data = [{"image": picture(*(i == j for j in range(4))), "text": w} for i, w in enumerate(WORDS)]
    for row, topics in zip(data, ([a, b], [b, c, None], [c], []), strict=True):
        row["topics"] = topics

    def found(*words: str) -> float:
        for row, word in zip(data, words, strict=True):
            row["text"] = word
        return crossing(embed, NODES, "image", "text", open_rows(data), ids="topics", ks=(1,))["text_to_image_recall@1"]

    assert found("green", "blue", "blue", "black") == 1  # the first shares b with the second, which shares c
    assert found("blue", "green", "red", "black") == 0.5  # though the second links them, the first and third share none
    assert found("green", "red", "green", "red") == 0.75  # the last is about itself alone


def test_of_several_columns_rows_share_one_with_the_query_itself() -> None:
    """No chain of others makes them right: the first shares a text with the second, which shares a topic."""
    data = [{"image": picture(*(i == j for j in range(4))), "text": w} for i, w in enumerate(WORDS)]
    for row, about, topic in zip(data, (["x"], ["x", "y"], [" z "], None), (1, 2, 2, None), strict=True):
        row["about"], row["topic"] = about, topic

    def found(*words: str) -> float:
        for row, word in zip(data, words, strict=True):
            row["text"] = word
        both = crossing(embed, NODES, "image", "text", open_rows(data), ids=["about", "topic"], ks=(1,))
        return both["text_to_image_recall@1"]

    assert found("green", "blue", "green", "black") == 1
    assert found("blue", "red", "red", "black") == 0.5


def test_what_training_saw_is_left_out() -> None:
    train = open_rows([{"text": ["red", "green"]}, {"text": "black"}, {"text": None}])
    assert seen(train, "text") == {"red", "green", "black"}
    data = [{"image": picture(1, 0, 0, 0), "text": "red"}, {"image": picture(0, 1, 0, 0), "text": "blue"}]
    found = crossing(embed, NODES, "image", "text", open_rows(data), ids="text", drop=seen(train, "text"))
    assert found["image_to_text_recall@1"] == 1  # one row is left
    with pytest.raises(InputError, match="no row has both 'image' and 'text' except rows that training has seen"):
        crossing(embed, NODES, "image", "text", open_rows(data[:1]), ids="text", drop={"red"})
    both = crossing(embed, NODES, "image", "text", open_rows(data), ids=["image", "text"], drop={"red"})
    assert both == found  # whatever is right to find


def test_a_text_column_of_none_is_named() -> None:
    with pytest.raises(InputError, match="the data: no row has both 'image' and 'text'"):
        crossing(embed, NODES, "image", "text", open_rows([{"image": picture(1, 0, 0, 0), "text": None}]))


@pytest.mark.parametrize(
    ("text", "why"), [(["red"], "in a readable form: no such file: x.png$"), ([" "], "in a readable form$")]
)
def test_cells_of_which_none_can_be_read_say_why(text: list[str], why: str) -> None:
    def blind(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> torch.Tensor:
        if node == "image" and text == ["red"]:
            skipped |= {at: f"no such file: {cell}" for at, cell in enumerate(cells)}
        return torch.ones(len(cells), 4)

    rows = [{"image": "x.png", "text": text}, {"image": "y.png", "text": text}]
    with pytest.raises(InputError, match=why):
        crossing(blind, NODES, "image", "text", Rows(rows, {}, None, "the data"))


def test_pairs_are_asked_for_by_name() -> None:
    nodes = dict.fromkeys(("a", "a-b", "c"), Text("words"))
    assert named("a-b-c", nodes) == ("a-b", "c")
    assert named("c-a", nodes) == ("c", "a")
    with pytest.raises(InputError, match="'c-c' does not name two nodes"):
        named("c-c", nodes)
    assert named("c-c", nodes, same=True) == ("c", "c")


def test_zero_shot_by_names_and_by_numbers() -> None:
    data = [{"image": picture(*(i == j for j in range(4))), "kind": w, "label": i} for i, w in enumerate(WORDS)]
    rows = open_rows([*data, {"image": picture(1, 0, 0, 0), "kind": None, "label": None}])
    by_name = classify(embed, NODES, "image", "text", rows, "kind")
    assert by_name["zero_shot_kind_accuracy@1"] == by_name["zero_shot_kind_mean_recall"] == 1
    wrong = classify(embed, NODES, "image", "text", rows, "label", names=[*WORDS[1:], WORDS[0]])
    assert wrong["zero_shot_label_accuracy@1"] == 0
    with pytest.raises(InputError, match="label '3' has no name"):
        classify(embed, NODES, "image", "text", rows, "label", names=WORDS[:3])
    with pytest.raises(InputError, match="zero-shot needs class names, but 0 is a number: give names"):
        classify(embed, NODES, "image", "text", rows, "label")


def test_numbers_are_called_what_the_data_call_them() -> None:
    pixels = datasets.List(datasets.Value("float32"))
    kinds = datasets.Features({"image": pixels, "kind": datasets.ClassLabel(names=WORDS)})
    cells = [picture(*(float(n == kind) for n in range(4))) for kind in (2, 0, 1, 3)]
    data = datasets.Dataset.from_dict({"image": cells, "kind": [2, 0, 1, 3]}, features=kinds)
    told = classify(embed, NODES, "image", "text", open_rows(data), "kind")
    assert told["zero_shot_kind_accuracy@1"] == 1
