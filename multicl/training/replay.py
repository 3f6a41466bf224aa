"""The two passes over a step's chunks: embed all without gradients, then replay each to backpropagate its gradient.

A chunk draws from a seed of its own, so both passes use the same dropout masks and no random state has to be stored.
Other state that a forward pass changes, such as spectral norm's vectors, is saved (`states`). The encoders need memory
for one chunk only, whatever the batch size (GradCache, arXiv:2101.06983). The chunk that is embedded last keeps its
graph, since no other graph is in memory at that point, and needs no replay.
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
"""Returns a context in which DDP accumulates gradients without reducing them."""


@dataclass(frozen=True)
class Rest:
    """What the surrogate includes besides the views, once a step."""

    own: list[tuple[nn.Parameter, Tensor]]
    """The objectives' parameters with the loss's gradients."""
    reached: Sequence[nn.Parameter]
    """Parameters to connect to the graph: at least one, so that a rank without rows can run backward. Under DDP, all
    that train: DDP then marks them as ready, and no zero gradients have to be allocated for that."""


@torch.no_grad()
def embed(towers: Towers, looks: Sequence[Look], chunks: Sequence[Chunk], replayed: bool = True) -> Embeddings:
    """Embed every look's views, chunk by chunk; rows stay in batch order.

    If chunks will be `replayed`, three things are kept for it: the features of frozen encoders (space None), the input
    views of trained encoders up to `KEPT` bytes, and the graph of the last chunk that trains.

    Args:
        towers: not wrapped; their `forward` autocasts if Accelerate prepared it so.
    """
    embedded: Embeddings = {
        (reader.view, space): torch.zeros(0, towers.dim(reader.view.node, space), device=towers.device)
        for look in looks
        if not len(look)  # such a look has no chunks
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
    """Compute each chunk again, with gradients, and accumulate its contribution in the parameters' `.grad`.

    The chunk that kept its graph comes first, and frees it. DDP reduces once, in the backward of the last chunk. That
    one includes `rest`, which connects every trained parameter, so that DDP does not wait for parameters whose chunks
    came earlier or not at all.
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
        if last is None:  # this rank has nothing to contribute, but the others wait for its reduction
            backward(surrogate(wrapped([]), grads, rest=rest))
        else:
            backward(surrogate(wrapped(_again(towers, last, embedded)), grads, last.rows_on(towers.device), rest))


@contextmanager
def rows_alone(towers: Towers) -> Iterator[None]:
    """Within it, an embedding table on a CPU adds only the rows that a chunk looked up to its `.grad`.

    Otherwise every chunk would allocate and add a gradient of the whole table: 65,536 words for 64 short texts. A table
    without a `.grad` gets a dense one first, so DDP and optimisers never see a sparse gradient. Nothing is changed if
    any part is compiled.
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
    unable = table.scale_grad_by_freq or getattr(table, "mode", "") == "max"  # no sparse gradient in torch
    return dense and not (table.sparse or unable)


def surrogate(
    embedded: Embeddings, grads: Gradients, rows: slice | Tensor = slice(None), rest: Rest | None = None
) -> Tensor:
    """A scalar whose gradient with respect to these rows equals the loss's; no other rows are needed for it."""
    pulls = [(z, grads[key][rows]) for key, z in embedded.items()] + (rest.own if rest else [])
    pulled: Tensor = _Pulled.apply(  # type: ignore[no-untyped-call]
        [grad for _, grad in pulls], *(x for x, _ in pulls), *(rest.reached if rest else ())
    )
    return pulled


class _Pulled(torch.autograd.Function):
    """sum <x, dL/dx>, as a function whose gradient is dL/dx. Its value is not needed and is 0. Inputs beyond `grads`
    are only connected to the graph.

    Written out as products and sums, it would launch kernels for nothing.
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
    """The chunks that contribute a gradient."""
    return [chunk for chunk in chunks if any(_trains(towers, reader) for reader in chunk.look.readers)]


def _trains(towers: Towers, request: Request) -> bool:
    return towers.trains(request.view.node, request.spaces)


def _again(towers: Towers, chunk: Chunk, embedded: Embeddings) -> list[Request]:
    """The requests of a chunk that have gradients: on its rows or, for a frozen encoder, on its stored features.

    Restores the towers' state from before the chunk was embedded.
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
