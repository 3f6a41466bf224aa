"""The instance bank: one vector for every row of the data set (Wu et al. 2018, arXiv:1805.01978), a bank for each side
of a pair (CMC, arXiv:1906.05849).

The paper initialises its slots at random, so for the first epoch rows are contrasted with noise. Here a slot counts as
data only once its row has been seen: it is then set to the row's own embedding, and only such slots are drawn. The
random initial vectors serve only to estimate Z. They are spread over the whole sphere, which is where training leads
(NCE is optimal where the mean of exp over the bank is Z/N). An untrained encoder's vectors all point in nearly the same
direction; the Z estimated from them, some 10^5 times as large at a temperature of 0.07, would keep them there.

A bank is the same on every rank. It is kept in plain tensors rather than module buffers, so that nothing broadcasts,
averages or casts it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize

from multicl.data.ids import SET_BITS
from multicl.distributed import World
from multicl.objectives.instance_nce import InstanceNCE
from multicl.ops.nce import mean_exp
from multicl.ops.unit import unit
from multicl.pairs import Call, Pair, View
from multicl.seeds import hash62, row_seeds
from multicl.towers import Towers
from multicl.types import Embedded, InputError


@dataclass(frozen=True)
class Negatives:
    """The negatives of n rows, drawn lazily."""

    some: Tensor
    """[n] bool: whether the row has any slot to draw from."""
    at: Callable[[slice], Tensor]
    """A slice of the rows -> [r, K] int64 slots. Each row has its own generator, so the slicing changes no draw."""


class Bank:
    """One slot per row of the data.

    Args:
        sizes: number of rows in each data set, at least 1 in total. dim: D, width of a slot.
        seed: determines the initial vectors and the draws.
    """

    def __init__(self, sizes: Sequence[int], dim: int, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self.starts = torch.tensor([sum(sizes[:i]) for i in range(len(sizes))], device=device)
        dice = torch.Generator().manual_seed(seed)
        self.z = normalize(torch.randn(sum(sizes), dim, generator=dice), dim=1).to(device)
        self.seen = torch.zeros(len(self.z), dtype=torch.bool, device=device)
        self.id = torch.zeros(len(self.z), dtype=torch.int64, device=device)
        self.log_norm: float | None = None
        """log(Z/N); None until it is estimated."""
        self._look()

    def __len__(self) -> int:
        """Number of slots whose row has been seen."""
        return len(self._ids)

    def slots(self, row: Tensor) -> Tensor:
        """[B] int64 rows -> [B] int64 slots."""
        return self.starts[row >> SET_BITS] + (row & ((1 << SET_BITS) - 1))

    def estimate(self, queries: Sequence[Embedded], scale: float, count: int, world: World) -> None:
        """Estimate Z, once, from the rows of all ranks: each row is compared with `count` slots of the initial bank.

        Z stays unknown if no rank has a row; call again with the next batch. Call it before `meet` or `update`.

        Args:
            queries: views of this rank's rows. scale: 1 / temperature.
        """
        assert not len(self), "Z is of the bank as it begins"
        means = []
        for number, query in enumerate(queries):
            any_slot = self._draws(query.row, torch.full_like(query.row, len(self.z)), count, "norm", number)
            means.append(mean_exp(unit(query.z.detach()), self.z, any_slot, scale))
        every = torch.cat(means)
        mean = world.mean(every, torch.ones_like(every, dtype=torch.bool)).item()
        self.log_norm = math.log(mean) if mean else None

    @torch.no_grad()
    def meet(self, keys: Embedded) -> None:
        """Initialise the slots of rows not seen before with their embeddings; [B] rows of all ranks. Zero vectors are
        skipped."""
        at, v = self.slots(keys.row), unit(keys.z).to(self.z.dtype)
        fresh = ~self.seen[at] & v.any(1)
        at = at[fresh]
        self.z[at], self.id[at], self.seen[at] = v[fresh], keys.id[fresh], True
        if len(at):
            self._look()

    @torch.no_grad()
    def update(self, keys: Embedded, momentum: float) -> None:
        """Set m <- normalise(momentum m + (1 - momentum) v) for [B] distinct rows of all ranks; new rows start at v."""
        self.meet(keys)
        at = self.slots(keys.row)
        moved = normalize(momentum * self.z[at] + (1 - momentum) * unit(keys.z).to(self.z.dtype), dim=1)
        self.z[at] = torch.where(self.seen[at, None] & moved.any(1, keepdim=True), moved, self.z[at])

    def negatives(self, rows: Embedded, count: int, *what: Any) -> Negatives:
        """Draw `count` seen slots for each row, uniformly with replacement, excluding its own row and equal ids.

        Args:
            what: the draw's name, e.g. a step; the same on every rank. Draws depend on it, on the seed and on the row.
        """
        low, high = (torch.searchsorted(self._ids, rows.id, right=right) for right in (False, True))
        free = len(self) - (high - low)  # slots are sorted by id: [low, high) are those of the row's own id
        places = self._draws(rows.row, free.clamp(min=1), count, *what)

        def at(piece: slice) -> Tensor:
            place = places(piece)
            place += (place >= low[piece, None]) * (high - low)[piece, None]
            return self._order[place.clamp_(max=len(self._order) - 1)]

        return Negatives(free > 0, at)

    def state(self) -> dict[str, Tensor]:
        """The complete state, for a checkpoint."""
        norm = math.nan if self.log_norm is None else self.log_norm
        return {"z": self.z, "seen": self.seen, "id": self.id, "log_norm": torch.tensor([norm], dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned; KeyError or RuntimeError if it came from another kind or size of bank."""
        for mine, name in ((self.z, "z"), (self.seen, "seen"), (self.id, "id")):
            mine.copy_(state[name])
        norm = state["log_norm"].item()
        self.log_norm = None if math.isnan(norm) else norm
        self._look()

    def _look(self) -> None:
        """Sort the seen slots by id. With none seen, `_order` is [0] as a placeholder: `some` is then False for all."""
        seen = self.seen.nonzero().flatten()
        self._ids, order = self.id[seen].sort(stable=True)
        self._order = seen[order] if len(seen) else seen.new_zeros(1)

    def _draws(self, row: Tensor, free: Tensor, count: int, *what: Any) -> Callable[[slice], Tensor]:
        """A slice of the rows -> [r, count] uniform integers, each in [0, free) of its row; `free` is [n]."""
        seeds, below = row_seeds(row, self.seed, *what).tolist(), free.tolist()
        dice = torch.Generator()

        def at(piece: slice) -> Tensor:
            drawn = torch.empty(len(below[piece]), count, dtype=torch.int64)
            for line, seed, top in zip(drawn, seeds[piece], below[piece], strict=True):
                torch.randint(top, (count,), generator=dice.manual_seed(seed), out=line)
            return drawn.to(row.device, non_blocking=row.device.type != "cpu")

        return at


