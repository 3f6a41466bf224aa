from __future__ import annotations

from pathlib import Path

import found
import pytest

from multicl.search import Index
from multicl.search.database import OF_LANCE, kept_names

UNFIT = ["user.name", "a`b", "", "*", "a\0b", *sorted(OF_LANCE)]


def test_columns_of_any_name_are_kept_and_can_be_asked_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    index = Index(tmp_path / "db", found.model())
    rows = [{"text": text, **{name: text[0] + name for name in UNFIT}} for text in ("red", "green")]
    assert index.add(rows).new == 2
    assert "'user.name': 'user_name'" in caplog.text
    assert index.add([{**rows[0], "text": "blue"}, *rows]).known == 2
    for column, name in kept_names(UNFIT, index.nodes).items():
        (hit,) = index.search("red", where=f"`{name}` = 'g{column}'")["text"]
        assert (hit.row["text"], hit.row[name]) == ("green", f"g{column}")


@pytest.mark.parametrize("step", [1, -1])
def test_no_two_columns_get_one_name(step: int) -> None:
    columns = ["a.b", "a`b", "a_b", "id", "data_id", "_", ".", "unnamed", "", "text_vector"][::step]
    names = kept_names(columns, ["text"])
    assert len(set(names.values())) == len(columns)
    assert {column for column, name in names.items() if column == name} == {"a_b", "data_id", "_", "unnamed"}
    assert names["text_vector"] == "data_text_vector"
