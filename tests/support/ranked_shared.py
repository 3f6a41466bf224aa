"""What the tests of figures in several processes run on each rank."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from toys import Vectors, rows

from multicl import Head, InputError, Model, Pair, Train, Trainer
from multicl.distributed import World
from multicl.running import shared
from multicl.running.shared import measured
from multicl.towers import Towers

BAD = 11


def model(seed: int = 0) -> Model:
    torch.manual_seed(seed)
    nodes = {"a": Vectors(dropout=0.5), "b": Vectors(width=5)}
    return Model(Towers(nodes, [Pair("a", "b"), Pair("a", "a", space="own")], Head(dim=4, norm="batch")))


def cells() -> list[Any]:
    found: list[Any] = [row["a"] for row in rows(45)]
    found[BAD] = [1.0]
    return found


def asked(m: Model) -> dict[str, Any]:
    """Results of every kind of call of `embed`, and the errors of calls that it refuses."""
    skipped: dict[int, str] = {}
    good = [cell for i, cell in enumerate(cells()) if i != BAD]
    found: dict[str, Any] = {
        "skipped": m.embed_node("a", cells(), batch_size=4, skipped=skipped),
        "why": skipped,
        "own": m.embed(a=iter(good), space="own", batch_size=8),
        "features": m.embed(a=good, space=None, normalize=False, batch_size=3),
        "few": m.embed(b=[row["b"] for row in rows(5)]),
        "none": m.embed(b=[]),
    }
    for name, call in {
        "bad cell": lambda: m.embed(a=cells(), batch_size=4),
        "no space": lambda: m.embed(a=good, space="b", batch_size=4),
        "no node": lambda: m.embed(c=good, batch_size=4),
        "one cell": lambda: m.embed(a="abc" * 50, batch_size=4),
        "a mapping": lambda: m.embed(a=dict.fromkeys(range(45)), batch_size=4),
    }.items():
        try:
            call()
        except InputError as error:
            found[name] = str(error)
    return found


def shares(round_size: int) -> dict[str, Any]:
    """The figures of the first rank, and how many cells this one embedded; each rank starts with other weights."""
    shared.ROUND = round_size
    world = World.current()
    m, embedded, plain = model(seed=world.rank), [], Model.embed_node

    def counted(self: Model, node: str, values: Any, **how: Any) -> Any:
        if type(self) is Model and isinstance(values, list):
            embedded.append(len(values))
        return plain(self, node, values, **how)

    Model.embed_node = counted  # type: ignore[method-assign]
    found = measured(asked, m, world)
    plainly = {name: x.tolist() if isinstance(x, torch.Tensor) else x for name, x in found.items()}
    return {**plainly, "embedded": sum(embedded)}


def breaks() -> list[str]:
    """What each rank reports if an encoder fails on the last rank, or the measure itself does; and that it goes on."""
    world, said = World.current(), []
    m = model()
    if world.rank == world.size - 1:
        m.towers.encoders["b"].register_forward_pre_hook(_fails)
    for measure in (lambda m: {"x": m.embed(b=[row["b"] for row in rows(40)], batch_size=4)}, lambda m: {"x": 1 / 0}):
        try:
            said.append(str(measured(measure, m, world)))
        except (RuntimeError, ZeroDivisionError) as error:
            said.append(str(error))
    return [*said, str(measured(lambda m: {"x": 2.0}, m, world))]


def keeps() -> list[float]:
    """How far the vectors of a model that outlives the measuring are off, on the first rank, while others go on."""
    m, kept = model(), list[Model]()
    good = [row["b"] for row in rows(40)]

    def keep(given: Model) -> dict[str, float]:
        kept.append(given)
        return {}

    measured(keep, m, World.current())
    return [float((k.embed(b=good, batch_size=4) - m.embed(b=good, batch_size=4)).abs().max()) for k in kept]


def _fails(*_: Any) -> None:
    raise ValueError("the roof fell in")


def trained(folder: str) -> dict[str, Any]:
    """A run that measures while it trains: each rank's figures and best step."""
    data = rows(40)
    trainer = Trainer(
        {"a": Vectors(), "b": Vectors(width=5)}, [Pair("a", "b")], data, head=Head(norm="batch"),
        train=Train(batch_size=20, steps=4, lr=1e-2, evaluate_every=2, best="spread"), run=Path(folder),
        evaluate=lambda m: {"spread": float(m.embed(a=[row["a"] for row in data], batch_size=4).std())},
    )  # fmt: skip
    trainer.fit()
    return {"best": trainer.validation.best_step, "last": trainer.validation.last}
