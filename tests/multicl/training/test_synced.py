"""Batch norms over all ranks: layers and whole runs against one process with the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from ranked_synced import NORMS, both, inputs, lacking, layers, lonely, trained
from ranks import run_ranks
from torch import nn
from toys import rows

from multicl import InputError, Train
from multicl.training.synced import SyncedBatchNorm, synchronise


@pytest.mark.parametrize("counts", [[4, 3], [1, 5, 1]])
def test_a_norm_over_ranks_is_that_of_the_whole_batch(counts: list[int]) -> None:
    found = run_ranks(layers, len(counts), counts)
    for name, make in NORMS.items():
        torch.manual_seed(0)
        net = nn.Sequential(make()).double()
        for p in net.parameters():
            nn.init.normal_(p)
        x, sent = inputs(name)
        net(2 * x + 1)
        x.requires_grad_()
        out = net(x)
        out.backward(sent)
        assert x.grad is not None
        evaluated = net.eval()(x) if list(net.buffers()) else out
        for what, whole in (("out", out), ("x", x.grad), ("evaluated", evaluated)):
            joined = torch.tensor([row for each in found for row in each[name][what]], dtype=torch.float64)
            torch.testing.assert_close(joined, whole, rtol=1e-9, atol=1e-9)
        for each in found:
            assert each[name]["names"] == list(net.state_dict())
            for what, expected in (("parameters", [p.grad for p in net.parameters()]), ("statistics", net.buffers())):
                for mine, theirs in zip(each[name][what], expected, strict=True):
                    torch.testing.assert_close(torch.tensor(mine, dtype=theirs.dtype), theirs, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("world", [2, 3])
def test_a_run_of_several_processes_is_that_of_one(world: int) -> None:
    data = rows(36)
    some = [{**row, ("label", "a", "b")[i % 3]: None} for i, row in enumerate(rows(40))]
    ((alone, predicted),) = run_ranks(both, 1, True, data, some)
    together = run_ranks(both, world, True, data, some)
    for each, guessed in together:
        for name, x in alone.items():
            torch.testing.assert_close(torch.tensor(each[name]), torch.tensor(x), rtol=1e-4, atol=1e-5, msg=name)
        for name, x in predicted.items():
            if name != "least":
                torch.testing.assert_close(torch.tensor(guessed[name]), torch.tensor(x), rtol=1e-4, atol=1e-5, msg=name)
    assert predicted["least"] > 1
    assert min(guessed["least"] for _, guessed in together) == 0  # of a rank whose rows have a or b, none has both
    apart = run_ranks(trained, world, False, data)[0]
    weight = next(name for name in alone if name.endswith("0.weight"))
    assert (torch.tensor(apart[weight]) - torch.tensor(alone[weight])).abs().max() > 1e-3


def test_a_predictors_only_row_over_all_ranks_is_normalised_by_what_is_remembered() -> None:
    """As in one process: it has no variance, and the other rank has no row."""
    (alone,) = run_ranks(lonely, 1)
    for each in run_ranks(lonely, 2):
        for mine, theirs in zip(each, alone, strict=True):
            torch.testing.assert_close(torch.tensor(mine), torch.tensor(theirs))


def test_a_process_without_rows_is_told_on_all() -> None:
    first, other = run_ranks(lacking, 2, rows(8))
    assert first.startswith("train.sync_batch_norm needs rows of every modality on every process, but one has none")
    assert {" of 'a' in a batch" in said for said in (first, other)} == {True, False}


class Activated(nn.BatchNorm1d):
    """As timm's."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).relu()


def test_what_cannot_be_synchronised() -> None:
    with pytest.raises(
        InputError, match=r"sync_batch_norm cannot synchronise '1', a Activated: give an encoder with torch's"
    ):
        synchronise(nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2), Activated(2))))
    with pytest.raises(InputError, match=r"train.sync_batch_norm needs whole batches: leave train.chunk_size at none"):
        Train(sync_batch_norm=True, chunk_size=4)


def test_what_is_synchronised_keeps_its_tensors_its_mode_and_its_neighbours() -> None:
    net: Any = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.BatchNorm1d(2).eval(), nn.InstanceNorm1d(2)))
    before = dict(net.state_dict(keep_vars=True))
    synchronise(net)
    synchronise(net)
    assert type(net[1][0]) is SyncedBatchNorm
    assert not net[1][0].training
    assert type(net[1][1]) is nn.InstanceNorm1d
    after = net.state_dict(keep_vars=True)
    assert all(after[name] is x for name, x in before.items())
    on_gpu = nn.Sequential(nn.BatchNorm1d(2))
    synchronise(on_gpu, gpu=True)
    assert type(on_gpu[0]) is nn.SyncBatchNorm
    x = torch.randn(5, 2)
    assert torch.equal(net[1][0](x), nn.BatchNorm1d(2).eval()(x))


def test_a_module_of_bfloat16_is_normalised_as_torch_does_it() -> None:
    torch.manual_seed(0)
    x = torch.randn(16, 4).bfloat16()
    plain, synced = nn.BatchNorm1d(4).bfloat16(), SyncedBatchNorm(4).bfloat16()
    torch.testing.assert_close(synced(x), plain(x), rtol=0.016, atol=0.01)  # a step of bfloat16 at 1 is 0.008
    for (name, mine), theirs in zip(synced.named_buffers(), plain.buffers(), strict=True):
        torch.testing.assert_close(mine, theirs, msg=name)
