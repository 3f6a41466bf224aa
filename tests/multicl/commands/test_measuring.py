from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import found
import media
import pytest
import torch
from media import folder as media_folder
from ranked_measures import NAMES, figures
from ranks import run_ranks
from toys import Vectors, rows

from multicl import Head, Model, Pair, cli, load
from multicl.commands import arguments
from multicl.commands.compare import compare
from multicl.commands.fine_tune import fine_tune
from multicl.commands.measuring import MEASURES, Choices, measured
from multicl.commands.subject import Subject
from multicl.config import read_yaml, write_yaml
from multicl.data.rows import open_rows
from multicl.evaluation import intervals, knn_accuracy, retrieval
from multicl.evaluation.crossing import classify, crossing
from multicl.evaluation.held_out import of_model
from multicl.towers import Towers
from multicl.types import InputError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    towers = Towers({"a": Vectors(), "b": Vectors(width=5)}, [Pair("a", "b")], Head(dim=4))
    return Model(towers).save(tmp_path / "model")


def test_the_command_line_knows_every_measure() -> None:
    assert set(arguments.MEASURES) == set(MEASURES)


def test_two_processes_give_the_very_same_figures_and_intervals(saved: Path) -> None:
    alone = figures(str(saved))
    assert {"a/knn_5", "a_to_b_recall@1", "a-b/alignment", "plain mrr"} <= alone["figures"].keys()
    assert run_ranks(figures, 2, str(saved)) == [alone, alone]
    assert set(NAMES) <= set(MEASURES)


def test_measures_look_at_the_rows_that_have_what_they_need(saved: Path) -> None:
    train, test = rows(40), rows(30, seed=1)
    test[2]["a"], test[4]["a"], test[5]["label"], test[6]["label"] = None, [1.0], None, -1
    test[8]["label"], test[9]["label"] = float("nan"), float(test[9]["label"])
    model = load(saved, device="cpu")
    found = measured(Subject(model, open_rows(test), open_rows(train)), ["knn", "retrieval"], Choices(k=3))
    kept = [row for i, row in enumerate(test) if i not in (2, 4, 5, 6, 8)]
    want = knn_accuracy(
        model.embed(a=[r["a"] for r in train]), [r["label"] for r in train],
        model.embed(a=[r["a"] for r in kept]), [int(r["label"]) for r in kept], k=3,
    )  # fmt: skip
    assert found["a/knn_3"] == want
    both = [row for i, row in enumerate(test) if i not in (2, 4)]
    a, b = (model.embed_node(node, [r[node] for r in both]) for node in "ab")
    assert found["a_to_b_recall@1"] == retrieval(a, b, range(28), range(28))["recall@1"]
    by_label = measured(Subject(model, open_rows(rows(30))), ["retrieval"], Choices(ids="label"))
    assert (
        by_label["a_to_b_recall@1"]
        >= measured(Subject(model, open_rows(rows(30))), ["retrieval"], Choices())["a_to_b_recall@1"]
    )


def test_triplets_are_of_pairs_with_explicit_negatives_or_of_three_chosen_nodes() -> None:
    torch.manual_seed(0)
    nodes = {name: Vectors(tower="all") for name in "abc"}
    model, data = Model(Towers(nodes, [Pair("a", "b", negatives="c")], Head(dim=4))), rows(30)
    for row, other in zip(data, rows(30, seed=1), strict=True):
        row["b"], row["c"] = [x + 0.1 for x in row["a"]], other["a"]
    data[2]["c"], data[4]["a"] = None, [1.0]
    subject = Subject(model, open_rows(data))
    found = measured(subject, ["triplets"], Choices())
    kept = [row for i, row in enumerate(data) if i not in (2, 4)]
    a, b, c = (model.embed_node(node, [row[node] for row in kept]) for node in "abc")
    assert found == {"a-b/triplets": float(((a * b).sum(1) > (a * c).sum(1)).double().mean())}
    assert found["a-b/triplets"] > 0.8
    assert intervals(found).keys() == found.keys()
    assert measured(subject, ["triplets"], Choices(nodes=("a", "c", "b")))["a-c/triplets"] == pytest.approx(
        1 - found["a-b/triplets"]
    )


