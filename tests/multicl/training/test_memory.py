"""Momentum towers and queues against plain lists and a copy moved by hand."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
from steps import Ids, apart, context, grads_of, looks, three
from torch import Tensor, nn
from torch.nn.functional import normalize
from toys import Vectors, rows

from multicl import Head, InfoNCE, InputError, Pair, Train, Trainer
from multicl.pairs import View
from multicl.seeds import seed_everything
from multicl.settings import Momentum
from multicl.towers import Towers
from multicl.training.memory import Memory
from multicl.training.step import exact_step
from multicl.types import Batch

T = 0.3
MOCO = InfoNCE(T, both_directions=False)


def made(*terms: Pair, norm: Any = "none", **settings: Any) -> Towers:
    seed_everything("test")
    nodes = {node: Vectors(**settings) for pair in terms for node in filter(None, (pair.a, pair.b, pair.negatives))}
    return Towers(nodes, terms, Head(dim=7, norm=norm))


def batch(first: int, n: int = 6, size: int = 6) -> Batch:
    g = torch.Generator().manual_seed(first)
    return Batch({"x": torch.randn(n, size, generator=g)}, torch.arange(first, first + n))


def noisy(towers: Towers, part: Batch | None, first: int = 0, node: str = "a") -> list[Any]:
    """Looks whose view is the row plus the view's number."""
    found = []
    for look in looks(towers, {node: part}):
        reader = look.readers[0]._replace(seed=(7, 0, look.readers[0].seed[-1] + first))
        shift = 0.3 * reader.view.draw
        found.append(type(look)(part, lambda b, shift=shift: b.replace(x=b.get("x") + shift), (reader,)))
    return found


def moco_step(towers: Towers, memory: Memory, part: Batch, chunk: int | None = None) -> tuple[float, dict[str, Tensor]]:
    towers.zero_grad()
    assert memory.towers is not None
    outcome = exact_step(
        towers, towers, noisy(towers, part), Ids(), context, torch.Tensor.backward, chunk, memory=memory,
        key_looks=noisy(memory.towers, part, 50),
    )  # fmt: skip
    return outcome.loss.item(), grads_of(towers)


@pytest.mark.parametrize("chunk", [None, 2, 4])
@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("in_batch", [True, False])
def test_moco_is_what_plain_lists_and_a_copy_moved_by_hand_make(chunk: int | None, both: bool, in_batch: bool) -> None:
    pair = Pair("a", "a", InfoNCE(T, both_directions=both, in_batch=in_batch), keys="momentum", queue=8)
    towers = made(pair)
    memory = Memory(towers, Momentum(rate=0.9))
    slow: Any = copy.deepcopy(towers)
    optimizer = torch.optim.SGD(towers.parameters(), lr=0.5)
    queues: dict[int, list[tuple[int, Tensor]]] = {0: [], 1: []}
    for step, first in enumerate((0, 6, 3, 9, 0)):  # rows 3.. and 0.. come again while their keys are queued
        part = batch(first)
        x = [part.get("x") + 0.3 * draw for draw in (0, 1)]
        z = [normalize(towers.embed("a", Batch({"x": v}), ["joint"])[0], dim=1) for v in x]
        with torch.no_grad():
            k = [normalize(slow.embed("a", Batch({"x": v}), ["joint"])[0], dim=1) for v in x]
        losses = []
        for query, key in [(0, 1), (1, 0)][: 1 + both]:
            for i, row in enumerate(part.row.tolist()):
                old = [vector for other, vector in queues[key] if other != row]
                others = [k[key][j] for j in range(6) if j != i and in_batch]
                logits = z[query][i] @ torch.stack([k[key][i], *others, *old]).T / T
                losses.append(logits.logsumexp(0) - logits[0])
        wanted = torch.stack(losses).mean()
        grads = dict(
            zip(dict(towers.named_parameters()), torch.autograd.grad(wanted, [*towers.parameters()]), strict=True)
        )
        loss, found = moco_step(towers, memory, part, chunk)
        assert loss == pytest.approx(wanted.item(), rel=1e-5), step
        if step or in_batch:
            assert apart(found, grads) < 1e-5
        else:  # there are no negatives yet
            assert not any(grad.any() for grad in found.values())
        for key in (1, 0)[: 1 + both]:
            queues[key] = [*queues[key], *zip(part.row.tolist(), k[key], strict=True)][-8:]
        optimizer.step()
        memory.follow(towers, 0.5)
        with torch.no_grad():
            for mine, theirs in zip(slow.parameters(), towers.parameters(), strict=True):
                mine.mul_(0.9).add_(theirs, alpha=0.1)


