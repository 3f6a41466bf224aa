"""The loss of a whole graph on one step's embeddings, and its gradients: dL/dz of every view, dL/dtheta of objectives.

Terms, and the calls of a pair, are differentiated in list order, so that all ranks enter all collectives in the same
order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.graph import Term, target_view
from multicl.pairs import Call, Pair, View, mined_view, negatives_view
from multicl.targets import Target
from multicl.towers import Embeddings, Towers
from multicl.training.looks import Look
from multicl.training.memory import Memory
from multicl.training.monitors import Compared, sample
from multicl.types import Context, Embedded, Extra, InputError


class Ids(Protocol):
    """Looks up ids, which say what rows are about."""

    def __call__(self, term: Term, row: Tensor, negatives: bool = False) -> Tensor:
        """[B] rows -> [B] int64 ids; for a target, class numbers, or -1 where a row has no label.

        `negatives`: give the ids of the rows' explicit negatives instead.
        """
        ...


class Scores(Protocol):
    """Looks up how similar the two sides of a row should be."""

    def __call__(self, pair: Pair, row: Tensor) -> Tensor:
        """[B] rows -> [B] float32, NaN where unknown; only for pairs with a `target` column."""
        ...


class Contexts(Protocol):
    """Makes the context that an objective is called with."""

    def __call__(self, term: Term, call: Call | None) -> Context:
        """The context of one call of a pair, without extra keys; `call` is None for a target."""
        ...


def contexts_at(now: Context) -> Contexts:
    """Contexts based on a step's `now`; a pair's call adds its directions and how it treats equal ids."""

    def context(term: Term, call: Call | None) -> Context:
        if call is None or isinstance(term, Target):
            return now
        return replace(now, symmetric=term.symmetric and call.both, both=call.both, equal_ids=term.equal_ids)

    return context


@dataclass(frozen=True)
class Outcome:
    """What a step reports: the loss, and for each term what its objective logs, as scalars on the device."""

    loss: Tensor
    logged: dict[str, dict[str, Tensor]]
    compared: dict[str, list[Compared]] = field(default_factory=dict)
    """For each pair a sample of its rows as they were compared, for the monitors; empty unless asked for."""


@dataclass(frozen=True)
class Contrasted:
    """The loss of all terms and its gradients."""

    outcome: Outcome
    grads: Embeddings
    """dL/dz of each view and space."""
    own: list[tuple[nn.Parameter, Tensor]]
    """The objectives' parameters with their gradients."""


