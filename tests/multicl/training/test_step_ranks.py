"""The exact step on two real ranks under DDP, against one process."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranked_steps import everything, trained_in_chunks, whole
from ranks import run_ranks
from steps import apart, kept, looks
from toys import rows

NO_SECOND_B = {"b": [4, 5, 6, 7]}
CASES: dict[str, dict[str, Any]] = {
    f"{name}, {'whole' if chunk is None else f'chunks of {chunk}'}": {**case, "chunk": chunk}
    for name, case in {
        "three towers": {},
        "ranks of 5 and 3": {"first": 5},
        "tied towers": {"towers": "tied"},
        "rows that lack one": {"lacking": {"b": [1, 5, 6], "w": [0]}},
        "one rank lacks b": {"lacking": NO_SECOND_B},
        "all lack b": {"lacking": {"b": list(range(8))}},
        "one rank lacks all": {"lacking": {node: [4, 5, 6, 7] for node in "abw"}},
    }.items()
    for chunk in (None, 2, 3)
}
DROPPED: dict[str, dict[str, Any]] = {
    "dropout": {"options": {"dropout": 0.3}, "chunk": 3, "kept": True},
    "dropout, one rank lacks b": {
        "options": {"dropout": 0.3},
        "chunk": 2,
        "kept": True,
        "lacking": NO_SECOND_B,
    },
    # in float64, as a norm over two rows makes much of a last bit
    "BatchNorm": {"options": {"norm": "batch"}, "chunk": 2, "kept": True, "double": True},
}
FREE = [1e9, 12_000.0]


@pytest.fixture(scope="module")
def ranks() -> list[dict[str, Any]]:
    return run_ranks(everything, 2, [*CASES.values(), *DROPPED.values()], [6, 4], rows(40), FREE)


def tensors(grads: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {name: torch.tensor(g) for name, g in grads.items()}


def of_case(ranks: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
    at = [*CASES, *DROPPED].index(name)
    return [rank["gradients"][at] for rank in ranks]


@pytest.mark.parametrize("name", CASES)
def test_ranks_have_the_gradient_of_one_process(ranks: list[dict[str, Any]], name: str) -> None:
    towers, batches = whole(CASES[name])
    loss, wanted = kept(towers, looks(towers, batches))
    for found in of_case(ranks, name):
        assert found["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert apart(tensors(found["grads"]), wanted) < 1e-5
        assert set(found["grads"]) == {n for n, _ in towers.named_parameters()}


def test_simcse_gradients_are_not_divided_by_world_size(ranks: list[dict[str, Any]]) -> None:
    towers, batches = whole({})
    _, wanted = kept(towers, looks(towers, batches))
    name = "encoders.w.table.weight"  # of text-text
    for chunk in ("whole", "chunks of 2"):
        for found in of_case(ranks, f"three towers, {chunk}"):
            ratio = tensors(found["grads"])[name].norm() / wanted[name].norm()
            assert ratio.item() == pytest.approx(1, rel=1e-5)


def test_open_clip_default_gradient_is_not_divided_by_world_size_nor_turned(ranks: list[dict[str, Any]]) -> None:
    towers, batches = whole({"towers": "tied"})
    _, wanted = kept(towers, looks(towers, batches))
    flat = torch.cat([wanted[name].flatten() for name in sorted(wanted)])
    for chunk in ("whole", "chunks of 3"):
        for found in of_case(ranks, f"tied towers, {chunk}"):
            grads = tensors(found["grads"])
            mine = torch.cat([grads[name].flatten() for name in sorted(wanted)])
            assert (mine.norm() / flat.norm()).item() == pytest.approx(1, rel=1e-5)
            assert torch.cosine_similarity(mine, flat, 0).item() == pytest.approx(1, rel=1e-6)


def test_inf_cl_temperature_gradient_is_not_w_times_too_large(ranks: list[dict[str, Any]]) -> None:
    towers, batches = whole({"towers": "tied"})
    wanted = kept(towers, looks(towers, batches))[1]["objectives.a-b.log_scale"].item()
    for chunk in ("whole", "chunks of 2", "chunks of 3"):
        for found in of_case(ranks, f"tied towers, {chunk}"):
            assert found["grads"]["objectives.a-b.log_scale"][0] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", DROPPED)
def test_gradcache_dropout_is_replayed_on_every_rank(ranks: list[dict[str, Any]], name: str) -> None:
    for found in of_case(ranks, name):
        assert apart(tensors(found["grads"]), tensors(found["mean"])) < 1e-5


def test_sentence_transformers_one_reduction_a_step(ranks: list[dict[str, Any]]) -> None:
    for rank in ranks:
        assert [found["reductions"] for found in rank["gradients"]] == [2] * (len(CASES) + len(DROPPED))  # two steps


def test_batch_norms_statistics_are_averaged_over_ranks(ranks: list[dict[str, Any]]) -> None:
    first, second = (rank["statistics"] for rank in ranks)
    assert (first["before"][2], second["before"][2]) == (6, 4)  # chunks of both views
    for at in range(3):
        mean = (torch.tensor(first["before"][at]) + torch.tensor(second["before"][at])) / 2
        torch.testing.assert_close(torch.tensor(first["after"][at]), mean.to(torch.tensor(first["after"][at]).dtype))
        assert first["after"][at] == second["after"][at]
    assert first["before"][0] != second["before"][0]
    assert (first["frozen"], second["frozen"]) == ([0.0] * 6, [1.0] * 6)


@pytest.mark.parametrize("precision", [None, "bf16"])
def test_clipped_training_is_that_of_one_process_unchunked(ranks: list[dict[str, Any]], precision: str | None) -> None:
    alone = tensors(trained_in_chunks(rows(40), None, precision))
    for rank in ranks:
        for whole_or_cut in (0, 2):
            together = tensors(rank["trained"][whole_or_cut + (precision is not None)])
            assert apart(together, alone) < (1e-4 if precision is None else 2e-2)


def test_ranks_agree_on_the_chunk_that_fits_the_poorest(ranks: list[dict[str, Any]]) -> None:
    sizes = [rank["agreed"][0] for rank in ranks]
    assert sizes[0] == sizes[1]
    assert 1 <= sizes[0] < 16
    assert all("not even one row" in rank["agreed"][1] for rank in ranks)
