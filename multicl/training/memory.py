"""What a run keeps across batches: momentum towers (MoCo, arXiv:1911.05722), queues of keys, banks; for any pair.

Momentum towers are a slowly moving average of the trained ones. They embed the keys of the pairs that ask for it,
without gradients. A queue holds the latest keys of one view of one pair: from the momentum towers, or (XBM,
arXiv:1912.06798) from the trained ones. A bank holds a vector for every row of the data (`bank.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from multicl.distributed import World
from multicl.graph import requested_views
from multicl.pairs import Call, Pair, View
from multicl.seeds import hash62
from multicl.settings import Momentum
from multicl.towers import Embeddings, Towers
from multicl.training.bank import Banks
from multicl.training.chunks import cut
from multicl.training.looks import Look
from multicl.training.norms import statistics_held
from multicl.training.queue import Queue
from multicl.training.replay import embed
from multicl.types import Embedded, Extra, InputError

_Place = tuple[dict[str, Any], dict[str, Any], str]
"""Where to find a tensor: the dictionary of the momentum module, that of the module it follows, and the key in both."""


class Memory:
    """Momentum towers, queues and banks of a graph.

    Args:
        towers: on their device, in the modes in which they train, not wrapped.
        momentum: how fast the momentum towers follow. world: the ranks whose keys queues and banks hold.
        autocast: the context in which momentum towers compute; Accelerate's.
        sizes, seed: for banks: number of rows in each data set, None for a stream; and the run's seed.

    Raises:
        InputError: a pair needs a bank, and the data is a stream.
    """

    def __init__(
        self,
        towers: Towers,
        momentum: Momentum | None = None,
        world: World | None = None,
        autocast: Callable[[], AbstractContextManager[None]] = nullcontext,
        sizes: Sequence[int] | None = None,
        seed: int = 0,
    ) -> None:
        self.momentum, self.world, self.autocast = momentum or Momentum(), world or World.current(), autocast
        self.towers = _copy(towers) if any(pair.keys == "momentum" for pair in towers.pairs) else None
        self._places: tuple[list[_Place], ...] = ()
        self.queues = {
            (pair.name, view): Queue(pair.queue, towers.dim(view.node, pair.space), towers.device)
            for pair in towers.pairs
            if pair.queue
            for view in _keys(pair)
        }
        self.banks = Banks(towers, sizes, seed, self.world)

    def notes(self, batch_size: int, steps: int) -> list[str]:
        """Messages for the user before training: one for each node whose queue is not full yet."""
        lines = []
        for (name, view), queue in self.queues.items():
            missing = len(queue.z) - len(queue)
            if missing:
                needed = -(-missing // batch_size)
                lines.append(
                    f"pair {name!r}: the queue of {view.node!r} holds {len(queue)} of {len(queue.z)} keys and is full "
                    f"after {needed} steps"
                    + (f", but the run ends after {steps}: give a smaller queue" if needed > steps else "")
                )
        return list(dict.fromkeys(lines))

    def embed(self, looks: Sequence[Look], chunk: int | None) -> Embeddings:
        """Embed `looks` with the momentum towers, rows in batch order.

        Rows are permuted before they are cut into chunks, so that BatchNorm's batch statistics cannot reveal which key
        belongs to a row (MoCo's shuffling BN). Running statistics are not updated here: they follow the trained ones.
        """
        if self.towers is None:
            return {}
        found: Embeddings = {}
        with statistics_held(self.towers), self.autocast():
            for look in looks:
                if look.batch is None or chunk is None:
                    found |= embed(self.towers, [look], cut(look, max(1, len(look))), replayed=False)
                    continue
                dice = torch.Generator().manual_seed(hash62("keys", *look.readers[0].seed))
                order = torch.randperm(len(look), generator=dice)
                mixed = replace(look, batch=look.batch[order])
                there = order.to(self.towers.device, non_blocking=self.towers.device.type != "cpu")
                for key, z in embed(self.towers, [mixed], cut(mixed, chunk), replayed=False).items():
                    found[key] = torch.empty_like(z)
                    found[key][there] = z
        return found

    def extras(self, pair: Pair, call: Call) -> tuple[tuple[Extra, ...], tuple[Extra, ...]]:
        """The queues' keys for the rows of a and for those of b: `extra_a` and `extra_b` of a Context."""
        if not pair.queue:
            return (), ()
        of_b = self.queues[pair.name, call.b].keys()
        if not call.both:
            return (of_b,), ()
        of_a = self.queues[pair.name, call.a].keys() if (pair.name, call.a) in self.queues else None
        if pair.symmetric:
            assert of_a is not None
            return (of_a, of_b), ()
        return (of_b,), (of_a,) if of_a is not None else ()

    @torch.no_grad()
    def push(self, pair: Pair, side: Callable[[View], Embedded]) -> None:
        """After the loss, put this step's keys of all ranks, in rank order, into the pair's queues and banks.

        Args:
            side: view -> this rank's keys of it.
        """
        for (name, view), queue in self.queues.items():
            if name == pair.name:
                keys = side(view)
                counts = self.world.counts(len(keys), keys.z.device)
                every = (self.world.all_rows(x, counts) for x in (keys.z, keys.row, keys.id))
                queue.push(Embedded(*every))
        self.banks.push(pair, side)

    @torch.no_grad()
    def follow(self, towers: Towers, progress: float) -> None:
        """After an optimiser step, move the momentum towers towards the trained ones.

        Args:
            progress: fraction of the run that is done, in [0, 1].
        """
        if self.towers is None:
            return
        if not self._places:
            self._places = _places(self.towers, towers)
        moved, counts = ([(mine[key], theirs[key]) for mine, theirs, key in places] for places in self._places)
        torch._foreach_lerp_(
            [mine for mine, _ in moved],
            [theirs if theirs.dtype == mine.dtype else theirs.to(mine.dtype) for mine, theirs in moved],
            1 - self.momentum.at(progress),
        )
        if counts:
            torch._foreach_copy_([mine for mine, _ in counts], [theirs for _, theirs in counts])

    def state(self) -> dict[str, Tensor]:
        """The complete state, for a checkpoint."""
        kept = {f"momentum:{name}": t for name, t in self.towers.state_dict().items()} if self.towers else {}
        for (name, view), queue in self.queues.items():
            kept |= {_prefix(name, view) + key: t for key, t in queue.state().items()}
        return kept | {f"bank:{name}": t for name, t in self.banks.state().items()}

    def load(self, kept: Mapping[str, Tensor]) -> None:
        """Restore what `state` returned.

        Raises:
            InputError: it belongs to other pairs, or to queues or banks of another size.
        """
        mine = self.state()
        for name in sorted(mine.keys() | kept.keys()):
            here, there = (list(t[name].shape) if name in t else None for t in (mine, kept))
            if here != there:
                raise InputError(
                    f"the checkpoint's memory is from another recipe: {name!r} is {there} in the checkpoint and {here} "
                    "in this run. Resume with the settings of its recipe.yaml."
                )
        if self.towers:
            self.towers.load_state_dict(_part(kept, "momentum:"))
        for (name, view), queue in self.queues.items():
            queue.load(_part(kept, _prefix(name, view)))
        self.banks.load(_part(kept, "bank:"))


def _copy(towers: Towers) -> Towers:
    """A frozen copy of the encoders and heads that embed keys, each in the same mode; settings are shared."""
    wanted = requested_views(towers.terms, momentum=True)
    used = {towers.towers[view.node] for view in wanted}
    memo = {id(towers.modalities): towers.modalities, id(towers.objectives): nn.ModuleDict()}
    memo |= {id(encoder): None for tower, encoder in towers.encoders.items() if tower not in used}
    momentum = copy.deepcopy(towers, memo)
    momentum.__dict__.pop("forward", None)  # set by an earlier `prepare`; it would call the trained towers
    momentum.requests = wanted
    return momentum.requires_grad_(False)


def _places(momentum: Towers, towers: Towers) -> tuple[list[_Place], ...]:
    """The places of all momentum parameters and buffers: (floating point, integer). Collected once, because looking
    them up at every step took longer than updating them."""
    found: dict[int, _Place] = {}
    for name, module in momentum.named_modules():
        followed = towers.get_submodule(name)
        for mine, theirs in ((module._parameters, followed._parameters), (module._buffers, followed._buffers)):
            for key, t in mine.items():
                if t is not None:
                    found.setdefault(id(t), (mine, theirs, key))
    return tuple([at for at in found.values() if at[0][at[2]].is_floating_point() == moves] for moves in (True, False))


def _keys(pair: Pair) -> list[View]:
    """The views whose embeddings serve as keys of a pair."""
    asked: dict[View, None] = {}
    for call in pair.calls:
        asked[call.b] = None
        if call.both and (pair.symmetric or pair.both_directions):
            asked[call.a] = None
    return list(asked)


def _prefix(pair: str, view: View) -> str:
    return f"queue:{pair}:{view.node}:{view.kind}:{view.draw}:"


def _part(kept: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): t for name, t in kept.items() if name.startswith(prefix)}
