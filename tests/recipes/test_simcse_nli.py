"""Supervised SimCSE: the loss of its authors' code, on tables as people have them."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import media
import pytest
import torch
from torch.nn.functional import cross_entropy, normalize

import multicl

TRIPLES = [
    {"sent0": f"{color} things", "sent1": f"a {color} thing", "hard_neg": f"no {color} thing"} for color in media.COLORS
]


def jsonl(path: Path) -> Path:
    path.write_text("\n".join(json.dumps(row) for row in TRIPLES))
    return path


def comma(path: Path) -> Path:
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(TRIPLES[0]))
        table.writeheader()
        table.writerows(TRIPLES)
    return path


@pytest.mark.parametrize(
    ("write", "name"),
    [(jsonl, "t.jsonl"), (comma, "t.csv"), (lambda path: media.write(path, TRIPLES), "t.parquet")],
)
def test_loss_is_the_authors(write: Callable[[Path], Path], name: str, launched: Any, tmp_path: Path) -> None:
    columns = ["--data.columns", "anchor", "sent0", "positive", "sent1", "negative", "hard_neg"]
    still = ["--text.dropout", "0", "--train.lr", "1e-12", "--train.steps", "1", "--train.log-every", "1"]
    folder = tmp_path / "run"
    said = launched("simcse_nli", "--run", str(folder), *columns, *still, path=write(tmp_path / name))
    assert said.code == 0, said.err
    model = multicl.load(folder, device="cpu")
    assert model.space == "joint"
    z1, z2, z3 = (
        normalize(model.embed_node("anchor", [row[column] for row in TRIPLES]), dim=1)
        for column in ("sent0", "sent1", "hard_neg")
    )
    expected = cross_entropy(torch.cat([z1 @ z2.T, z1 @ z3.T], 1) / 0.05, torch.arange(len(TRIPLES)))
    logged = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    assert logged["loss"] == pytest.approx(float(expected), abs=1e-4)
    assert not expected.isclose(cross_entropy(z1 @ z2.T / 0.05, torch.arange(len(TRIPLES))), atol=1e-2)