def test_both_ways_to_retrieval_and_zero_shot_give_the_same_figures() -> None:
    model, data = found.model(), media.rows(24)
    for i, row in enumerate(data):
        row["kind"] = ("red", "green", "blue")[i % 3] if i != 7 else None
        row["text"] = [f"thing {i}", f"another {i % 5}"] if i % 2 else row["text"]
    data[3]["text"], data[5]["image"] = None, b"no picture"
    rows, nodes = open_rows(data), model.towers.modalities
    subject = Subject(model, rows, batch_size=1)
    for ids in (None, "text", "kind"):
        figures = measured(subject, ["retrieval"], Choices(nodes=("image", "text"), ids=ids))
        others = crossing(of_model(model), nodes, "image", "text", rows, ids or ("image", "text"))
        same = others.keys() - {"image_text_gap"}
        assert {name: figures[name] for name in same} == {name: others[name] for name in same}
        assert {"text_to_image_mrr", "text_to_image_ndcg@5"} <= figures.keys()
    figures = measured(
        subject, ["zero_shot"], Choices(nodes=("image", "text"), label="kind", templates=("a {} thing",))
    )
    told = classify(of_model(model), nodes, "image", "text", rows, "kind", ["a {} thing"])
    assert figures["image/zero_shot"] == told["zero_shot_kind_accuracy@1"]
    words = ["red", "green", "blue"]
    plain = [{"text": "a", "image": media.png(i), "kind": row["kind"]} for i, row in enumerate(data)]
    numbered = [{**row, "kind": None if row["kind"] is None else words.index(row["kind"])} for row in plain]
    table = datasets.Dataset.from_list(numbered).cast_column("kind", datasets.ClassLabel(names=words))
    both = Choices(nodes=("image", "text"), label="kind", templates=("a {} thing", "{}"))
    named, said = (Subject(model, open_rows(rows), batch_size=1) for rows in (table, plain))
    assert measured(named, ["zero_shot"], both) == measured(said, ["zero_shot"], both)


@pytest.mark.parametrize(
    ("names", "choices", "message"),
    [
        (["knm"], Choices(), "no measure is named 'knm'"),
        (["knn"], Choices(), "learns from training rows"),
        (["uniformity"], Choices(nodes=("c",)), "has no column for node 'c'"),
        (["clustering"], Choices(label="kind"), "no column 'kind'"),
        (["zero_shot"], Choices(), "needs classes in words"),
        (["zero_shot"], Choices(names="text"), "reads the classes' words"),
        (["uniformity", "alignment"], Choices(nodes=("a",)), "^alignment: this measure compares two nodes"),
        (["modality_gap"], Choices(nodes=("a", "c")), "has no column for node 'c'"),
        (
            ["triplets"],
            Choices(),
            "need an anchor, its positive and its negative: choose them with --nodes from \\['a', 'b'\\]",
        ),
        (["triplets"], Choices(nodes=("a", "b")), "need an anchor, its positive and its negative"),
        (["triplets"], Choices(nodes=("a", "b", "c")), "has no column for node 'c'"),
    ],
)
def test_what_cannot_be_measured_is_named(saved: Path, names: list[str], choices: Choices, message: str) -> None:
    with pytest.raises(InputError, match=message):
        measured(Subject(load(saved, device="cpu"), open_rows(rows(20))), names, choices)


def test_no_rows_at_once_are_refused(saved: Path) -> None:
    with pytest.raises(InputError, match="batch_size must be 1 or more, got 0"):
        Subject(load(saved, device="cpu"), open_rows(rows(20)), batch_size=0)


def test_fine_tuning_learns_the_labels_and_leaves_the_model_alone(saved: Path) -> None:
    data = rows(200)
    for row in data:
        row["label"] = int(row["a"][0] > 0)
    data[3]["label"] = None
    model = load(saved, device="cpu")
    before = {name: p.clone() for name, p in model.towers.state_dict().items()}
    found = fine_tune(model, "a", open_rows(data[:150]), open_rows(data[150:]), "label", epochs=30, lr=0.03)
    assert found > 0.85
    assert found.interval()[0] < found
    assert all(torch.equal(p, before[name]) for name, p in model.towers.state_dict().items())


def trained(folder: Path, data: Path, *flags: str) -> Path:
    from multicl.launcher import launch
    from multicl.recipes.clip import Recipe

    small = ["--image.size", "16", "--text.width", "16", "--head.dim", "16", "--train.batch-size", "16"]
    launch(Recipe, ["--run", str(folder), "--data.path", str(data), "--train.steps", "3", *small, *flags])
    return folder


