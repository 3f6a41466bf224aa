from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import media
import pyarrow.parquet as pq
import pytest
import torch
from found import saved as saved_of_three
from ranked_commands import printed
from ranks import run_ranks
from toys import Vectors, rows

from multicl import Head, Model, Pair, cli, load
from multicl.commands.model import embed, evaluate, evaluate_all, opened
from multicl.towers import Towers
from multicl.types import InputError


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A model of two nodes; `b` has a space of its own as well."""
    torch.manual_seed(0)
    nodes = {"a": Vectors(), "b": Vectors(width=5)}
    towers = Towers(nodes, [Pair("a", "b"), Pair("b", "b", space="own")], Head(dim=4))
    return Model(towers).save(tmp_path / "model")


@pytest.fixture
def table() -> list[dict[str, Any]]:
    """Twenty rows, of which one lacks `a`, one has an `a` that cannot be read, and three lack `b`."""
    data = rows(20)
    data[3]["a"], data[5]["a"] = None, [1.0, 2.0]
    for i in (3, 8, 9):
        data[i]["b"] = None
    return data


def column(path: Path, name: str) -> list[Any]:
    return pq.read_table(path).column(name).to_pylist()  # type: ignore[no-any-return]


def test_vectors_stand_beside_what_they_are_of(
    saved: Path, table: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = embed(str(saved), table, tmp_path / "new" / "v.parquet")
    found = pq.read_table(out)
    assert found.column_names == ["row", "label", "text", "a_vector", "b_vector"]
    assert column(out, "row") == list(range(20))
    assert column(out, "label") == [row["label"] for row in table]
    assert column(out, "text") == [row["text"] for row in table]
    model = load(saved, device="cpu")
    for node, holes in (("a", [3, 5]), ("b", [3, 8, 9])):
        vectors = column(out, f"{node}_vector")
        assert [i for i, v in enumerate(vectors) if v is None] == holes
        expected = model.embed(**{node: [row[node] for i, row in enumerate(table) if i not in holes]})
        assert torch.equal(torch.tensor([v for v in vectors if v is not None]), expected)
    said = capsys.readouterr().out
    assert "a: 18 of 20 rows embedded, 1 cells left out\n  left out: row 5, column 'a': expected 6 numbers" in said
    assert "b: 17 of 20 rows embedded\n" in said
    assert [p.name for p in out.parent.iterdir()] == ["v.parquet"]


def test_names_of_files_and_texts_stand_beside_their_vectors(tmp_path: Path) -> None:
    made = saved_of_three(tmp_path / "m")
    (tmp_path / "a.png").write_bytes(media.png(0))
    (tmp_path / "d.csv").write_text("image,text\na.png,a thing\n")
    out = embed(str(made), str(tmp_path / "d.csv"), tmp_path / "v.parquet")
    assert pq.read_schema(out).names == ["row", "image", "text", "image_vector", "text_vector"]
    assert (column(out, "image"), column(out, "text")) == (["a.png"], ["a thing"])


def test_vectors_are_of_one_size_as_vector_databases_want_them(
    saved: Path, table: list[dict[str, Any]], tmp_path: Path
) -> None:
    schema = pq.read_schema(embed(str(saved), table, tmp_path / "v.parquet"))
    assert str(schema.field("a_vector").type) == "fixed_size_list<element: float>[4]"


def test_a_bad_cell_may_stop_the_command(saved: Path, table: list[dict[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"row 5, column 'a': expected 6 numbers.*--on-error skip"):
        embed(str(saved), table, tmp_path / "v.parquet", on_error="raise")
    assert not (tmp_path / "v.parquet").exists()


def test_of_several_processes_the_first_alone_writes(
    saved: Path,
    table: list[dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("RANK", "1")
    out = embed(str(saved), table, tmp_path / "v.parquet")
    assert not out.exists()
    assert capsys.readouterr() == ("", "")
    monkeypatch.setenv("RANK", "0")
    assert embed(str(saved), table, out).exists()


RECIPE = """
\"\"\"A toy.\"\"\"
from dataclasses import dataclass
import multicl
from multicl.modalities.text import Text

