from __future__ import annotations

from pathlib import Path

import pytest
import torch
from ranked import apart, collectives, collectives_beside_nccl, loss_inputs, losses, trained
from ranks import run_ranks
from toys import rows

from multicl import functional
from multicl.distributed import World, of_another

CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def test_a_world_of_one_needs_no_process_group() -> None:
    world = World.current()
    x = torch.randn(3, 2, requires_grad=True)
    assert world == World(0, 1)
    assert world.gather(x) is x
    assert world.counts(3, x.device) == [3]
    mean = world.mean(x.sum(1), torch.tensor([True, False, True]))
    assert mean.item() == pytest.approx((x[0].sum() + x[2].sum()).item() / 2)


def test_a_torch_without_ranks_has_no_errors_of_theirs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.distributed, "is_available", lambda: False)
    monkeypatch.delattr(torch.distributed, "DistError")
    assert not of_another(RuntimeError("the roof fell in"))


def test_mean_of_nothing_is_zero_with_zero_gradient() -> None:
    x = torch.full((3,), torch.nan, requires_grad=True)
    mean = World().mean(x, torch.zeros(3, dtype=torch.bool))
    assert mean.item() == 0
    assert torch.autograd.grad(mean, x)[0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("counts", [[3, 5], [2, 0, 1]])
def test_gather_and_mean_over_ranks(counts: list[int]) -> None:
    results = run_ranks(collectives, len(counts), counts)
    world, total = len(counts), sum(counts)
    valid = [i % 3 != 0 for i in range(total)]
    g = torch.Generator().manual_seed(0)
    every = torch.randn(total, 3, dtype=torch.float64, generator=g)
    mean = every.sum(1)[torch.tensor(valid)].mean().item()
    ranks_sum = world * (world + 1) / 2
    for rank, found in enumerate(results):
        start = sum(counts[:rank])
        assert found["gathered_right"]
        assert found["counts"] == counts
        assert found["any"] == [True, False]
        assert found["mean"] == pytest.approx(mean)
        weights = torch.arange(total * 3, dtype=torch.float64).reshape(total, 3) * ranks_sum
        torch.testing.assert_close(
            torch.tensor(found["home"], dtype=torch.float64).reshape(-1, 3), weights[start : start + counts[rank]]
        )
        for i, row in enumerate(found["slope"]):  # W times this rank's share
            assert row == pytest.approx([world / sum(valid) if valid[start + i] else 0] * 3)


def test_tensors_of_the_processor_are_exchanged_beside_nccl(tmp_path: Path) -> None:
    """Held-out vectors are, in runs of several GPUs."""
    counts = [3, 5]
    found = run_ranks(collectives_beside_nccl, 2, counts, str(tmp_path))
    for result, plain in zip(found, run_ranks(collectives, 2, counts), strict=True):
        assert "No backend type associated with device type cpu" in result.pop("refused")
        assert result == plain


@pytest.mark.parametrize("counts", [[3, 5], [4, 0, 3]])
def test_losses_over_ranks_are_those_of_one_process(counts: list[int]) -> None:
    results = run_ranks(losses, len(counts), counts)
    a, b, scale = (x.requires_grad_() for x in loss_inputs(sum(counts)))
    for name in ("nt_xent", "info_nce"):
        loss = getattr(functional, name)(a, b, scale)
        da, db, ds = torch.autograd.grad(loss, [a, b, scale])
        for found in results:
            assert found[name][0] == pytest.approx(loss.item(), rel=1e-12)
        for wanted, at in ((da, 1), (db, 2)):
            got = [row for found in results for row in found[name][at]]
            torch.testing.assert_close(torch.tensor(got, dtype=torch.float64), wanted)
        assert sum(found[name][3] for found in results) == pytest.approx(ds.item(), rel=1e-9)


def test_one_rank_alone_waits_for_nobody() -> None:
    found, nothing = run_ranks(apart, 2, 5)
    assert nothing is None
    for loss, got in zip((functional.nt_xent, functional.info_nce, functional.hard_negative), found, strict=True):
        a, b, _ = loss_inputs(5)
        wanted = loss(a.requires_grad_(), b, 0.3)
        assert got == [wanted.item(), *torch.autograd.grad(wanted, a)[0].flatten().tolist()]


def test_two_ranks_under_ddp_train_to_the_weights_of_one_process() -> None:
    data = rows(40)
    for i in (3, 4, 5, 11):
        data[i]["b"] = None  # rows that lack a modality
    alone = trained(data, 9, 4)
    for together in run_ranks(trained, 2, data, 9, 4):  # ranks of 5 and 4 rows
        for name, wanted in alone.items():
            torch.testing.assert_close(torch.tensor(together[name]), torch.tensor(wanted), **CLOSE, msg=name)


def test_a_modality_that_a_whole_rank_lacks_neither_hangs_nor_skews() -> None:
    data = rows(4)
    for i in range(1, 4):
        data[i]["b"] = None  # one row in four has it: most batches of a rank have none
    alone = trained(data, 2, 3)
    for together in run_ranks(trained, 2, data, 2, 3):
        for name, wanted in alone.items():
            torch.testing.assert_close(torch.tensor(together[name]), torch.tensor(wanted), **CLOSE, msg=name)