class Banks:
    """The banks of a graph: one for each node of each pair whose objective is InstanceNCE.

    Args:
        sizes: number of rows in each data set; None if unknown, as for a stream.
        seed: the run's.

    Raises:
        InputError: a pair needs a bank, but the data has no length.
    """

    def __init__(self, towers: Towers, sizes: Sequence[int] | None, seed: int, world: World) -> None:
        self.world = world
        self.banks: dict[tuple[str, str], Bank] = {}
        for pair in towers.pairs:
            if not isinstance(pair.objective, InstanceNCE):
                continue
            if sizes is None:
                raise InputError(
                    f"pair {pair.name!r}: InstanceNCE keeps a vector for every row, but the data are a stream, whose "
                    "length is unknown: use InfoNCE, with Pair(queue=...) for more negatives"
                )
            for node in (pair.a, pair.b):
                dim, own = towers.dim(node, pair.space), hash62("bank", seed, pair.name, node)
                self.banks[pair.name, node] = Bank(sizes, dim, own, towers.device)

    def of(self, pair: Pair, call: Call, a: Embedded, b: Embedded) -> tuple[Bank | None, Bank | None]:
        """The banks of a's and b's nodes, ready for the loss of a call: Z is estimated, this step's rows have slots.

        Collective: every rank must call it.
        """
        if not isinstance(pair.objective, InstanceNCE):
            return None, None
        asking = {call.b.node: [a]}
        keys = {call.b.node: [b]}
        if call.both:
            asking.setdefault(call.a.node, []).append(b)
            keys.setdefault(call.a.node, []).append(a)
        for node, queries in asking.items():
            bank = self.banks[pair.name, node]
            if bank.log_norm is None:
                bank.estimate(queries, 1 / pair.objective.temperature, pair.objective.negatives, self.world)
            if bank.log_norm is not None and len(bank) < len(bank.z):
                bank.meet(self._every(keys[node]))
        return self.banks[pair.name, call.a.node], self.banks[pair.name, call.b.node]

    def push(self, pair: Pair, side: Callable[[View], Embedded]) -> None:
        """After the loss, move the slots of this step's rows, on all ranks, towards their current embeddings.

        A bank whose Z is still unknown, because no row has had both sides so far, keeps its initial vectors: Z is
        estimated from those.

        Args:
            side: view -> this rank's embeddings of it.
        """
        if not isinstance(pair.objective, InstanceNCE):
            return
        views: dict[str, dict[View, None]] = {}
        for call in pair.calls:
            for view in (call.a, call.b) if call.both else (call.b,):
                views.setdefault(view.node, {})[view] = None
        for node, drawn in views.items():
            bank = self.banks[pair.name, node]
            if bank.log_norm is not None:
                bank.update(self._every([side(view) for view in drawn]), pair.objective.momentum)

    def state(self) -> dict[str, Tensor]:
        """The state of all banks, for a checkpoint."""
        return {f"{pair}:{node}:{k}": t for (pair, node), bank in self.banks.items() for k, t in bank.state().items()}

    def load(self, kept: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned."""
        for (pair, node), bank in self.banks.items():
            bank.load({key: kept[f"{pair}:{node}:{key}"] for key in bank.state()})

    def _every(self, views: Sequence[Embedded]) -> Embedded:
        """The rows of all ranks, in rank order; several draws of a row are averaged."""
        first = views[0]
        z = torch.stack([unit(view.z.detach()) for view in views]).mean(0)
        counts = self.world.counts(len(first), z.device)
        return Embedded(*(self.world.all_rows(x, counts) for x in (z, first.row, first.id)))