@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    text: Text = Text("small", width=16, layers=1, heads=2)

    def modalities(self):
        return {"text": self.text}

    def terms(self):
        return [multicl.Pair("text", "text")]

if __name__ == "__main__":
    multicl.launch(Recipe)
"""


def test_two_processes_of_torchrun_train_one_run_and_the_first_alone_writes_pages_exports_and_vectors(
    tmp_path: Path,
) -> None:
    run, recipe, data = (tmp_path / name for name in ("run", "toy.py", "t.jsonl"))
    recipe.write_text(RECIPE)
    data.write_text("".join(json.dumps({"text": f"number {i}"}) + "\n" for i in range(20)))
    torchrun(recipe, "--run", run, "--data.path", data, "--train.steps", "2", "--train.batch-size", "8")
    commands = [
        ["report", run], ["views", recipe, "--data", data, "--out", run / "views.html"],
        ["export", run, "--to", "transformers"], ["embed", run, "--data", data, "--out", run / "v.parquet"],
    ]  # fmt: skip
    said = run_ranks(printed, 2, [list(map(str, words)) for words in commands], met=False)
    assert [line for line in "".join(said).splitlines() if line.startswith(("open", "written", "text:"))] == [
        f"open {run / 'report.html'}",
        f"written: {run / 'views.html'}",
        f"written: {run / 'transformers'}",
        "text: 20 of 20 rows embedded",
        f"written: {run / 'v.parquet'}",
    ]
    assert len(column(run / "v.parquet", "text_vector")) == 20
    assert not list(run.glob(".*"))


def torchrun(*words: str | Path) -> None:
    """Two processes, on this machine's CPUs."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("ACCELERATE_")}
    env |= {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--"]
    done = subprocess.run([*start, *map(str, words)], env=env, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


def test_spaces_and_features(saved: Path, tmp_path: Path) -> None:
    model, data = load(saved, device="cpu"), rows(9)
    for space, there in (("features", None), ("own", "own"), ("joint", "joint")):
        out = embed(str(saved), data, tmp_path / "v.parquet", nodes=["b"], space=space, batch_size=4)
        assert pq.read_schema(out).names == ["row", "label", "text", "b_vector"]  # `a` is no plain column
        expected = model.embed(b=[row["b"] for row in data], space=there, batch_size=4)
        assert torch.equal(torch.tensor(column(out, "b_vector")), expected)
    with pytest.raises(InputError, match="'a' has no space 'own'"):
        embed(str(saved), data, tmp_path / "v.parquet", space="own")


def test_nodes_and_columns_are_chosen(saved: Path, tmp_path: Path) -> None:
    data = [{"x": row["a"], "n": i} for i, row in enumerate(rows(5))]
    out = embed(str(saved), data, tmp_path / "v.parquet", columns={"a": "x"})
    assert pq.read_schema(out).names == ["row", "n", "a_vector"]
    for options, message in (
        ({}, r"none of the model's nodes \['a', 'b'\] has a column in the data, which has \['x', 'n'\].*--columns"),
        ({"nodes": ["c"]}, r"the model has no node 'c'; it has \['a', 'b'\]"),
        ({"nodes": ["b"]}, r"no column 'b', which 'b' reads"),
        ({"columns": {"c": "x"}}, r"--columns names 'c', but the model's nodes are \['a', 'b'\]"),
        ({"columns": {"a": "y"}, "nodes": ["a"]}, r"no column 'y', which 'a' reads"),
        ({"columns": {"a": "nn"}}, r"no column 'nn', which 'a' reads by --columns a=nn; .*did you mean 'n'"),
    ):
        with pytest.raises(InputError, match=message):
            embed(str(saved), data, tmp_path / "v.parquet", **options)


def test_a_column_that_is_mapped_and_missing_gives_way_to_no_other(saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no column 'aa', which 'a' reads by --columns a=aa"):
        embed(str(saved), rows(5), tmp_path / "v.parquet", columns={"a": "aa"})
    assert not (tmp_path / "v.parquet").exists()


def test_columns_are_named_by_node_though_the_node_reads_another_column(tmp_path: Path) -> None:
    model = Model(Towers({"a": Vectors(column="usual")}, [Pair("a", "a")]))
    model.save(tmp_path / "m")
    data = rows(4)
    out = embed(str(tmp_path / "m"), data, tmp_path / "v.parquet", columns={"a": "b"})
    assert torch.equal(torch.tensor(column(out, "a_vector")), model.embed(a=[row["b"] for row in data]))


def test_odd_columns_do_not_stop_it(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = {
        "mixed": [1, "x", None],
        "row": [7, 8, 9],
        "blob": [b"", b"", b""],
        "null": [None] * 3,
        "t": [True, None, False],
    }
    data = [{**row, **{name: cells[i] for name, cells in odd.items()}} for i, row in enumerate(rows(3))]
    out = embed(str(saved), data, tmp_path / "v.parquet", nodes=["a"])
    assert pq.read_schema(out).names == ["row", "label", "text", "null", "t", "a_vector"]
    assert column(out, "row") == [0, 1, 2]
    assert "own column 'row' is not copied" in capsys.readouterr().out


def test_a_column_without_one_cell_is_all_null(saved: Path, tmp_path: Path) -> None:
    data: list[dict[str, Any]] = [{"a": None, "label": i} for i in range(3)]
    assert column(embed(str(saved), data, tmp_path / "v.parquet"), "a_vector") == [None] * 3


def test_from_the_command_line(saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "d.jsonl").write_text("\n".join(json.dumps(row) for row in rows(6)))
    out = tmp_path / "v.parquet"
    cli.main(["embed", str(saved), "--data", str(tmp_path / "d.jsonl"), "--out", str(out), "--nodes", "b"])
    assert pq.read_schema(out).names == ["row", "label", "text", "b_vector"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "is not a run: it has no recipe.yaml"),
        ("train: {steps: 3}\n", "names no recipe"),
        ("recipe: simclrrr\n", "no recipe is named 'simclrrr'"),
        ("recipe: /none/mine.py\n", r"/none/mine\.py: no such file"),
        ("recipe: /none/mine.py\n", r"recipe\.yaml: .*if it was moved, write its new place into the line `recipe:`"),
        ("recipe: simclr\ntrian: {steps: 3}\n", r"recipe\.yaml: unknown key 'trian'"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        evaluate(tmp_path)


MEASURED = """
from dataclasses import dataclass
import multicl
from multicl import Pair
from toys import Vectors

@dataclass(frozen=True, kw_only=True)
class Recipe(multicl.Run):
    b: Vectors = Vectors(width=5)

    def modalities(self):
        return {"a": Vectors(), "b": self.b}

    def terms(self):
        return [Pair("a", "b")]

    def measure(self, model):
        print("reads", self.run, self.data.path, self.data.test)
        return {"width": self.b.width, "norm": model.embed(a=[[1.0] * 6]).norm()}
"""


def test_eval_measures_by_the_recipe_on_the_data_given(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "measured_recipe.py").write_text(MEASURED)
    (tmp_path / "recipe.yaml").write_text(
        f"recipe: {tmp_path / 'measured_recipe.py'}\nrun: where/it/was\ndata: {{path: p, test: t}}\nb: {{width: 9}}\n"
    )
    assert evaluate(tmp_path) == {"width": 9, "norm": 1.0}
    out = capsys.readouterr().out
    assert f"reads {tmp_path} p t\n" in out
    last = json.loads(out.splitlines()[-1].removeprefix("RESULT "))
    assert last == {"run": str(tmp_path), "space": "joint", "width": 9, "norm": 1.0, "intervals": {}}
    evaluate(tmp_path, data="other", test="held")
    assert f"reads {tmp_path} other held\n" in capsys.readouterr().out


def test_a_runs_relative_data_are_found_from_other_folders(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They begin where the run was launched, which its own path tells, wherever all of it was moved."""
    project, elsewhere, recipe = tmp_path / "project", tmp_path / "elsewhere", tmp_path / "measured_recipe.py"
    run = project / "runs" / "x"
    run.mkdir(parents=True)
    elsewhere.mkdir()
    saved.rename(run / "model")
    recipe.write_text(MEASURED)
    for name in ("a.csv", "b.csv", "test"):
        (project / name).touch()
    (elsewhere / "b.csv").touch()
    data = "{path: a.csv, test: b.csv, mix: {a.csv: 1, org/set: 2}}"
    (run / "recipe.yaml").write_text(f"recipe: {recipe}\nrun: runs/x\ndata: {data}\n")
    monkeypatch.chdir(elsewhere)
    found = opened(Path("..") / "project" / "runs" / "x").data
    assert (found.path, found.test) == (str(elsewhere / ".." / "project" / "a.csv"), "b.csv")  # b.csv is here, too
    assert found.mix == {found.path: 1, "org/set": 2}
    assert opened(run, data="other.csv").data.path == "other.csv"
    evaluate(run)
    assert f"reads {run} {project / 'a.csv'} b.csv" in capsys.readouterr().out
    (run / "recipe.yaml").write_text(f"recipe: {recipe}\nrun: {run}\ndata: {{path: a.csv}}\n")
    assert (opened(run).data.path, opened(run).data.test) == ("a.csv", "test")
    (run / "recipe.yaml").write_text(f"recipe: {recipe}\nrun: runs/x\ndata: {{path: null}}\n")
    assert (opened(run).data.path, opened(run).data.test) == (None, "test")  # a split, not the file of that name
    (run / "recipe.yaml").write_text(f"recipe: {recipe}\nrun: runs/x\ndata: {{path: org/set, config: small}}\n")
    assert (opened(run).data.config, opened(run, data="other.csv").data.config) == ("small", None)


def test_eval_of_a_recipe_that_measures_nothing_says_what_does(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "silent_recipe.py").write_text(MEASURED.partition("    def measure")[0])
    (tmp_path / "recipe.yaml").write_text(f"recipe: {tmp_path / 'silent_recipe.py'}\n")
    assert evaluate(tmp_path) == {}
    said, last = capsys.readouterr().out.splitlines()
    assert said.startswith(f"{tmp_path}: its recipe measures nothing on these data; --measure and --pairs do")
    assert json.loads(last.removeprefix("RESULT ")) == {"run": str(tmp_path), "space": "joint", "intervals": {}}
    assert evaluate_all([tmp_path, tmp_path / ".." / tmp_path.name]) == {}
    assert "" not in capsys.readouterr().out.splitlines()


def test_eval_of_a_run_without_a_model_says_how_to_finish_it(tmp_path: Path) -> None:
    (tmp_path / "unfinished_recipe.py").write_text(MEASURED)
    (tmp_path / "recipe.yaml").write_text(f"recipe: {tmp_path / 'unfinished_recipe.py'}\n")
    with pytest.raises(InputError, match=r"holds no model yet: finish it with --run .* --resume auto"):
        evaluate(tmp_path)


def test_vectors_that_cannot_be_written_are_not_computed(
    saved: Path, table: list[dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"cannot be written.* or give another --out"):
        embed(str(saved), table, tmp_path / "file" / "v.parquet")
    assert "rows embedded" not in capsys.readouterr().out


def test_a_file_beside_is_left_alone_and_nothing_is_left_of_one_that_could_not_be_written(
    saved: Path, table: list[dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, beside = tmp_path / "out" / "v.parquet", tmp_path / "out" / "v.new"
    out.parent.mkdir()
    beside.write_text("somebody's")
    embed(str(saved), table, out)
    before = out.read_bytes()

    def full(table: Any, path: Path) -> None:
        path.write_bytes(b"PAR1")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(InputError, match=r"the disk of .*v\.parquet is full"):
        embed(str(saved), table, out)
    assert sorted(out.parent.iterdir()) == [beside, out]
    assert (beside.read_text(), out.read_bytes()) == ("somebody's", before)
