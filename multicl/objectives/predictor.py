"""The module that Predicted's settings build."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from multicl.batch_norm import NORMS
from multicl.objectives.predicted import Predicted
from multicl.types import Context, Embedded


class PredictedObjective(nn.Module):
    """Two views in, a loss out: the objective's, of the predictions of a and of b as it is."""

    def __init__(self, settings: Predicted, dims: tuple[int, int]) -> None:
        super().__init__()
        a, b = dims
        norm = NORMS[settings.norm](settings.hidden)
        self.predictor = nn.Sequential(nn.Linear(a, settings.hidden), norm, nn.ReLU(), nn.Linear(settings.hidden, b))
        self.objective = settings.objective.build((b, b))

    def forward(self, a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor]:
        """Give "loss" and what the objective logs. `context.both` is False: b holds keys alone."""
        assert not context.both, "a pair refuses predictors where keys are not a momentum tower's"
        if any(context.world.agree(len(a) > 0)):  # a synchronised norm waits for ranks that have none, too
            predicted: Tensor = self.predictor(a.z)
        else:  # with a gradient all the same, as what is differentiated must have one
            predicted = a.z @ a.z.new_zeros(a.z.shape[1], b.z.shape[1])
        told: dict[str, Tensor] = self.objective(replace(a, z=predicted), b, context)
        return told
