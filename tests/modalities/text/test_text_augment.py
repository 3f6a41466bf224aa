"""Tokens left out: of strong views alone, in order, by each row's own seed."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import hf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from multicl.modalities.text import Text
from multicl.types import Batch, Kind

RAWS = ["a cat", "the dog that sat on the mat, and then some more text", "中文 🚀", "x"]
SEEDS = torch.tensor([3, -5, 7, 2**62])
Ways = dict[str, dict[str, float]]
WAYS: Ways = {"deletion": {"deletion": 0.3}, "crop": {"crop": 0.4}, "cutoff": {"cutoff": 0.3}}
WAYS["all"] = {name: value for way in list(WAYS.values()) for name, value in way.items()}


def small(**ways: Any) -> Text:
    return Text("small", width=16, heads=2, layers=1, max_tokens=64, **ways)


def batch_of(text: Text, raws: list[str]) -> Batch:
    return text.collate([text.load(raw, None) for raw in raws])


def tokens(batch: Batch) -> list[list[int]]:
    """Each row's, without its padding."""
    assert batch.lengths is not None
    assert torch.equal(batch.get("mask").sum(1), batch.lengths)
    rows = [ids[mask].tolist() for ids, mask in zip(batch.get("ids"), batch.get("mask"), strict=True)]
    assert all(ids[:n].tolist() == row for ids, n, row in zip(batch.get("ids"), batch.lengths, rows, strict=True))
    return rows


def is_part(part: list[int], whole: list[int]) -> bool:
    """The same order, some left out."""
    rest = iter(whole)
    return all(token in rest for token in part)


@pytest.mark.parametrize("way", WAYS)
def test_a_view_is_a_part_of_the_text_behind_its_cls(way: str) -> None:
    text = small(**WAYS[way])
    batch = batch_of(text, RAWS)
    found, whole = tokens(text.view(batch, SEEDS)), tokens(batch)
    assert found != whole
    for part, row in zip(found, whole, strict=True):
        assert part[0] == 1
        assert len(part) > 1
        assert is_part(part, row)
    assert text.view(batch, SEEDS).get("ids").shape[1] == max(map(len, found))


@pytest.mark.parametrize("way", WAYS)
def test_a_rows_draws_are_its_seeds_alone(way: str) -> None:
    text = small(**WAYS[way])
    batch = batch_of(text, RAWS)
    together = tokens(text.view(batch, SEEDS))
    for i, raw in enumerate(RAWS):
        assert tokens(text.view(batch_of(text, [raw]), SEEDS[i : i + 1])) == together[i : i + 1]
    assert together == tokens(text.view(batch, SEEDS))
    assert together != tokens(text.view(batch, SEEDS + 1))


@pytest.mark.parametrize(("kind", "seeds"), [("weak", SEEDS), ("strong", None)])
def test_captions_and_evaluation_see_the_whole_text(kind: Kind, seeds: torch.Tensor | None) -> None:
    text = small(**WAYS["all"])
    batch = batch_of(text, RAWS)
    assert text.view(batch, seeds, kind) is batch
    assert small().view(batch, SEEDS) is batch  # off by default


def views(count: int, size: int, **ways: float) -> list[list[int]]:
    """Places, from 0, that are left of a text of `size` bytes that all differ, in `count` views."""
    text = Text(torch.nn.Identity(), max_tokens=256, **ways)
    ids = torch.cat([torch.ones(1, dtype=torch.int64), torch.arange(size) + 2]).expand(count, -1)
    whole = {"ids": ids, "mask": torch.ones_like(ids, dtype=torch.bool), "lengths": torch.full((count,), size + 1)}
    view = text.view(Batch(whole, padded=("ids", "mask")), torch.arange(count))
    return [[token - 2 for token in row[1:]] for row in tokens(view)]


def test_deletion_is_by_its_chance() -> None:
    found = views(4000, 20, deletion=0.3)
    times = torch.zeros(20)
    for row in found:
        times[row] += 1
    assert (times / 4000 - 0.7).abs().max() < 0.03
    assert len(set(map(tuple, found))) > 3500


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.floats(0.05, 0.95))
def test_crop_is_one_span_of_at_least_its_share(size: int, share: float) -> None:
    found = views(300, size, crop=share)
    for row in found:
        assert all(b == a + 1 for a, b in pairwise(row))
        assert len(row) >= max(1, round(share * size - 0.5))
    if size > 20:
        assert {row[0] for row in found} & {0}
        assert any(row[-1] == size - 1 for row in found)
        assert len({len(row) for row in found}) > 1 or share > 0.9


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 60), st.floats(0.0, 0.95))
def test_cutoff_is_one_span_of_its_share(size: int, share: float) -> None:
    for row in views(50, size, cutoff=share):
        gone = [place for place in range(size) if place not in row]
        assert all(b == a + 1 for a, b in pairwise(gone))
        assert len(gone) in (0, round(size * share))  # 0: nothing would be left
        assert row


def test_of_which_nothing_is_left_stays_whole() -> None:
    found = views(200, 1, deletion=0.9)
    assert found == [[0]] * 200


def test_a_hub_tokenizers_ends_stay(tmp_path: Path) -> None:
    text = Text(str(hf.bert(tmp_path / "m")), max_tokens=16, deletion=0.5, crop=0.5)
    batch = batch_of(text, hf.TEXTS)
    for part, row in zip(tokens(text.view(batch, torch.arange(5))), tokens(batch), strict=True):
        assert (part[0], part[-1]) == (0, 2)
        assert len(part) >= 3
        assert is_part(part, row)


def test_nodes_that_thin_unlike_share_no_views() -> None:
    assert len({small(**way).source for way in ({}, *WAYS.values())}) == 5
