from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from toys import Vectors, rows

from multicl import Head, Model, Pair
from multicl.commands.model import embed
from multicl.own_data import own_data
from multicl.search import Index
from multicl.towers import Towers
from multicl.types import InputError

RECIPE = """recipe: gone.py
data: {path: org/set, config: small, columns: {a: first, b: second, label: class}, hold_out: 0.1}
"""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose data had other names, and whose recipe is gone."""
    torch.manual_seed(0)
    Model(Towers({"a": Vectors(), "b": Vectors(width=5)}, [Pair("a", "b")], Head(dim=4))).save(tmp_path / "run/model")
    (tmp_path / "run/recipe.yaml").write_text(RECIPE)
    return tmp_path / "run"


def test_other_data_are_called_as_the_runs_own_unless_a_flag_says_otherwise(run: Path, tmp_path: Path) -> None:
    data = [{"first": row["a"], "second": row["b"], "third": row["a"][::-1]} for row in rows(4)]
    out = tmp_path / "v.parquet"
    own = pq.read_table(embed(str(run), data, out))
    assert own.column_names == ["row", "a_vector", "b_vector"]
    assert own.column("a_vector") == pq.read_table(embed(str(run), data, out, columns={"a": "first"}))["a_vector"]
    assert own.column("a_vector") != pq.read_table(embed(str(run), data, out, columns={"a": "third"}))["a_vector"]
    assert pq.read_schema(embed(str(run), rows(4), out)).names[-2:] == ["a_vector", "b_vector"]  # by the nodes' names
    assert pq.read_schema(embed(str(run / "model"), rows(4), out)).names[-2:] == ["a_vector", "b_vector"]
    index = Index(tmp_path / "db", run)
    assert index.add(data).nodes == ("a", "b")
    assert Index(tmp_path / "db").add(data).known == 4


def test_names_that_new_data_lack_are_said(run: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = [{"x": row["a"]} for row in rows(4)]
    message = r"has a column in the data, which has \['x'\] \(its run read \{'a': 'first', .*--columns NODE=COLUMN"
    with pytest.raises(InputError, match=message):
        embed(str(run), data, tmp_path / "v.parquet")
    with pytest.raises(InputError, match=message):
        Index(tmp_path / "db", run).add(data)
    with pytest.raises(InputError, match=r"no column 'second', which 'b' reads"):
        embed(str(run), data, tmp_path / "v.parquet", nodes=["b"])
    embed(str(run), [{"second": row["b"]} for row in rows(4)], tmp_path / "v.parquet")
    assert caplog.messages == ["a is left out: the data has no column 'first' (--columns a=COLUMN)"]


def test_a_table_has_one_name_in_a_database_whoever_says_its_columns(run: Path, tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text('{"first": [1, 2, 3, 4, 5, 6], "n": 1}\n{"first": [6, 5, 4, 3, 2, 1], "n": 2}\n')
    index = Index(tmp_path / "db", run)
    index.add(table, columns={"a": "first"})
    table.write_text('{"first": [1, 2, 3, 4, 5, 6], "n": 1}\n')
    assert index.add(table).gone == 1


def test_a_configuration_is_of_its_own_set_alone(run: Path) -> None:
    own = own_data(run)
    assert (own.config_of("org/set"), own.config_of("other.csv"), own.config_of([{"x": 1}])) == ("small", None, None)


@pytest.mark.parametrize("text", ["data: nonsense", "data: {columns: [a, b]}"])
def test_a_file_that_is_no_recipes_is_named(run: Path, text: str) -> None:
    (run / "recipe.yaml").write_text(text)
    with pytest.raises(InputError, match=r"run/recipe\.yaml: "):
        own_data(run)
