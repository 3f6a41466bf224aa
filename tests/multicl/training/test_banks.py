"""Training with banks: against plain lists, in chunks, on two ranks, and resumed."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from ranked_banks import banked, held
from ranks import run_ranks
from steps import Ids, apart, grads_of, looks
from torch import Tensor
from torch.nn.functional import normalize, softplus
from toys import Vectors, rows

from multicl import Data, Head, InputError, InstanceNCE, Pair, Train, Trainer
from multicl.distributed import World
from multicl.pairs import Call
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.memory import Memory
from multicl.training.step import exact_step
from multicl.types import Batch, Context, Embedded

T, K = 0.3, 10


def data() -> list[dict[str, Any]]:
    """Rows of which some lack b."""
    found = rows(30)
    for i in range(0, 30, 4):
        found[i]["b"] = None
    return found


def part(first: int, node: int, n: int = 6) -> Batch:
    g = torch.Generator().manual_seed(100 * node + first)
    return Batch({"x": torch.randn(n, 6, generator=g)}, torch.arange(first, first + n))


@pytest.mark.parametrize("chunk", [None, 4])
def test_cmc_is_what_plain_lists_make(chunk: int | None) -> None:
    """a's rows against b's slots and b's against a's; a slot begins as its row and moves by half after the loss."""
    seed_everything("test")
    pair = Pair("a", "b", InstanceNCE(T, negatives=K))
    towers = Towers({"a": Vectors(), "b": Vectors()}, [pair], Head(dim=7))
    memory = Memory(towers, sizes=[20])
    slots: dict[str, dict[int, Tensor]] = {"a": {}, "b": {}}
    for step, first in enumerate((0, 6, 3, 3)):
        batches = {"a": part(first, 0), "b": part(first, 1)}
        z = {n: normalize(towers.embed(n, batch, ["joint"])[0], dim=1) for n, batch in batches.items()}
        for node, own in slots.items():
            for row, vector in zip(batches[node].row.tolist(), z[node].detach(), strict=True):
                own.setdefault(row, vector)

        def context(pair: Pair, call: Call, step: int = step) -> Context:
            return Context(World(), step)

        before = {n: memory.banks.banks["a-b", n].z.clone() for n in "ab"}
        outcome = exact_step(
            towers, towers, looks(towers, dict(batches)), Ids(), context, torch.Tensor.backward, chunk, memory=memory
        )
        losses = []
        for node, other, side in (("a", "b", "a"), ("b", "a", "b")):
            bank = memory.banks.banks["a-b", other]
            if step == 0:  # Z is of the random beginnings
                assert bank.log_norm == pytest.approx(
                    (before[other] @ z[node].T / T).exp().mean().log().item(), abs=0.5
                )
            assert bank.log_norm is not None
            row = batches[node].row
            drawn = bank.negatives(Embedded(z[node], row, row + 100), K, step, side).at(slice(0, 6)).tolist()
            for i, r in enumerate(row.tolist()):
                assert r not in drawn[i]
                logits = torch.stack([slots[other][k] for k in (r, *drawn[i])]) @ z[node][i] / T
                logits = logits - bank.log_norm - math.log(K)
                losses.append(softplus(-logits[0]) + softplus(logits[1:]).sum())
        wanted = torch.stack(losses).mean()
        assert outcome.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        names = [name for name, _ in towers.named_parameters()]
        grads = dict(zip(names, torch.autograd.grad(wanted, [*towers.parameters()]), strict=True))
        assert apart(grads_of(towers), grads) < 1e-5
        for node, own in slots.items():
            for row_, vector in zip(batches[node].row.tolist(), z[node].detach(), strict=True):
                own[row_] = normalize((own[row_] + vector) / 2, dim=0)
            bank = memory.banks.banks["a-b", node]
            assert bank.seen.nonzero().flatten().tolist() == sorted(own)
            for row_, vector in own.items():
                torch.testing.assert_close(bank.z[row_], vector)
        with torch.no_grad():
            for p in towers.parameters():
                assert p.grad is not None
                p -= 0.5 * p.grad
                p.grad = None


def test_draws_of_one_node_share_a_bank_that_moves_by_their_mean() -> None:
    seed_everything("test")
    towers = Towers({"a": Vectors()}, [Pair("a", "a", InstanceNCE(T, negatives=K))], Head(dim=7))
    memory = Memory(towers, sizes=[20])
    batch = part(2, 0)
    seen = [
        type(look)(batch, lambda b, draw=look.readers[0].view.draw: b.replace(x=b.get("x") + draw), look.readers)
        for look in looks(towers, {"a": batch})
    ]
    exact_step(
        towers, towers, seen, Ids(), lambda pair, call: Context(World(), symmetric=True), torch.Tensor.backward,
        memory=memory,
    )  # fmt: skip
    z = [
        normalize(towers.embed("a", batch.replace(x=batch.get("x") + draw), ["joint"])[0], dim=1) for draw in (0.0, 1.0)
    ]
    (bank,) = memory.banks.banks.values()
    torch.testing.assert_close(bank.z[2:8], normalize(z[0] + z[1], dim=1))
    assert len(bank) == 6


@pytest.mark.parametrize("chunk", [None, 2])
def test_ranks_learn_what_one_process_does(chunk: int | None) -> None:
    alone = held(data(), None)
    assert sum(alone["bank:a-a:a:seen"]) == 30
    assert sum(alone["bank:a-b:b:seen"]) == 22
    for rank in run_ranks(held, 2, data(), chunk):
        assert rank.keys() == alone.keys()
        for name, values in alone.items():
            torch.testing.assert_close(torch.tensor(rank[name]), torch.tensor(values), rtol=1e-3, atol=2e-5, msg=name)


def test_a_first_batch_in_which_no_row_has_both_sides_leaves_the_banks_as_they_began() -> None:
    """Z is of the banks as they begin: it waits for a batch that has some."""
    seed_everything("test")
    towers = Towers({"a": Vectors(), "b": Vectors()}, [Pair("a", "b", InstanceNCE(T, negatives=K))], Head(dim=7))
    memory = Memory(towers, sizes=[20])
    began = {name: t.clone() for name, t in memory.state().items()}
    found = []
    for batches in (
        {"a": part(0, 0), "b": part(6, 1)},
        {"a": part(0, 0), "b": None},
        {"a": part(6, 0), "b": part(6, 1)},
    ):
        assert all(torch.equal(t, began[name]) or name.endswith("norm") for name, t in memory.state().items())
        outcome = exact_step(
            towers, towers, looks(towers, batches), Ids(), lambda pair, call: Context(World()), Tensor.backward,
            memory=memory,
        )  # fmt: skip
        found.append(outcome.loss.item())
    assert found[:2] == [0, 0]
    assert found[2] > 0
    assert all(len(bank) == 6 for bank in memory.banks.banks.values())


def test_training_resumes_with_its_banks_bit_for_bit(tmp_path: Path) -> None:
    whole = banked(data(), run=tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-6")
    again = banked(data(), run=tmp_path / "b", resume=True)
    for name, t in whole.memory.state().items():
        assert torch.equal(t, again.memory.state()[name]), name
    for (name, p), q in zip(whole.towers.named_parameters(), again.towers.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_data_of_another_length_is_refused() -> None:
    towers = Towers({"a": Vectors()}, [Pair("a", "a", InstanceNCE())], Head(dim=7))
    with pytest.raises(InputError, match=r"'bank:a-a:a:id' is \[5\] in the checkpoint and \[6\] in this run"):
        Memory(towers, sizes=[6]).load(Memory(towers, sizes=[5]).state())


def test_a_stream_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows(20)))
    trainer = Trainer(
        {"a": Vectors()}, [Pair("a", "a", InstanceNCE())], Data(path=str(file), streaming=True),
        train=Train(batch_size=4, steps=2),
    )  # fmt: skip
    with pytest.raises(
        InputError, match=r"pair 'a-a': InstanceNCE keeps a vector for every row, but the data are a stream"
    ):
        trainer.fit()


def test_training_tells_instances_apart() -> None:
    found = rows(64)
    trainer = Trainer(
        {"a": Vectors(noise=0.3)}, [Pair("a", "a", InstanceNCE(0.2, negatives=64))], found,
        train=Train(batch_size=16, steps=120, lr=1e-2),
    )  # fmt: skip
    trainer.fit()
    (bank,) = trainer.memory.banks.banks.values()
    z = trainer.model.embed(a=[row["a"] for row in found])
    assert ((z @ bank.z.T).argmax(1) == torch.arange(64)).float().mean() > 0.5  # chance: 1 / 64
