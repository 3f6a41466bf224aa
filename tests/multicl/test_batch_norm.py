"""Batch norm where one row is alone, or none is there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from toys import Vectors, rows

from multicl import Head, InfoNCE, Pair, Predicted, Train, Trainer
from multicl.batch_norm import BatchNorm


def test_more_rows_are_torchs() -> None:
    mine, theirs = BatchNorm(4), nn.BatchNorm1d(4)
    for n in (5, 2):
        x = torch.randn(n, 4, generator=torch.Generator().manual_seed(n))
        assert torch.equal(mine(x), theirs(x))
    assert all(torch.equal(t, theirs.state_dict()[name]) for name, t in mine.state_dict().items())
    assert torch.equal(mine.eval()(x[:1]), theirs.eval()(x[:1]))


@pytest.mark.parametrize("affine", [True, False])
def test_one_row_is_normalised_by_the_running_statistics_which_stay(affine: bool) -> None:
    norm = BatchNorm(4, affine=affine)
    norm(3 + torch.randn(9, 4, generator=torch.Generator().manual_seed(0)))
    before = {name: t.clone() for name, t in norm.state_dict().items()}
    x = torch.randn(1, 4, generator=torch.Generator().manual_seed(1)).requires_grad_()
    found = norm(x)
    mean, scale = before["running_mean"], (before["running_var"] + norm.eps).sqrt()
    torch.testing.assert_close(found, (x - mean) / scale)
    assert all(torch.equal(t, before[name]) for name, t in norm.state_dict().items())
    norm(torch.randn(9, 4, generator=torch.Generator().manual_seed(2)))  # moves them
    (grad,) = torch.autograd.grad(found.sum(), x)
    torch.testing.assert_close(grad, 1 / scale[None])


def test_no_row_gives_none_and_the_statistics_stay() -> None:
    norm, x = BatchNorm(4), torch.zeros(0, 4, requires_grad=True)
    before = {name: t.clone() for name, t in norm.state_dict().items()}
    found = norm(x)
    assert found.shape == (0, 4)
    grads = torch.autograd.grad(found.sum(), [x, *norm.parameters()])
    assert [g.abs().sum().item() for g in grads] == [0, 0, 0]
    assert all(torch.equal(t, before[name]) for name, t in norm.state_dict().items())


@pytest.mark.parametrize("chunk", [None, 3])
def test_a_batch_may_have_a_single_row_of_a_modality(tmp_path: Path, chunk: int | None) -> None:
    data: list[dict[str, Any]] = [{**row, "c": row["b"] if i % 16 == 0 else None} for i, row in enumerate(rows(64))]
    objective = Predicted(InfoNCE(), hidden=5)
    nodes = {"a": Vectors(), "b": Vectors(width=5), "c": Vectors()}
    terms = [Pair("a", "b"), Pair("a", "c", objective, keys="momentum")]
    head = Head(dim=8, norm="batch", centred=True)
    train = Train(batch_size=8, steps=12, chunk_size=chunk, log_every=1, lr=1e-2)
    alone, trainer = [], Trainer(nodes, terms, data, head=head, train=train, run=tmp_path / "run")
    trainer.towers.head("c", "joint").register_forward_hook(lambda _, args, out: alone.append(len(out) == 1))
    model = trainer.fit()
    assert any(alone)
    assert all(t.isfinite().all() for t in model.towers.state_dict().values())
