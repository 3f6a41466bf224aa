"""The two passes over a step's chunks: embed all of them without gradients, then replay each to send its gradient home.

A chunk's draws come from a seed of its own, so that both passes drop the same units and neither keeps a random state;
other state that a pass moves, such as spectral norm's vectors, is kept (`states`). The encoders' memory is that of one
chunk, whatever the batch (GradCache, arXiv:2101.06983). The chunk that is embedded last keeps its graph, which is not
yet in the way of another, and is spared the replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from multicl.pairs import View
from multicl.towers import Embeddings, Request, Towers
from multicl.training.chunks import KEPT, Chunk
from multicl.training.looks import Look
from multicl.training.norms import statistics_held
from multicl.training.states import set_states, states, states_kept

Gradients = Mapping[tuple[View, str | None], Tensor]
"""(view, space) -> [B, D] float32: the loss's gradient with respect to the view's embeddings."""
NoSync = Callable[[], AbstractContextManager[None]]
"""Within it, DDP adds up gradients and reduces nothing."""


@dataclass(frozen=True)
class Rest:
    """What goes home beside the views, once a step."""

    own: list[tuple[nn.Parameter, Tensor]]
    """The objectives' parameters with the loss's gradients."""
    reached: Sequence[nn.Parameter]
    """One or more, so that there is a way back where a rank has no rows. Where DDP waits for them all that train:
    reached, they count as done, and no tensor of zeros is made for each."""


@torch.no_grad()
def embed(towers: Towers, looks: Sequence[Look], chunks: Sequence[Chunk], replayed: bool = True) -> Embeddings:
    """Every look's views, chunk by chunk; rows stay in the order of their batch.

    What a frozen encoder gives is kept too (space None), where chunks are to be `replayed`: it is not computed again.
    So are the first of the views that trained ones see, and the graph of the last chunk that trains.

    Args:
        towers: not wrapped; their `forward` autocasts where Accelerate made it so.
    """
    embedded: Embeddings = {
        (reader.view, space): torch.zeros(0, towers.dim(reader.view.node, space), device=towers.device)
        for look in looks
        if not len(look)  # and there is no chunk of it
        for reader in look.readers
        for space in (_kept(towers, reader) if replayed else reader.spaces)
    }
    room = KEPT if replayed else 0
    last = trained[-1] if replayed and (trained := _trained(towers, chunks)) else None
    for chunk in chunks:
        requests = chunk.requests()
        if replayed:
            if requests[0].batch is not None and chunk is not last and _trained(towers, [chunk]):
                room -= chunk.keep(requests[0].batch, room)
            requests = [request._replace(spaces=_kept(towers, request)) for request in requests]
            if chunk is not last:
                chunk.states = states(towers)
        with torch.set_grad_enabled(chunk is last):
            found: Embeddings = towers(requests)
        if chunk is last:
            chunk.graph = {key: z for key, z in found.items() if z.requires_grad}
        for key, z in found.items():
            if chunk.whole:
                embedded[key] = z.detach()
                continue
            if key not in embedded:
                embedded[key] = z.new_empty(len(chunk.look), z.shape[1])
            embedded[key][chunk.rows_on(towers.device)] = z.detach()
    return embedded


def replay(
    wrapped: nn.Module,
    towers: Towers,
    chunks: Sequence[Chunk],
    embedded: Embeddings,
    grads: Gradients,
    rest: Rest,
    backward: Callable[[Tensor], None],
    no_sync: NoSync,
) -> None:
    """Compute each chunk again, with gradients, and add what it sends home to the parameters' `.grad`.

    The one that has kept its graph comes first, and gives it up. DDP reduces once, with the last chunk. `rest` goes
    with it and reaches every parameter that trains, so that DDP waits for none whose chunks came earlier or not at all.
    """
    todo = []
    for chunk in _trained(towers, chunks):
        if chunk.graph is None:
            todo.append(chunk)
        else:
            with no_sync():
                backward(surrogate(chunk.graph, grads, chunk.rows_on(towers.device)))
            chunk.graph = None
    last = todo.pop() if todo else None
    with statistics_held(towers), states_kept(towers):
        for chunk in todo:
            with no_sync(), rows_alone(towers):
                backward(surrogate(wrapped(_again(towers, chunk, embedded)), grads, chunk.rows_on(towers.device)))
        if last is None:  # this rank has nothing to send, but is waited for
            backward(surrogate(wrapped([]), grads, rest=rest))
        else:
            backward(surrogate(wrapped(_again(towers, last, embedded)), grads, last.rows_on(towers.device), rest))


@contextmanager
def rows_alone(towers: Towers) -> Iterator[None]:
    """Within it, a table of embeddings on a CPU adds to its `.grad` the rows that a chunk looked up, and no others.

    Else every chunk would make a gradient of the whole table, and add that: of 65,536 words for 64 short texts. Tables
    without a `.grad` make their first in full, so that DDP and optimisers never meet a sparse one. Where something is
    compiled all is left as it was compiled.
    """
    parts = list(towers.modules()) if towers.device.type == "cpu" else []
    compiled = any(part._compiled_call_impl is not None or "_orig_mod" in part._modules for part in parts)
    tables = [p for p in parts if not compiled and isinstance(p, nn.Embedding | nn.EmbeddingBag) and _grown(p)]
    for table in tables:
        table.sparse = True
    try:
        yield
    finally:
        for table in tables:
            table.sparse = False


def _grown(table: nn.Embedding | nn.EmbeddingBag) -> bool:
    grad = table.weight.grad
    dense = grad is not None and grad.layout is torch.strided
    unable = table.scale_grad_by_freq or getattr(table, "mode", "") == "max"  # torch has no sparse gradient of these
    return dense and not (table.sparse or unable)


def surrogate(
    embedded: Embeddings, grads: Gradients, rows: slice | Tensor = slice(None), rest: Rest | None = None
) -> Tensor:
    """A number whose gradient with respect to the views' rows is the loss's; it needs no other rows."""
    pulls = [(z, grads[key][rows]) for key, z in embedded.items()] + (rest.own if rest else [])
    pulled: Tensor = _Pulled.apply(  # type: ignore[no-untyped-call]
        [grad for _, grad in pulls], *(x for x, _ in pulls), *(rest.reached if rest else ())
    )
    return pulled


class _Pulled(torch.autograd.Function):
    """sum <x, dL/dx>, whose gradient is dL/dx and whose value nobody asks: it is 0. What comes behind is but reached.

    Written out, products and sums would be launched that a GPU is held up by.
    """

    @staticmethod
    def forward(ctx: Any, grads: list[Tensor], *inputs: Tensor) -> Tensor:
        ctx.grads = grads
        return inputs[0].new_zeros((), dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *scale: Tensor) -> tuple[Tensor | None, ...]:
        found = [scale[0] * grad for grad in ctx.grads]
        return None, *found, *[None] * (len(ctx.needs_input_grad) - 1 - len(found))


def _kept(towers: Towers, request: Request) -> tuple[str | None, ...]:
    more = towers.frozen(request.view.node) and None not in request.spaces
    return (*request.spaces, None) if more else request.spaces


def _trained(towers: Towers, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The chunks that have a gradient to send."""
    return [chunk for chunk in chunks if any(_trains(towers, reader) for reader in chunk.look.readers)]


def _trains(towers: Towers, request: Request) -> bool:
    return towers.trains(request.view.node, request.spaces)


def _again(towers: Towers, chunk: Chunk, embedded: Embeddings) -> list[Request]:
    """What of a chunk has gradients: from its rows, or from the features that a frozen encoder has given.

    The towers' state is made that from which it was embedded.
    """
    set_states(towers, chunk.states)
    again: list[Request] = []
    batch = None
    for reader in chunk.readers:
        if towers.frozen(reader.view.node):
            if _trains(towers, reader):
                again.append(reader._replace(features=embedded[reader.view, None][chunk.rows_on(towers.device)]))
        else:
            batch = chunk.batch() if batch is None else batch
            again.append(reader._replace(batch=batch))
    return again
