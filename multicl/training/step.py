"""One step: embed every view, contrast all pairs at once, send the gradient home through the encoders.

The loss is differentiated with respect to the embeddings and to the objectives' own parameters first, in float32 and
unscaled, pair after pair in list order, so that every rank enters every collective in the same order. The encoders then
see one surrogate, sum <z, dL/dz>, and DDP reduces once over all towers.

With a chunk size the encoders see a few rows at a time, and the loss still sees all of them: equal to the whole batch
where there is neither dropout nor BatchNorm, and always equal to the same chunks with their graphs kept.
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
    """Forward and backward of all pairs; gradients are added to the parameters' `.grad`.

    Args:
        wrapped: `towers` as Accelerate prepared it (autocast, DDP). looks: every view of this rank's rows.
        ids: what rows are about. contexts: of each call of a pair. backward: Accelerate's (it scales for fp16).
        chunk: rows that encoders see at once; None: all, and nothing is computed twice. Either None on every rank or
            on none of them: DDP's own collectives come before the loss's in the one case, after them in the other.
        no_sync: DDP's, of `wrapped`.
        memory: momentum towers, queues; this step's keys are put into the queues. key_looks: what the momentum towers
            embed, of the same rows.
        sampled: so many rows of each view stay in the outcome. scores: of pairs that have a target.
        trained: the towers' parameters that train, of which a caller of many steps makes one list; None: looked for.
    """
    if chunk is None:
        embedded = wrapped([request for look in looks for request in look.requests()])
    else:
        costliest_last = sorted(looks, key=Look.size)  # whose last chunk is not computed again
        chunks = [part for look in costliest_last for part in cut(look, chunk)]
        chunks.sort(key=lambda chunk: chunk.alone)  # by then statistics are what they are in the replay
        embedded = embed(towers, looks, chunks)
    keys = memory.embed(key_looks, chunk) if memory is not None else {}
    sides = Sides(embedded, rows_of([*looks, *key_looks]), ids, keys, scores)
    found = graph_loss(towers, sides, contexts, memory, sampled)
    if trained is None:
        trained = [p for p in towers.parameters() if p.requires_grad]
    rest = Rest(found.own, trained if wrapped is not towers else trained[:1])  # DDP waits for all; without, one will do
    with statistics_kept(towers) if towers.recomputes else nullcontext():
        if chunk is None:
            backward(surrogate(embedded, found.grads, rest=rest))
        else:
            replay(wrapped, towers, chunks, embedded, found.grads, rest, backward, no_sync)
    for p in trained:
        if p.grad is None and p.requires_grad:  # as DDP leaves it: an optimiser passes over what has no gradient at all
            p.grad = torch.zeros_like(p)
    return found.outcome
