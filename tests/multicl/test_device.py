"""Steps on a GPU, which is pretended: losses and gradients are the CPU's, nothing is refused, what waits is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import media
import pytest
import torch
from pretended import Gpu, OnGpu, same

from multicl import (
    Bilinear,
    CoSENT,
    Decoupled,
    HardestNegatives,
    HardNegative,
    Head,
    InfoNCE,
    InputError,
    InstanceNCE,
    Margin,
    Matryoshka,
    Momentum,
    Optim,
    Pair,
    Predicted,
    Sigmoid,
    SupCon,
    SwAV,
    Target,
    Train,
)
from multicl.data.classes import with_classes
from multicl.data.loading import Data, Reader, open_data, slices, sources_of
from multicl.distributed import World
from multicl.graph import Term
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.model import Model
from multicl.pairs import Call, View
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.finite import Finite
from multicl.training.looks import looks_of
from multicl.training.memory import Memory
from multicl.training.optim import build_optimizer
from multicl.training.replay import Rest, surrogate
from multicl.training.step import exact_step
from multicl.types import Context, Modality

ROWS = [
    {**row, "label": i % 5 if i % 3 else None, "score": float(i % 7) if i % 5 else None, "same": float(i % 2)}
    | {"negative": None if i % 4 == 0 else row["negative"]}
    for i, row in enumerate(media.rows(24))
]
WORDS = Text("words", width=32, dropout=0.0)
ONE: dict[str, Modality] = {"image": Image(size=16)}
TWO: dict[str, Modality] = {**ONE, "text": WORDS}
THREE: dict[str, Modality] = {**TWO, "audio": Audio()}
BESIDE: dict[str, Modality] = {**TWO, "negative": replace(WORDS, tower="text")}
TILED = {f"multicl/ops/blocks.py:{name}" for name in ("Block.look", "_places", "Block.find_few", "_by_tile")}
TILED.add("multicl/ops/tiled.py:backward")
"""The form of `contrast` without Triton looks for positives; the fused one, of NVIDIA's GPUs, asks nothing."""
SCALE = "multicl/ops/contrast.py:bound"


@dataclass(frozen=True)
class Case:
    """A graph, and which functions wait for a GPU in a step of it."""

    nodes: dict[str, Modality]
    terms: Sequence[Term]
    waits: set[str] = field(default_factory=set)
    head: Head = field(default_factory=lambda: Head(dim=16))
    chunk: int | None = None
    optim: Optim = field(default_factory=Optim)
    rows: Sequence[dict[str, Any]] = field(default_factory=lambda: ROWS)


def one(objective: Any = None, **settings: Any) -> list[Term]:
    return [Pair("image", "image", objective or InfoNCE(0.1), **settings)]


def two(objective: Any = None, **settings: Any) -> list[Term]:
    return [Pair("image", "text", objective or InfoNCE(0.1), **settings)]


ALL: list[Term] = [Pair("image", "text"), Pair("text", "audio"), Pair("audio", "audio")]
CASES = {
    "within": Case(ONE, one()),
    "within, chunks": Case(ONE, one(), chunk=5),
    "batch norm in the head": Case(ONE, one(), head=Head(dim=16, norm="batch", centred=True), optim=Optim(name="lars")),
    "learnt temperature": Case(TWO, two(InfoNCE(learnable=True)), {SCALE}, optim=Optim(name="sgd")),
    "labels": Case(TWO, two(ids="label")),
    "equal labels ignored": Case(TWO, two(ids="label", equal_ids="ignore")),
    "sup_con": Case(ONE, one(SupCon(), ids="label")),
    "sigmoid": Case(TWO, two(Sigmoid())),
    "decoupled": Case(TWO, two(Decoupled())),
    "hard negative": Case(TWO, two(HardNegative())),
    "hardest": Case(TWO, two(HardestNegatives(k=3)), {"multicl/ops/hardest.py:_find"}),
    "bilinear": Case(TWO, two(Bilinear()), {SCALE}),
    "matryoshka": Case(TWO, two(Matryoshka(InfoNCE(), dims=(4, 8)))),
    "margin": Case(TWO, two(Margin())),
    "margin of a target": Case(TWO, two(Margin(), target="same")),
    "co_sent": Case(TWO, two(CoSENT(), target="score")),
    "swav": Case(ONE, one(SwAV(prototypes=8))),
    "multi-crop": Case(ONE, one(local_draws=2)),
    "momentum and queue": Case(ONE, one(keys="momentum", queue=20)),
    "momentum and queue, chunks": Case(ONE, one(keys="momentum", queue=20), chunk=5),
    "queue alone": Case(ONE, one(InfoNCE(0.1, in_batch=False), keys="momentum", queue=20)),
    "predicted": Case(ONE, one(Predicted(InfoNCE(), hidden=8), keys="momentum")),
    "queue": Case(TWO, two(queue=20)),
    "bank": Case(
        TWO,
        two(InstanceNCE(negatives=4)),
        {
            f"multicl/training/bank.py:Bank.{name}" for name in ("_draws", "meet", "_look")
        },  # all but _draws in an epoch alone
    ),
    "explicit negatives": Case(BESIDE, two(InfoNCE(own_negative=2.0), negatives="negative")),
    "target": Case(ONE, [*one(), Target("image", "label")]),
    "three": Case(THREE, ALL),
    "three, chunks": Case(THREE, ALL, chunk=5),
}