@dataclass(frozen=True)
class Sides:
    """A step's embeddings, with the lookups that turn them into a term's inputs."""

    embedded: Embeddings
    rows: Mapping[View, Tensor]
    """View -> [B] int64 rows."""
    ids: Ids
    keys: Embeddings = field(default_factory=dict)
    """Embeddings by the momentum towers."""
    scores: Scores | None = None
    """Needed if a pair has a target."""
    known: dict[tuple[str, int, bool], tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Cache of rows and ids on the device; views of the same rows share an entry."""

    def of(self, pair: Pair, view: View, momentum: bool = False, negatives: bool = False) -> Embedded:
        """A view's embeddings in the pair's space, with rows, ids and scores."""
        z, row = (self.keys if momentum else self.embedded)[view, pair.space], self.rows[view]
        score = None
        if pair.target:
            assert self.scores is not None
            score = _put(self.scores(pair, row), z)
        return Embedded(z, *self._numbers(pair, row, z, negatives), score=score)

    def features(self, target: Target, view: View) -> Embedded:
        """A view's encoder features, with class numbers as ids."""
        h, row = self.embedded[view, None], self.rows[view]
        return Embedded(h, *self._numbers(target, row, h))

    def _numbers(self, term: Term, row: Tensor, like: Tensor, negatives: bool = False) -> tuple[Tensor, Tensor]:
        """Rows and their ids, on the device of `like`."""
        key = (term.name, id(row), negatives)
        if key not in self.known:
            self.known[key] = _put(row, like), _put(self.ids(term, row, negatives), like)
        return self.known[key]


def graph_loss(
    towers: Towers, sides: Sides, contexts: Contexts, memory: Memory | None = None, sampled: int = 0
) -> Contrasted:
    """The weighted sum of the terms' losses, and its gradients.

    Args:
        memory: provides the keys of queues and the banks, and receives this step's keys after their pair's loss.
        sampled: rows of each view to keep in the outcome, for the monitors.
    """
    asked = towers.requests  # `embedded` also holds features of frozen encoders, kept for the replay
    leaves = {key: z.detach().requires_grad_() for key, z in sides.embedded.items() if key[1] in asked[key[0]]}
    own = [p for p in towers.objectives.parameters() if p.requires_grad]
    wanted = [*leaves.values(), *own]
    sums: list[Tensor | None] = [None] * len(wanted)
    logged: dict[str, dict[str, Tensor]] = {term.name: {} for term in towers.terms}
    compared: dict[str, list[Compared]] = {pair.name: [] for pair in towers.pairs}
    for term, share, given, some in _losses(towers, replace(sides, embedded=leaves), contexts, memory, sampled):
        values = _checked(term, given)
        found = torch.autograd.grad(_plus(None, term.weight * share, values["loss"]), wanted, allow_unused=True)
        sums = [mine if grad is None else _plus(mine, 1.0, grad) for mine, grad in zip(sums, found, strict=True)]
        told = logged[term.name]
        for name, value in values.items():
            told[name] = _plus(told.get(name), share, value.detach())
        if some:
            compared[term.name] += some
    total: Tensor | None = None
    for term in towers.terms:
        total = _plus(total, term.weight, logged[term.name]["loss"])
    assert total is not None
    whole = [torch.zeros_like(z) if grad is None else grad for z, grad in zip(wanted, sums, strict=True)]
    grads = dict(zip(leaves, whole, strict=False))
    return Contrasted(Outcome(total, logged, compared), grads, list(zip(own, whole[len(leaves) :], strict=True)))


def _checked(term: Term, given: Any) -> dict[str, Tensor]:
    """What an objective returned, as tensors.

    Raises:
        InputError: "loss" is missing or not a 0-dimensional tensor, or a value is not a single number.
    """
    loss = given.get("loss") if isinstance(given, Mapping) else None
    if not isinstance(loss, Tensor) or loss.ndim:
        raise InputError(
            f"the objective of {term.name!r} must give a dict whose 'loss' is a tensor of no dimension, got {given!r}"
        )
    values = {}
    for name, value in given.items():
        if isinstance(value, int | float):
            value = torch.full((), value, dtype=loss.dtype, device=loss.device)
        if not isinstance(value, Tensor) or value.numel() != 1:
            raise InputError(f"the objective of {term.name!r} must give one number under {name!r}, got {value!r}")
        values[name] = value
    return values


def _plus(total: Tensor | None, factor: float, value: Tensor) -> Tensor:
    """total + factor * value, skipping no-ops: with small batches on a GPU, launch overhead dominates."""
    value = value if factor == 1 else factor * value
    return value if total is None else total + value


def _losses(
    towers: Towers, sides: Sides, contexts: Contexts, memory: Memory | None, sampled: int
) -> Iterator[tuple[Term, float, dict[str, Tensor], list[Compared]]]:
    """Yield (term, weight within the term, what its objective returned, sampled rows), once per call of a pair.

    The caller differentiates each loss before it asks for the next one.
    """
    for term in towers.terms:
        if isinstance(term, Target):
            rows = sides.features(term, target_view(term, towers.terms))
            yield term, 1.0, towers.objectives[term.name](rows, contexts(term, None)), []
            continue
        for call in term.calls:
            a, b = sides.of(term, call.a), sides.of(term, call.b, call.momentum)
            if term.keys_from == "both":
                a, b = _both(a, b, sides.rows[call.a], sides.rows[call.b])
            context = _with_extras(contexts(term, call), term, call, sides, memory)
            if memory is not None:
                bank_a, bank_b = memory.banks.of(term, call, a, b)
                context = replace(context, bank_a=bank_a, bank_b=bank_b)
            objective = towers.objectives[term.name]
            yield term, call.weight, objective(a, b, context), sample(call, a, b, sampled, objective)
        if memory is not None:
            memory.push(term, lambda view, pair=term: sides.of(pair, view, pair.keys == "momentum"))  # type: ignore[misc]


def rows_of(looks: Sequence[Look]) -> dict[View, Tensor]:
    """View -> [B] int64 rows on this rank."""
    none = torch.zeros(0, dtype=torch.int64)
    return {reader.view: none if look.batch is None else look.batch.row for look in looks for reader in look.readers}


def _with_extras(context: Context, pair: Pair, call: Call, sides: Sides, memory: Memory | None) -> Context:
    """The context plus the queues' keys and the explicit and mined negatives of all ranks."""
    extra_a, extra_b = memory.extras(pair, call) if memory is not None else ((), ())
    if pair.negatives and call.a.node == pair.a:
        negatives = sides.of(pair, negatives_view(pair), negatives=True)
        extra_a = (*extra_a, _gathered(negatives, context.world, "negative"))
    if pair.mine and call.a.node == pair.a:
        extra_a = (*extra_a, _gathered(sides.of(pair, mined_view(pair)), context.world, "ignore"))
    return replace(context, extra_a=extra_a, extra_b=extra_b)


def _gathered(negatives: Embedded, world: World, same_row: Literal["ignore", "negative"]) -> Extra:
    z, row, ids = (world.gather(x) for x in (negatives.z, negatives.row, negatives.id))
    return Extra(z, row, ids, same_row)


def _put(values: Tensor, like: Tensor) -> Tensor:
    """`values` on the device of `like`, copied without synchronising."""
    return values.to(like.device, non_blocking=True)


def _both(a: Embedded, b: Embedded, rows_a: Tensor, rows_b: Tensor) -> tuple[Embedded, Embedded]:
    """The rows that both sides have; if their order is the same too, both sides share one `row` tensor.

    Args:
        rows_a, rows_b: the sides' rows on the CPU, so that comparing them does not synchronise with the GPU.
    """
    if not torch.equal(rows_a, rows_b):
        of_a, of_b = torch.isin(rows_a, rows_b).nonzero()[:, 0], torch.isin(rows_b, rows_a).nonzero()[:, 0]
        a, b = a[_put(of_a, a.z)], b[_put(of_b, b.z)]
        if not torch.equal(rows_a[of_a], rows_b[of_b]):
            return a, b
    return a, replace(b, row=a.row)
