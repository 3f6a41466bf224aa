"""Evaluation on several processes: rank 0 measures, and all ranks embed what it asks for."""

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
"""Cells sent to each rank at a time,"""
BYTES = 1 << 28
"""and bytes sent to all ranks together: a cell may be a whole picture or audio file."""

Figures = Mapping[str, float]


def measured(measure: Callable[[Model], Figures], model: Model, world: World) -> Figures:
    """Call `measure` on rank 0 and return its figures; the other ranks embed for it and return {}. All ranks call it.

    The other ranks take rank 0's weights. Vectors may differ from those of a single process in the last bits, because
    rows are batched differently.

    Args:
        measure: called on rank 0 only; anything that it raises is raised there.
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
        waiting = False  # the other ranks get the signal too, and may be gone
        raise
    finally:
        shared.over = True  # if `measure` kept the model, it embeds on this rank alone from now on
        if waiting:
            world.deal([None] * world.size)


class _Shared(Model):
    """Rank 0's model, which shares its embedding work with the waiting ranks."""

    def __init__(self, model: Model, world: World) -> None:
        super().__init__(model.towers, model.space)
        self._own, self._world, self.over = model, world, False

    def embed_node(self, node: str, values: Any, *, skipped: dict[int, str] | None = None, **how: Any) -> Tensor:
        """As `Model.embed_node`; `how` are its other arguments. Up to one batch is embedded on this rank alone."""
        cells = cells_of(node, self.towers.modalities[node], values) if node in self.towers.modalities else []
        if self.over or len(cells) <= how.get("batch_size", 128):
            return self._own.embed_node(node, cells, **how, skipped=skipped)
        found = [self._own.embed_node(node, [], **how)]  # raises if the arguments are invalid
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
    """Split cells into rounds (start, cells): each has at most `most` cells and ends when it reaches `BYTES`."""
    begin = weight = 0
    for end, cell in enumerate(cells, 1):
        weight += _weight(cell)
        if end - begin == most or weight >= BYTES or end == len(cells):
            yield begin, cells[begin:end]
            begin, weight = end, 0


def _weight(cell: Any) -> int:
    """Approximate size of a cell in bytes."""
    if isinstance(cell, Mapping):
        return sum(_weight(value) for value in cell.values())
    return len(cell) if isinstance(cell, str | bytes) else int(getattr(cell, "nbytes", 0))


def _answer(
    model: Model, node: str, cells: list[Any], how: dict[str, Any]
) -> tuple[Tensor, dict[int, str]] | Exception:
    """(vectors, unreadable cells), or the exception for rank 0 to raise."""
    skipped: dict[int, str] = {}
    try:
        return model.embed_node(node, cells, **how, skipped=skipped), skipped
    except InputError as error:
        return error
    except Exception as error:  # the encoder's own exception might not pickle
        return RuntimeError(f"{type(error).__name__} while {len(cells)} cells of {node!r} were embedded: {error}")