class Run:
    """A graph's first steps on a device, as the trainer makes them."""

    def __init__(self, case: Case, device: str) -> None:
        self.case, self.device = case, device
        rows, _ = open_data(list(case.rows))
        seed_everything(0, "weights")
        terms = with_classes(case.terms, rows)
        self.towers = Towers(case.nodes, terms, case.head)
        self.towers.to(device).train()
        self.low, plain = False, self.towers.forward

        def forward(*given: Any) -> Any:  # as Accelerate makes it
            with self.autocast():
                return plain(*given)

        self.towers.forward = forward  # type: ignore[method-assign]
        self.optimizer = build_optimizer(self.towers, case.optim, 1e-3)
        self.memory = Memory(self.towers, Momentum(), World(), self.autocast, rows.sizes, 0)
        self.finite = Finite(self.towers, self.memory, None, Train(), World())
        reader = Reader(rows, case.nodes, terms, 0)
        where = torch.device(device)  # where pictures are kept, too
        self.parts = enumerate(slices(reader, Data(workers=0), 12, 0, 1, 0, 9, pin=False, device=where))

    def autocast(self) -> Any:
        return torch.autocast(self.device, torch.bfloat16, enabled=self.low)

    def step(self) -> torch.Tensor:
        """Gradients, which are clipped and left as they are."""
        step, part = next(self.parts)
        case, memory, sources = self.case, self.memory, sources_of(self.case.nodes)
        looks, keys = looks_of(part, self.towers, sources, 0, 0, step, 0), []
        if memory.towers is not None:
            keys = looks_of(part, memory.towers, sources, 0, 0, step, 0, first=len(self.towers.requests))

        def context(term: Term, call: Call | None) -> Context:
            now = Context(World(), step, step / 9)
            if call is None or isinstance(term, Target):
                return now
            return replace(now, symmetric=term.symmetric and call.both, both=call.both, equal_ids=term.equal_ids)

        self.optimizer.zero_grad()
        outcome = exact_step(
            self.towers, self.towers, looks, part.ids_of, context, torch.Tensor.backward, case.chunk, memory=memory,
            key_looks=keys, sampled=4, scores=part.scores_of,
        )  # fmt: skip
        norm = torch.nn.utils.clip_grad_norm_(self.towers.parameters(), 1.0)
        assert self.finite.takes(step + 1, outcome.loss, norm, part.row)
        return outcome.loss

    def follow(self) -> None:
        self.optimizer.step()
        self.memory.follow(self.towers, 0.5)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_step_is_the_cpus_and_waits_where_it_must(case: Case, gpu: Gpu) -> None:
    here, there = Run(case, "cpu"), Run(case, "cuda")
    same(there.step(), here.step(), 1e-4)
    for found, wanted in zip(there.towers.parameters(), here.towers.parameters(), strict=True):
        assert isinstance(found, OnGpu)
        assert found.grad is not None
        assert wanted.grad is not None
        assert (found.grad.held - wanted.grad).abs().max() <= 1e-3
    for run in (there, here):
        run.follow()
        run.low = True
    gpu.clear()
    loss = there.step()
    there.follow()
    assert set(gpu.waits) - TILED == case.waits
    same(loss, here.step(), 0.05)


def test_rows_that_one_side_lacks_are_left_out_without_a_look(gpu: Gpu) -> None:
    case = Case(TWO, two(Margin()), rows=[row | {"text": None} if i % 4 == 1 else row for i, row in enumerate(ROWS)])
    here, there = Run(case, "cpu"), Run(case, "cuda")
    gpu.clear()
    loss = there.step()
    assert not gpu.waits
    same(loss, here.step(), 1e-4)


