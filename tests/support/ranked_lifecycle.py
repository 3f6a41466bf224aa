"""What ranks agree on, in real processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from toys import Vectors, rows

from multicl import InputError, Pair, Train, Trainer, distributed
from multicl.distributed import World
from multicl.towers import Towers
from multicl.training.finite import Finite
from multicl.training.memory import Memory


def agreements(folder: str) -> dict[str, Any]:
    """What each rank does if only the last one's loss is not finite; flags agreed on over a group of their own."""
    world = World.current()
    found: dict[str, Any] = {policy: not_finite(f"{folder}/{policy}", policy) for policy in ("stop", "skip")}
    found["flags"] = world.agree(world.rank == 0, False, world.rank == 1)
    distributed._between_processors.cache_clear()
    distributed.dist.get_backend_config = lambda *_: "cuda:nccl"  # type: ignore[attr-defined]  # no CPU tensors
    found["over gloo beside nccl"] = world.agree(world.rank == 0, False, world.rank == 1)
    found["groups"] = distributed._between_processors(distributed.dist.group.WORLD) is distributed.dist.group.WORLD
    return found


def not_finite(folder: str, policy: Any) -> list[Any]:
    """Whether three steps are taken, the second of which is not finite on the last rank."""
    world = World.current()
    Path(folder).mkdir(parents=True, exist_ok=True)
    towers = Towers({"a": Vectors()}, [Pair("a", "a")])
    finite = Finite(towers, Memory(towers), Path(folder), Train(not_finite=policy), world)
    numbers = torch.tensor([0, 1]) + 10 * world.rank
    seen: list[Any] = []
    for step, value in enumerate([1.0, float("nan"), 2.0], 1):
        loss = torch.tensor(value if world.rank == 1 else 1.0)
        seen.append(finite.takes(step, loss, None, numbers))
    try:
        finite.look(now=True)
    except InputError as error:
        seen.append("its rows are in" in str(error))
    return [*seen, finite.in_a_row]


def left_out(folder: str) -> list[int]:
    """Rows that a run of two ranks, one epoch long, reports as unusable."""
    data = rows(64)
    for row in (3, 9, 20, 41):
        data[row]["a"] = [1.0]
    train = Train(batch_size=16, steps=4)
    trainer = Trainer({"a": Vectors(), "b": Vectors(width=5)}, [Pair("a", "b")], data, train=train, run=Path(folder))
    trainer.fit()
    return sorted(bad.row for bad in trainer.skipped)


def one_fails(folder: str) -> str:
    """The first rank's error in a run that only the last one cannot continue."""
    world = World.current()
    trainer = Trainer(
        {"a": Vectors()}, [Pair("a", "a")], rows(64), train=Train(batch_size=16, steps=4), run=Path(folder)
    )  # fmt: skip
    plain = trainer._step

    def step(*given: Any) -> Any:
        if world.rank == 1:
            distributed.dist.destroy_process_group()  # as its process would end
            raise InputError("the roof fell in")
        return plain(*given)

    trainer._step = step  # type: ignore[method-assign]
    try:
        trainer.fit()
    except Exception as error:
        return str(error)
    return "nothing"