def test_lightly_a_rows_own_key_is_not_among_its_negatives() -> None:
    """A row that comes again while its key is queued: the loss is that of a queue without it."""
    towers = made(Pair("a", "a", MOCO, keys="momentum", queue=6))
    losses = []
    for queued in (batch(0), batch(0)[1:]):
        memory = Memory(towers)
        moco_step(towers, memory, queued)
        losses.append(moco_step(towers, memory, batch(0)[:1])[0])
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    assert losses[0] > 0.1


def test_a_queue_of_trained_towers_keys_serves_both_sides() -> None:
    """XBM across two nodes: extra keys of b for a's rows, of a for b's, both from the step before."""
    towers = made(Pair("a", "b", InfoNCE(T), queue=100))
    memory = Memory(towers)
    kept: list[Tensor] = []
    for first in (0, 6):
        batches = {"a": batch(first), "b": batch(first + 50)}
        batches["b"].row = batches["a"].row
        towers.zero_grad()
        outcome = exact_step(
            towers, towers, looks(towers, batches), Ids(), context, torch.Tensor.backward, memory=memory
        )
        a, b = (normalize(towers.embed(node, batches[node], ["joint"])[0], dim=1) for node in "ab")
        logits = [q @ torch.cat([k, *old]).T / T for q, k, old in ((a, b, kept[1:]), (b, a, kept[:1]))]
        wanted = torch.stack([(each.logsumexp(1) - each.diagonal()).mean() for each in logits]).mean()
        assert outcome.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        kept = [a.detach(), b.detach()]


def test_a_queue_within_one_node_is_for_both_draws() -> None:
    towers = made(Pair("a", "a", InfoNCE(T), queue=100))
    memory = Memory(towers)
    old = torch.zeros(0, 7)
    for first in (0, 6):
        part = batch(first)
        outcome = exact_step(towers, towers, noisy(towers, part), Ids(), context, torch.Tensor.backward, memory=memory)
        x = torch.cat([part.get("x"), part.get("x") + 0.3])
        z = normalize(towers.embed("a", Batch({"x": x}), ["joint"])[0], dim=1)
        logits = torch.cat([z @ z.T / T + torch.diag(torch.full((12,), -torch.inf)), z @ old.T / T], 1)
        wanted = (logits.logsumexp(1) - logits[torch.arange(12), torch.arange(12).roll(6)]).mean()
        assert outcome.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
        old = z.detach()


def test_explicit_negatives_are_keys_of_a_alone_and_get_gradients() -> None:
    towers = made(Pair("a", "b", InfoNCE(T), negatives="n"))
    batches = {node: batch(i * 50) for i, node in enumerate("abn")}
    for node in "bn":
        batches[node].row = batches["a"].row
    batches["n"] = batches["n"][1:4]  # not every row brings one
    outcome = exact_step(towers, towers, looks(towers, batches), Ids(), context, torch.Tensor.backward)
    found = grads_of(towers)
    a, b, n = (normalize(towers.embed(node, batches[node], ["joint"])[0], dim=1) for node in "abn")
    one, two = a @ torch.cat([b, n]).T / T, b @ a.T / T
    wanted = torch.stack([(each.logsumexp(1) - each.diagonal()).mean() for each in (one, two)]).mean()
    assert outcome.loss.item() == pytest.approx(wanted.item(), rel=1e-5)
    names = [name for name, _ in towers.named_parameters()]
    grads = dict(zip(names, torch.autograd.grad(wanted, [*towers.parameters()]), strict=True))
    assert apart(found, grads) < 1e-5


def test_momentum_towers_follow_buffers_and_tied_parameters_once() -> None:
    towers = made(Pair("a", "a", MOCO, keys="momentum"), norm="batch")
    towers.encoders["a"].again = towers.encoders["a"].net[0]  # type: ignore[assignment]  # one module under two names
    memory = Memory(towers, Momentum(rate=0.75))
    slow: Any = memory.towers
    with torch.no_grad():
        for t in (*towers.parameters(), *towers.buffers()):
            t.add_(4)
    memory.follow(towers, 0.1)
    head, mine = (next(m for m in t.modules() if isinstance(m, nn.BatchNorm1d)) for t in (towers, slow))
    assert torch.allclose(mine.running_mean, head.running_mean - 3)  # type: ignore[operator]
    assert int(mine.num_batches_tracked) == int(head.num_batches_tracked)  # type: ignore[arg-type]
    assert torch.allclose(slow.encoders["a"].net[0].weight, towers.encoders["a"].net[0].weight - 3)  # type: ignore[union-attr,index,operator]


