from __future__ import annotations

from pathlib import Path
from typing import Any

import found
import media
import numpy as np
import pytest
from ranked_search import index_share
from ranks import run_ranks
from toys import Vectors

from multicl import Head, Model, Pair, cli
from multicl.search import Index, approximate, commands, fill
from multicl.search.database import fingerprint
from multicl.towers import Towers
from multicl.types import InputError


@pytest.fixture(scope="module")
def model() -> Model:
    return found.model()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Twenty rows; one lacks a text, one has a picture that cannot be read."""
    data = media.rows(20)
    data[3]["text"], data[5]["image"] = None, b"no picture"
    return data


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory, model: Model, rows: list[dict[str, Any]]) -> Index:
    there = Index(tmp_path_factory.mktemp("db") / "db", model)
    added = there.add(rows)
    assert (added.rows, added.new, added.known, added.repeats) == (20, 20, 0, 0)
    assert len(added.skipped) == 1
    assert added.skipped[0].startswith("row 5, column 'image': ")
    return there


def brute(model: Model, node: str, cells: list[Any], query: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    """Numbers and cosines of the k nearest cells, by numpy alone."""
    there = [i for i, cell in enumerate(cells) if cell is not None]
    vectors = model.embed_node(node, [cells[i] for i in there]).numpy()
    scores = vectors @ query
    best = np.argsort(-scores)[:k]
    return [there[i] for i in best], scores[best].tolist()


def test_finds_what_brute_force_finds_in_every_direction(
    index: Index, model: Model, rows: list[dict[str, Any]], tmp_path: Path
) -> None:
    picture, sound = tmp_path / "a.png", tmp_path / "b.wav"
    picture.write_bytes(media.png(2, 9))
    sound.write_bytes(media.wav(3, 9))
    for query, node, others in (
        ("a red thing", "text", ["image", "audio"]),
        (picture, "image", ["text", "audio"]),
        (str(sound), "audio", ["image", "text"]),
        (media.png(1, 9), "image", ["text", "audio"]),
    ):
        hits = index.search(query, k=5)
        assert list(hits) == others
        vector = model.embed_node(node, [query]).numpy()[0]
        for target, found_there in hits.items():
            cells = [None if i == 5 and target == "image" else row[target] for i, row in enumerate(rows)]
            numbers, scores = brute(model, target, cells, vector, 5)
            assert [hit.row["row"] for hit in found_there] == numbers
            assert [hit.score for hit in found_there] == pytest.approx(scores, abs=1e-5)
            assert all(hit.row["label"] == rows[hit.row["row"]]["label"] for hit in found_there)
    (hits_of_own,) = index.search("x", among=["text"], k=30).values()
    assert len(hits_of_own) == 19  # a row without a text is not found by it


def test_rows_bring_what_pages_show(index: Index, rows: list[dict[str, Any]]) -> None:
    hit = index.search("a thing", among=["image"], k=1)["image"][0]
    source = rows[hit.row["row"]]
    assert set(hit.previews) == {"image", "text", "audio"}
    assert hit.previews["image"][0] == "image/png"
    assert hit.previews["audio"][0].startswith("audio/")
    assert hit.previews["text"] == ("text/plain; charset=utf-8", source["text"].encode())
    assert hit.row["negative"] == source["negative"]


def test_conditions_come_before_the_search(index: Index, model: Model, rows: list[dict[str, Any]]) -> None:
    hits = index.search("a red thing", among=["image"], where="label = 3 OR text LIKE 'green%'", k=20)["image"]
    wanted = {i for i, row in enumerate(rows) if row["label"] in (1, 3)} - {5}
    assert {hit.row["row"] for hit in hits} == {i for i in wanted if i != 3 or rows[3]["label"] == 3}
    for bad in ("lable = 3", "label === 3", "label = "):
        with pytest.raises(InputError, match="condition"):
            index.search("a", where=bad)


def test_only_what_is_new_is_added(model: Model, rows: list[dict[str, Any]], tmp_path: Path) -> None:
    index = Index(tmp_path / "db", model)
    index.add(rows[:8])
    again = Index(tmp_path / "db", model)
    added = again.add([*rows[:12], rows[11]])
    assert (added.new, added.known, added.repeats) == (4, 8, 1)
    assert len(again) == 12
    changed = [{**rows[0], "label": 99, "place": "here"}]  # another row, with one more column
    assert again.add(changed).new == 1
    assert again.search("a", among=["image"], where="place = 'here'")["image"][0].row["label"] == 99
    with pytest.raises(InputError, match="column 'label' of the data holds string, but int64"):
        again.add([{**rows[0], "label": "x"}])


def test_columns_called_as_the_databases_own_are_kept_and_tell_rows_apart(
    model: Model, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    index = Index(tmp_path / "db", model)
    shoes = [{"id": 1000 + i, "row": "x", "data_row": i, "text": "a red shoe"} for i in range(3)]
    added = index.add(shoes)
    assert (added.new, added.repeats) == (3, 0)
    assert "{'id': 'data_id', 'row': 'data_data_row'}" in caplog.text
    (hit,) = index.search("red", where="data_id = 1002")["text"]
    assert hit.row["row"] == hit.row["data_row"] == 2
    assert hit.row["data_data_row"] == "x"
    assert index.add(shoes).known == 3


def test_a_changed_row_takes_the_place_of_what_it_was(model: Model, tmp_path: Path) -> None:
    table, other = tmp_path / "it's.csv", tmp_path / "other.csv"
    table.write_text("text,label\nred,1\ngreen,2\nblue,3\n")
    other.write_text("text,label\nblack,4\n")
    index = Index(tmp_path / "db", model)
    index.add(other)
    index.add([{"text": "white", "label": 5}])
    assert index.add(table).gone == 0
    table.write_text("text,label\ngrey,0\nred,1\ngreener,2\n")  # one above, one changed, one taken out
    added = Index(tmp_path / "db", model).add(str(tmp_path / "." / "it's.csv"))
    assert (added.new, added.known, added.gone) == (2, 1, 2)
    found = Index(tmp_path / "db", model).search("red", k=10)["text"]
    assert {hit.row["text"] for hit in found} == {"grey", "red", "greener", "black", "white"}
    assert found[0].row.keys() == {"id", "row", "label"} | {"text"}


def test_a_database_from_before_rows_had_a_source_goes_on(model: Model, tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text("text\nred\ngreen\n")
    index = Index(tmp_path / "db", model)
    index.add(table)
    index.db.open_table("rows").drop_columns(["_source", "_image_file", "_text_file", "_audio_file"])
    table.write_text("text\nred\ngreen\nblue\n")
    added = Index(tmp_path / "db", model).add(table)
    assert (added.new, added.known, added.gone) == (1, 2, 0)


def test_a_found_picture_is_named_by_its_file(model: Model, tmp_path: Path) -> None:
    for i in range(4):
        place = tmp_path / "pets" / ("cat" if i % 2 else "dog")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i}.png").write_bytes(media.png(i))
    index = Index(tmp_path / "db", model)
    index.add(tmp_path / "pets")
    index.add([{"image": {"bytes": media.png(7), "path": "/elsewhere/7.png"}}, {"image": media.png(8)}])
    (found,) = index.search(str(tmp_path / "pets" / "cat" / "1.png"), k=6).values()
    assert found[0].row.items() >= {"image_file": "cat/1.png"}.items()
    files = {hit.row.get("image_file") for hit in found}
    assert files == {"dog/0.png", "cat/1.png", "dog/2.png", "cat/3.png", "7.png", None}
    assert "image_file" in commands.lines(found)[0]


def test_files_are_known_by_their_bytes_wherever_they_lie(model: Model, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "x.png").write_bytes(media.png(0))
    index = Index(tmp_path / "db", model)
    assert index.add([{"image": str(tmp_path / "a" / "x.png"), "image_file": "same"}]).new == 1
    assert index.add([{"image": str(tmp_path / "a" / "x.png"), "image_file": "same"}]).known == 1
    (tmp_path / "a" / "x.png").write_bytes(media.png(1))
    assert index.add([{"image": str(tmp_path / "a" / "x.png"), "image_file": "same"}]).new == 1


def test_a_killed_filling_goes_on(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fill, "CHUNK", 4)
    data, done = media.rows(10), []
    embed = fill._embedded

    def dies(*args: Any) -> Any:
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(1)
        return embed(*args)

    monkeypatch.setattr(fill, "_embedded", dies)
    with pytest.raises(KeyboardInterrupt):
        Index(tmp_path / "db", model).add(data)
    monkeypatch.setattr(fill, "_embedded", embed)
    index = Index(tmp_path / "db", model)
    assert len(index) == 8
    added = index.add(data)
    assert (added.new, added.known) == (2, 8)
    assert {hit.row["row"] for hit in index.search("a", among=["image"])["image"]} == set(range(10))


def test_two_ranks_fill_one_database(tmp_path: Path, model: Model) -> None:
    data = [*media.rows(9), media.rows(9)[2]]
    counts = run_ranks(index_share, 2, str(tmp_path / "db"), data)
    assert counts == [(10, 9, 1), (10, 9, 1)]
    one = Index(tmp_path / "one", model)
    one.add(data)
    both = Index(tmp_path / "db", model)
    assert len(both) == len(one) == 9
    for here, there in zip(*(i.search("red", among=["image"], k=9)["image"] for i in (one, both)), strict=True):
        assert here.row == there.row
        assert here.score == pytest.approx(there.score, abs=1e-5)


def test_an_approximate_index_is_measured(tmp_path: Path) -> None:
    model = Model(Towers({"a": Vectors(), "b": Vectors()}, [Pair("a", "b")], Head(dim=4)))
    draw = np.random.default_rng(0)
    data = [{"a": draw.normal(size=6).tolist(), "b": draw.normal(size=6).tolist(), "n": i} for i in range(600)]
    index = Index(tmp_path / "db", model)
    index.add(data, exact_below=500)
    kept = Index(tmp_path / "db", model).about.approximate
    assert set(kept) == {"a", "b"}
    assert kept["a"].parts == 24
    assert kept["a"].probes <= 24
    queries = model.embed(b=[row["b"] for row in data[:40]]).numpy()
    exact = [[h.row["row"] for h in index.nearest("a", q, None, 10)] for q in queries]
    near = [[h.row["row"] for h in index.nearest("a", q, None, 10, kept["a"].probes)] for q in queries]
    for q, numbers in zip(queries, exact, strict=True):
        assert numbers == brute(model, "a", [row["a"] for row in data], q, 10)[0]
    assert approximate.recall_at(near, exact) == pytest.approx(kept["a"].recall, abs=0.1)
    assert kept["a"].recall >= approximate.WANTED
    filtered = index.search(data[0]["a"], among=["b"], where="n < 5", k=10)["b"]  # fewer than a probed part may hold
    assert sorted(h.row["row"] for h in filtered) == [0, 1, 2, 3, 4]


def test_another_models_vectors_are_refused(index: Index, model: Model, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"holds vectors of another model \(a model in memory, weights .*another folder"
    ):
        Index(index.where, found.model(seed=1))
    with pytest.raises(InputError, match=r"vectors of space joint, not None \(on a command line: features\)"):
        Index(index.where, model, space=None)
    with pytest.raises(
        InputError, match=r"no space is named 'x'; there are \['joint'\] and None .*command line: features"
    ):
        Index(tmp_path / "other", model, space="x")
    with pytest.raises(
        InputError, match=r"cannot be loaded: no such folder: a model in memory. Give it as --model RUN"
    ):
        Index(index.where)
    assert fingerprint(model) == fingerprint(found.load_again(model, tmp_path / "m"))
    assert fingerprint(model) != fingerprint(found.model(seed=1))


def test_what_cannot_be_read_is_said_in_a_line(index: Index, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"nothing")
    for query, message in (
        (str(tmp_path / "bad.png"), r"no node of the model can read .*bad\.png: image: .*; audio: "),
        ("nowhere.wav", "no such file: nowhere.wav"),
        ("./words", "no such file"),
        ("", "no node of the model can read '': text: the text is empty"),
        (tmp_path / "none", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            index.search(query)
    for options, message in (
        ({"k": 0}, "k must be 1 to 1000, got 0"),
        ({"node": "video"}, "no node is named 'video'"),
        ({"among": ["video"]}, "'text' cannot be compared with 'video'"),
    ):
        with pytest.raises(InputError, match=message):
            index.search("words", **options)


def test_places_that_are_no_database(model: Model, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("x")
    (tmp_path / "empty").mkdir()
    for where, given, message in (
        (tmp_path / "none", None, "no such search database"),
        (tmp_path / "other", model, "is not a search database"),
        (tmp_path / "other" / "file", model, "is not a search database"),
        (tmp_path / "empty", None, "is empty"),
        (tmp_path / "new", "./none", "no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            Index(where, given)
    with pytest.raises(InputError, match="holds no rows yet"):
        Index(tmp_path / "unfilled", model).search("a")
    with pytest.raises(InputError, match=r"none of the model's nodes .* has a column"):
        Index(tmp_path / "unfilled", model).add([{"x": 1}])


def test_features_compare_within_a_tower(tmp_path: Path) -> None:
    nodes = {"a": Vectors(tower="t"), "b": Vectors(tower="t"), "c": Vectors(width=5)}
    model = Model(Towers(nodes, [Pair("a", "b"), Pair("a", "c")], Head(dim=4)), None)
    index = Index(tmp_path / "db", model)
    index.add([{n: [float(i), 1, 2, 3, 4, 5] for n in "abc"} for i in range(3)])
    assert list(index.search("[1, 1, 2, 3, 4, 5]")) == ["a", "b"]
    assert list(index.search([1.0, 1, 2, 3, 4, 5], node="c")) == ["c"]


def test_a_node_alone_is_refused_with_a_way_out(index: Index) -> None:
    with pytest.raises(InputError, match=r"among= takes a list of nodes, got 'image': write among=\['image'\]"):
        index.search("red thing", among="image")


def test_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, table, db = found.saved(tmp_path / "run"), media.write(tmp_path / "d.parquet", media.rows(6)), tmp_path / "db"
    cli.main(["index", str(run), "--data", str(table), "--out", str(db), "--exact-below", "4"])
    said = capsys.readouterr().out
    assert "6 rows of image, text, audio: 6 added\n" in said
    assert "image: approximate index of 2 parts" in said
    cli.main(["search", str(db), "red thing", "--in", "image", "--k", "2", "--where", "label < 4"])
    said = capsys.readouterr().out
    assert said.startswith("query read as text\n\nnearest by image:\nscore  row")
    assert said.splitlines()[-1].startswith('RESULT {"asked_as": "text", "found": {"image": [{"score": ')
    cli.main(["search", str(db), "red thing", "--in", "image", "--where", "label > 99"])
    said = capsys.readouterr().out
    assert (
        said == 'query read as text\n\nnearest by image: nothing\nRESULT {"asked_as": "text", "found": {"image": []}}\n'
    )
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit):
        cli.main(["search", str(db), "<b>red", "--html", str(tmp_path)])
    assert "cannot be written" in capsys.readouterr().err
    cli.main(["search", str(db), "<b>red", "--html", str(page)])
    html = page.read_text()
    assert "&lt;b&gt;red" in html
    assert "<b>red" not in html
    assert html.count("<audio") == html.count("<img") == 12
    for arguments, message in (
        (["search", str(tmp_path / "none"), "x"], "no such search database"),
        (["search", str(db), "x", "--where", "nope = 1"], "the condition 'nope = 1' cannot be used"),
        (["index", str(tmp_path / "none"), "--data", str(table), "--out", str(db)], "no such folder"),
        (["index", str(run), "--data", str(tmp_path / "none.csv"), "--out", str(db)], "no such file"),
        (
            ["index", str(run), "--data", str(table), "--out", str(db), "--columns", "text=none"],
            "no column 'none', which 'text' reads by --columns text=none",
        ),
    ):
        with pytest.raises(SystemExit) as error:
            cli.main(arguments)
        assert error.value.code == 2
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1
        assert message in lines[0]