def test_a_model_embeds_and_predicts_as_on_the_cpu(gpu: Gpu) -> None:
    rows, _ = open_data(ROWS)
    seed_everything(0, "weights")
    model = Model(Towers(THREE, with_classes([*ALL, Target("image", "label")], rows), Head(dim=16)))
    cells = {node: [row[node] for row in ROWS[:6]] for node in THREE}
    wanted, classes = {node: model.embed(**{node: cells[node]}) for node in cells}, model.predict(image=cells["image"])
    model.towers.to("cuda")
    for node, z in wanted.items():
        found = model.embed(**{node: cells[node]})
        assert type(found) is torch.Tensor
        torch.testing.assert_close(found, z, atol=1e-5, rtol=0)
    assert model.predict(image=cells["image"]) == classes
    assert gpu.launches > 0


def test_the_pretended_gpu_refuses_and_waits_as_one_does(gpu: Gpu) -> None:
    x = torch.arange(6.0, device="cuda")
    assert (x.device.type, x.is_cuda, x.cpu().tolist()) == ("cuda", True, [0, 1, 2, 3, 4, 5])
    for refused in (lambda: x + torch.ones(6), lambda: x.index_select(0, torch.arange(2)), lambda: x.numpy()):
        with pytest.raises((RuntimeError, TypeError), match=r"same device|convert"):
            refused()
    assert (x * torch.tensor(2.0)).device.type == "cuda"
    assert sorted((x > 3).nonzero()[:, 0].tolist()) == [4, 5]
    net = torch.nn.Linear(6, 2).to("cuda")
    with torch.autocast("cuda", torch.bfloat16):
        y = net(x)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert isinstance(net.weight.grad, OnGpu)
    assert not gpu.waits  # tests may wait
    assert gpu.launches > 5


def test_a_gradient_is_sent_home_by_a_launch_a_view(gpu: Gpu) -> None:
    views = [View("image", "strong", draw) for draw in range(3)]
    z = {(view, "joint"): torch.ones(4, 2, device="cuda").requires_grad_() for view in views}
    pulls = {key: torch.full((4, 2), 3.0 + i, device="cuda") for i, key in enumerate(z)}
    own, reached = (torch.nn.Parameter(torch.ones(1, device="cuda")) for _ in range(2))
    rest = Rest([(own, torch.full((1,), 2.0, device="cuda"))], [own, reached])
    gpu.clear()
    home = surrogate(z, pulls, rest=rest)
    assert gpu.launches <= 1 + len(views)  # slices of the gradients count here, and are none on a GPU
    gpu.clear()
    home.backward(torch.full((), 0.5, device="cuda"))  # as fp16's scaler does
    assert gpu.launches <= 2 * (len(views) + 1)  # a product each, and `detach`, which is none
    assert [x.grad.held[0, 0].item() for x in z.values()] == [1.5, 2.0, 2.5]  # type: ignore[union-attr]
    assert own.grad is not None
    assert own.grad.tolist() == [1.0]
    assert reached.grad is None


def test_without_rows_a_gradient_reaches_all_that_train() -> None:
    reached = torch.nn.Parameter(torch.ones(1))
    surrogate({}, {}, rest=Rest([], [reached])).backward()  # type: ignore[no-untyped-call]
    assert reached.grad is None


def test_a_step_launches_nothing_to_learn_whether_it_is_finite(gpu: Gpu) -> None:
    run = Run(Case(ONE, one()), "cuda")
    given, rows = torch.tensor([1.0, float("nan"), 2.0, float("inf"), 3.0], device="cuda"), torch.arange(2)
    losses = given.unbind()
    gpu.clear()
    for step, norm in enumerate((losses[0], None, losses[1]), 1):
        assert run.finite.takes(step, losses[2], norm, rows)
    assert (gpu.launches, gpu.waits) == (0, {})
    with pytest.raises(InputError, match="the gradient is not finite at step 3"):
        run.finite.look(now=True)
    assert run.finite.takes(4, losses[3], losses[0], rows)
    with pytest.raises(InputError, match="the loss is inf at step 4"):
        run.finite.look(now=True)


def test_momentum_towers_follow_in_two_launches(gpu: Gpu) -> None:
    run = Run(Case(ONE, one(keys="momentum"), head=Head(dim=16, norm="batch")), "cuda")
    for _ in range(2):
        gpu.clear()
        run.memory.follow(run.towers, 0.5)
        assert (gpu.launches, gpu.waits) == (2, {})  # numbers, and what batch norms have counted