def test_runs_are_measured_and_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = media_folder(tmp_path / "data")
    one = trained(tmp_path / "one", data)
    two = trained(tmp_path / "two", data, "--train.seed", "1")
    spans = json.loads((one / "result.json").read_text())["intervals"]
    names_of = [*(f"recall@{k}" for k in (1, 5, 10)), "median_rank", "map@10"]
    ways = {f"{w}_{name}" for w in ("image_to_text", "text_to_image") for name in names_of}
    assert spans.keys() == {*ways, "image_text_gap"}

    def last(*argv: str) -> dict[str, Any]:
        capsys.readouterr()
        cli.main(list(argv))
        return dict(json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT ")))

    names = ("knn", "zero_shot", "few_shot", "--nodes", "image", "text", "--k", "5")
    with pytest.raises(SystemExit):  # labels are numbers
        last("eval", str(one), "--measure", *names)
    found = last("eval", str(one), "--measure", "knn", "retrieval", "--k", "5", "--train", "train[:20]")
    assert found["image/knn_5"] <= 1
    assert found["intervals"].keys() >= {"image/knn_5", "text/knn_5", "text_to_image_mrr"}
    said = last("eval", str(one), "--measure", "zero_shot", "--names", "text")
    assert 0 <= said["image/zero_shot"] <= 1
    cells = [{"picture": media.png(i), "caption": f"a thing {i}"} for i in range(6)]
    datasets.Dataset.from_list(cells).to_parquet(tmp_path / "other.parquet")
    other = ["--data", str(tmp_path / "other.parquet"), "--test", "train", "--columns", "image=picture", "text=caption"]
    assert 0 < last("eval", str(one), *other)["image_to_text_recall@5"] <= 1
    assert last("eval", str(one), *other, "--measure", "uniformity")["image/uniformity"] < 0
    for more in (["--measure", "uniformity"], ["--measure", "knn"], ["--pairs", "image-text"]):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            cli.main(["eval", str(one), "--columns", "text=none", *more])
        assert "no column 'none', which 'text' reads by --columns text=none" in capsys.readouterr().err
    both = last("eval", str(one), str(two), "--measure", "uniformity")
    each = [both["each"][str(run)]["image/uniformity"] for run in (one, two)]
    assert both["mean"]["image/uniformity"] == pytest.approx(sum(each) / 2, abs=1e-6)
    assert both["deviation"]["image/uniformity"] == pytest.approx(abs(each[0] - each[1]) / 2**0.5, abs=1e-5)
    compared = last("compare", str(one), str(two))
    assert compared["differences"] == {"train.seed": {str(one): 0, str(two): 1}}
    assert compared["figures"][str(one)].keys() >= spans.keys()
    own = last("eval", str(one), str(two))
    assert own["mean"]["image_to_text_recall@1"] == pytest.approx(
        sum(own["each"][str(run)]["image_to_text_recall@1"] for run in (one, two)) / 2, abs=1e-6
    )
    plain = read_yaml(two / "recipe.yaml")
    plain["sound"] = plain.pop("text")
    write_yaml(two / "recipe.yaml", plain)
    cli.main(["compare", str(one), str(two)])
    assert "\n  text: words | -\n  sound: - | words\nRESULT " in capsys.readouterr().out
    with pytest.raises(InputError, match="two runs or more"):
        compare([one])
    (tmp_path / "three").mkdir()
    (tmp_path / "three" / "recipe.yaml").write_text("recipe: clip\n")
    with pytest.raises(InputError, match="no figures yet"):
        compare([one, tmp_path / "three"])


def test_a_folder_of_several_seeds_is_evaluated_and_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = media_folder(tmp_path / "data")
    both = trained(tmp_path / "both", data, "--train.seed", "10,9")
    other = trained(tmp_path / "other", data, "--train.lr", "0.01")
    result = json.loads((both / "result.json").read_text())
    capsys.readouterr()
    cli.main(["compare", str(other), str(both)])
    table, *_, last = capsys.readouterr().out.splitlines()
    assert table.split() == [str(other), str(both), "+-", "both"]
    compared = json.loads(last.removeprefix("RESULT "))
    assert compared["figures"][str(both)]["text_to_image_map@10"] == result["text_to_image_map@10"]
    assert compared["differences"]["train.seed"] == {str(other): 0, str(both): [9, 10]}
    cli.main(["eval", str(both), "--measure", "uniformity"])
    found = json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))
    assert found["runs"] == [str(both / "seed-9"), str(both / "seed-10")]
    assert found["deviation"]["image/uniformity"] > 0


def test_a_mapping_without_entries_differs_by_those_of_the_other_alone(tmp_path: Path) -> None:
    runs = [tmp_path / name for name in "ab"]
    for run, columns, epochs in zip(runs, ("{image: img}", "{}"), ("32", "32.0"), strict=True):  # as files have them
        run.mkdir()
        text = f"recipe: clip\ndata:\n  path: x\n  columns: {columns}\ntrain:\n  epochs: {epochs}\n"
        (run / "recipe.yaml").write_text(text)
        (run / "result.json").write_text("{}")
    assert compare(runs)["differences"] == {"data.columns.image": {str(runs[0]): "img", str(runs[1]): None}}
