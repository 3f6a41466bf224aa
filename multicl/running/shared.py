"""Figures of a run of several processes: the first one measures, and all of them embed what it asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from typing import Any

import torch
from torch import Tensor

from multicl.distributed import World
from multicl.model import Model, cells_of
from multicl.types import InputError

ROUND = 2048
"""Cells that a rank is sent at a time,"""
BYTES = 1 << 28
"""and bytes of all ranks together, as cells of pictures and sounds may be whole files."""

Figures = Mapping[str, float]


def measured(measure: Callable[[Model], Figures], model: Model, world: World) -> Figures:
    """What `measure` finds on the first rank; nothing on the others, which embed for it. Every rank calls this.

    The others take the first one's weights. Their vectors are those of one process but for the last bits, as rows have
    other rows for company.

    Args:
        measure: called on the first rank alone; may raise what it likes, which is raised there.
    """
    if world.size == 1:
        return measure(model)
    world.as_first(chain(model.towers.parameters(), model.towers.buffers()))
    if world.rank > 0:
        while (asked := world.deal()) is not None:
            world.collect(_answer(model, *asked))
        return {}
    shared = _Shared(model, world)
    waiting = True
    try:
        return measure(shared)
    except KeyboardInterrupt:
        waiting = False  # the others are asked to leave as well, and may have left
        raise
    finally:
        shared.over = True  # whoever keeps it embeds alone
        if waiting:
            world.deal([None] * world.size)


class _Shared(Model):
    """The first rank's, while the others wait to be asked."""

    def __init__(self, model: Model, world: World) -> None:
        super().__init__(model.towers, model.space)
        self._own, self._world, self.over = model, world, False

    def embed_node(self, node: str, values: Any, *, skipped: dict[int, str] | None = None, **how: Any) -> Tensor:
        """As `Model.embed_node`; `how` are its other settings. What fills no batch is embedded here."""
        cells = cells_of(node, self.towers.modalities[node], values) if node in self.towers.modalities else []
        if self.over or len(cells) <= how.get("batch_size", 128):
            return self._own.embed_node(node, cells, **how, skipped=skipped)
        found = [self._own.embed_node(node, [], **how)]  # tells what is wrong with the settings
        bad: dict[int, str] = {}
        size = self._world.size
        for at, some in _rounds(cells, ROUND * size):
            each = -(-len(some) // size)
            starts = range(0, each * size, each)
            mine = self._world.deal([(node, some[start : start + each], how) for start in starts])
            for start, answer in zip(starts, self._world.collect(_answer(self._own, *mine)), strict=True):
                if isinstance(answer, Exception):
                    raise answer
                z, unread = answer
                found.append(z)
                bad |= {at + start + i: why for i, why in unread.items()}
        if bad and skipped is None:
            first = min(bad)
            raise InputError(f"{node}[{first}]: {bad[first]}")
        if skipped is not None:
            skipped |= bad
        return torch.cat(found)


def _rounds(cells: list[Any], most: int) -> Iterator[tuple[int, list[Any]]]:
    """Where it begins, and its cells: at most so many, or as many as have `BYTES` together."""
    begin = weight = 0
    for end, cell in enumerate(cells, 1):
        weight += _weight(cell)
        if end - begin == most or weight >= BYTES or end == len(cells):
            yield begin, cells[begin:end]
            begin, weight = end, 0


def _weight(cell: Any) -> int:
    """About its bytes."""
    if isinstance(cell, Mapping):
        return sum(_weight(value) for value in cell.values())
    return len(cell) if isinstance(cell, str | bytes) else int(getattr(cell, "nbytes", 0))


def _answer(
    model: Model, node: str, cells: list[Any], how: dict[str, Any]
) -> tuple[Tensor, dict[int, str]] | Exception:
    """The vectors and what could not be read, or what went wrong, for the first rank to raise."""
    skipped: dict[int, str] = {}
    try:
        return model.embed_node(node, cells, **how, skipped=skipped), skipped
    except InputError as error:
        return error
    except Exception as error:  # whatever an encoder raises; it must pickle
        return RuntimeError(f"{type(error).__name__} while {len(cells)} cells of {node!r} were embedded: {error}")
