from __future__ import annotations

from pathlib import Path
from typing import Any

import media
import pytest

from multicl import Data
from multicl.data.rows import open_rows
from multicl.fit.columns import columns_of
from multicl.fit.plan import plan
from multicl.fit.write import write_recipe
from multicl.launcher import recipe_class


@pytest.mark.parametrize(
    ("columns", "towers"),
    [(("text",), ["text"]), (("text", "caption"), ["text"]), (("image", "text"), ["image", "text"])],
)
def test_trained_weights_get_a_slower_rate_than_fresh_heads(
    columns: tuple[str, ...], towers: list[str], tmp_path: Path
) -> None:
    table: list[dict[str, Any]] = media.rows(24)
    for i, row in enumerate(table):
        row["caption"] = f"another and longer text about thing number {i}"
    rows = open_rows([{name: row[name] for name in columns} for row in table])
    for pretrained in (True, False):
        made = plan(rows, columns_of(rows), accelerator=False, pretrained=pretrained)
        file = tmp_path / f"recipe_{pretrained}.py"
        write_recipe(file, made, Data(path="data.parquet"), steps=10, source="data.parquet")
        recipe = recipe_class(str(file))()
        assert recipe.optim.tower_lr == (dict.fromkeys(towers, 0.05) if pretrained else {})
        assert recipe.train.lr == 1e-3
