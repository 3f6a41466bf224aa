"""The module that Predicted's settings build."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from multicl.batch_norm import NORMS, BatchNorm, by_statistics
from multicl.distributed import World
from multicl.objectives.predicted import Predicted
from multicl.types import Context, Embedded, InputError


class PredictedObjective(nn.Module):
    """Two views in, a loss out: the objective's loss of the predictions from a, and b as it is."""

    def __init__(self, settings: Predicted, dims: tuple[int, int]) -> None:
        super().__init__()
        a, b = dims
        norm = NORMS[settings.norm](settings.hidden)
        self.predictor = nn.Sequential(nn.Linear(a, settings.hidden), norm, nn.ReLU(), nn.Linear(settings.hidden, b))
        self.objective = settings.objective.build((b, b))

    @property
    def is_synced(self) -> bool:
        """Whether its norm is synchronised: such a norm waits for every rank, even those without rows."""
        norm = self.predictor[1]
        return isinstance(norm, _BatchNorm) and not isinstance(norm, BatchNorm)

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and what the objective logs. `context.both` must be False: b holds only keys."""
        if context.both:
            raise InputError("a predictor is for a's rows only: give Context(both=False), or in a pair keys='momentum'")
        rows = self._rows(len(a), context.world)
        if rows == 1 and self.is_synced:  # no variance: use running statistics, as `BatchNorm` does, on every rank
            first, norm, *rest = self.predictor
            assert isinstance(norm, _BatchNorm)
            predicted: Tensor = nn.Sequential(*rest)(by_statistics(norm, first(a.z)))
        elif rows:
            predicted = self.predictor(a.z)
        else:  # no rows, but part of the graph: what is differentiated must want a gradient
            predicted = a.z @ a.z.new_zeros(a.z.shape[1], b.z.shape[1])
        told: dict[str, Tensor] = self.objective(replace(a, z=predicted), b, context)
        return told

    def _rows(self, mine: int, world: World) -> int:
        """Rows that the norm sees, of all ranks if it is synchronised (2: 2 or more); does not wait for the device."""
        if not self.is_synced:
            return mine
        *some, several = world.agree(*(mine > 0 and world.rank == rank for rank in range(world.size)), mine > 1)
        return 2 if several else min(2, sum(some))
