"""Multi-crop through the exact step: whole views predict each other, small ones both, in chunks as at once."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import pytest
import torch
from steps import Ids, apart, cells, context, grads_of, looks
from torch import Tensor
from torch.nn.functional import normalize
from toys import Vectors

from multicl import Head, Pair, SwAV
from multicl.distributed import World
from multicl.objectives.clusters import sinkhorn
from multicl.seeds import seed_everything
from multicl.towers import Towers
from multicl.training.looks import Look
from multicl.training.step import exact_step
from multicl.types import Batch

SHIFT = {("strong", 0): 0.0, ("strong", 1): 0.3, ("local", 0): -0.4, ("local", 1): 0.7}


def shifted(batch: Batch, kind: str, draw: int) -> Batch:
    return batch.replace(x=batch.get("x") + SHIFT[kind, draw])


@pytest.mark.parametrize("chunk", [None, 3])
def test_swav_with_small_views_is_the_papers_sum(chunk: int | None) -> None:
    seed_everything("test")
    towers = Towers({"a": Vectors()}, [Pair("a", "a", SwAV(5, frozen_steps=0), local_draws=2)], Head(dim=7))
    batch = cells(towers)["a"]
    seen = []
    for look in looks(towers, {"a": batch}):
        view = look.readers[0].view
        make = lambda b, view=view: shifted(b, view.kind, view.draw)  # noqa: E731
        seen.append(Look(batch, make, look.readers))
    outcome = exact_step(towers, towers, seen, Ids(), context, Tensor.backward, chunk)
    found = grads_of(towers)

    module: Any = towers.objectives["a-a"]
    centres = normalize(module.prototypes, dim=1)
    scores = [normalize(towers.embed("a", shifted(batch, *name), ["joint"])[0], dim=1) @ centres.T for name in SHIFT]
    codes = [sinkhorn(s / 0.05, 3, World()) for s in scores[:2]]
    losses = [
        -(codes[of] * (scores[by] / 0.1).log_softmax(1)).sum(1).mean()
        for of, by in [*permutations((0, 1), 2), *((of, by) for by in (2, 3) for of in (0, 1))]
    ]
    wanted = torch.stack(losses).mean()
    torch.testing.assert_close(outcome.loss, wanted.detach())
    names, parameters = zip(*towers.named_parameters(), strict=True)
    assert apart(found, dict(zip(names, torch.autograd.grad(wanted, parameters), strict=True))) < 1e-5
