"""One step: embed every view, contrast all pairs at once, backpropagate through the encoders.

First the loss is differentiated with respect to the embeddings and the objectives' own parameters, in float32 and
unscaled, pair after pair in list order, so that all ranks enter all collectives in the same order. The encoders then
get one surrogate loss, sum <z, dL/dz>, and DDP reduces once over all towers.

With a chunk size, encoders process a few rows at a time while the loss still covers all rows. The result equals that
of the same chunks with their graphs kept and, without dropout or BatchNorm, that of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn

from multicl.towers import Towers
from multicl.training.chunks import cut
from multicl.training.graph_loss import Contexts, Ids, Outcome, Scores, Sides, graph_loss, rows_of
from multicl.training.looks import Look
from multicl.training.memory import Memory
from multicl.training.norms import statistics_kept
from multicl.training.replay import NoSync, Rest, embed, replay, surrogate


def exact_step(
    wrapped: nn.Module,
    towers: Towers,
    looks: Sequence[Look],
    ids: Ids,
    contexts: Contexts,
    backward: Callable[[Tensor], None],
    chunk: int | None = None,
    no_sync: NoSync = nullcontext,
    memory: Memory | None = None,
    key_looks: Sequence[Look] = (),
    sampled: int = 0,
    scores: Scores | None = None,
    trained: Sequence[nn.Parameter] | None = None,
) -> Outcome:
    """Run forward and backward for all terms; gradients are accumulated in the parameters' `.grad`.

    Args:
        wrapped: `towers` as Accelerate prepared it (autocast, DDP). looks: every view of this rank's rows.
        ids: looks up rows' ids. contexts: makes the context of each call. backward: Accelerate's (it scales for fp16).
        chunk: rows that encoders process at once; None: all, and nothing is computed twice. It must be None on all
            ranks or on none: DDP's own collectives come before the loss's in the one case, after them in the other.
        no_sync: DDP's, of `wrapped`.
        memory: momentum towers, queues and banks; this step's keys are pushed into them. key_looks: views of the same
            rows for the momentum towers.
        sampled: rows of each view to keep in the outcome. scores: looks up scores of pairs that have a target.
        trained: the towers' parameters that require gradients, if the caller has the list; None: they are collected.
    """
    if chunk is None:
        embedded = wrapped([request for look in looks for request in look.requests()])
    else:
        costliest_last = sorted(looks, key=Look.size)  # the last chunk of all is not computed again
        chunks = [part for look in costliest_last for part in cut(look, chunk)]
        chunks.sort(key=lambda chunk: chunk.alone)  # running statistics are then those of the replay
        embedded = embed(towers, looks, chunks)
    keys = memory.embed(key_looks, chunk) if memory is not None else {}
    sides = Sides(embedded, rows_of([*looks, *key_looks]), ids, keys, scores)
    found = graph_loss(towers, sides, contexts, memory, sampled)
    if trained is None:
        trained = [p for p in towers.parameters() if p.requires_grad]
    rest = Rest(found.own, trained if wrapped is not towers else trained[:1])  # DDP waits for all; else one will do
    with statistics_kept(towers) if towers.recomputes else nullcontext():
        if chunk is None:
            backward(surrogate(embedded, found.grads, rest=rest))
        else:
            replay(wrapped, towers, chunks, embedded, found.grads, rest, backward, no_sync)
    for p in trained:
        if p.grad is None and p.requires_grad:  # as under DDP; optimisers skip a parameter whose gradient is None
            p.grad = torch.zeros_like(p)
    return found.outcome