def test_momentum_statistics_move_with_the_trained_ones_alone() -> None:
    towers = made(Pair("a", "a", MOCO, keys="momentum"), norm="batch").train()
    memory = Memory(towers)
    assert memory.towers is not None
    before = [b.clone() for b in memory.towers.buffers()]
    memory.embed(noisy(memory.towers, batch(0)), 2)
    assert all(torch.equal(x, y) for x, y in zip(before, memory.towers.buffers(), strict=True))


def test_keys_company_is_mixed_before_it_is_cut() -> None:
    """ShuffleBN: chunks of keys are not chunks of queries, and rows come back in their order."""
    towers = made(Pair("a", "a", MOCO, keys="momentum"), norm="batch").train()
    memory = Memory(towers)
    assert memory.towers is not None
    part = batch(0, 12)
    (z,) = memory.embed(noisy(memory.towers, part), 4).values()
    plain = torch.cat(
        [
            memory.towers.embed("a", part[i : i + 4].replace(x=part.get("x")[i : i + 4] + 0.3), ["joint"])[0]
            for i in (0, 4, 8)
        ]
    )
    assert not torch.allclose(z, plain, atol=1e-3)
    memory.towers.eval()
    (z,) = memory.embed(noisy(memory.towers, part), 4).values()
    torch.testing.assert_close(z, memory.towers.embed("a", part.replace(x=part.get("x") + 0.3), ["joint"])[0])


@pytest.mark.parametrize(
    ("schedule", "progress", "rate"),
    [("constant", 0.5, 0.9), ("cosine", 0.0, 0.9), ("cosine", 0.5, 0.95), ("cosine", 1.0, 1.0)],
)
def test_the_rate_of_following(schedule: Any, progress: float, rate: float) -> None:
    assert Momentum(rate=0.9, schedule=schedule).at(progress) == pytest.approx(rate)


def test_a_rate_beyond_one_is_refused() -> None:
    with pytest.raises(InputError, match=r"momentum.rate must be in \[0, 1\], got 1.1"):
        Momentum(rate=1.1)


def test_towers_that_embed_no_keys_are_not_copied() -> None:
    towers = three()
    assert Memory(towers).towers is None
    mixed = made(Pair("a", "a", MOCO, keys="momentum"), Pair("a", "b"))
    slow = Memory(mixed).towers
    assert slow is not None
    assert {name.split(".")[1] for name, _ in slow.named_parameters() if name.startswith("encoders")} == {"a"}
    assert not any(p.requires_grad for p in slow.parameters())
    assert slow.requests == {View("a", "strong", 1): ("joint",)}


def test_notes_say_when_queues_are_full() -> None:
    memory = Memory(made(Pair("a", "a", MOCO, keys="momentum", queue=100)))
    (line,) = memory.notes(8, 50)
    assert "the queue of 'a' holds 0 of 100 keys and is full after 13 steps" in line
    assert "give a smaller queue" not in line
    assert "but the run ends after 5: give a smaller queue" in memory.notes(8, 5)[0]
    two = Memory(made(Pair("a", "a", InfoNCE(), queue=100)))
    assert len(two.queues) == 2  # one a view
    assert len(two.notes(8, 50)) == 1


def test_memory_of_another_recipe_is_refused() -> None:
    small, large = (Memory(made(Pair("a", "a", MOCO, keys="momentum", queue=n))) for n in (4, 5))
    with pytest.raises(InputError, match=r"'queue:a-a:a:strong:1:id' is \[4\] in the checkpoint and \[5\] in this run"):
        large.load(small.state())
    with pytest.raises(InputError, match="is None in the checkpoint"):
        large.load(Memory(three()).state())


def test_training_resumes_with_queue_and_momentum_towers_bit_for_bit(tmp_path: Any) -> None:
    terms = [Pair("a", "a", MOCO, keys="momentum", queue=20), Pair("a", "b", queue=7)]

    def train(run: Any, resume: bool = False) -> Trainer:
        trainer = Trainer(
            {"a": Vectors(dropout=0.1), "b": Vectors()}, terms, rows(40), run=run, resume=resume,
            train=Train(batch_size=9, steps=6, lr=0.1, checkpoint_every=3), momentum=Momentum(rate=0.5),
        )  # fmt: skip
        trainer.fit()
        return trainer

    whole = train(tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    shutil.rmtree(tmp_path / "b" / "checkpoints" / "step-6")
    again = train(tmp_path / "b", resume=True)
    for name, t in whole.memory.state().items():
        assert torch.equal(t, again.memory.state()[name]), name
    for (name, p), q in zip(whole.towers.named_parameters(), again.towers.parameters(), strict=True):
        assert torch.equal(p, q), name
