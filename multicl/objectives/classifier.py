"""The module that CrossEntropy's settings build. B rows of this rank, W width of the features, C classes."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from multicl.objectives.cross_entropy import CrossEntropy
from multicl.types import Context, Embedded


class Classifier(nn.Module):
    """Features and labels in, a loss out."""

    def __init__(self, settings: CrossEntropy, width: int, classes: int) -> None:
        super().__init__()
        self.settings = settings
        self.linear = nn.Linear(width, classes)

    def logits(self, h: Tensor) -> Tensor:
        """Features [B, W] -> [B, C]."""
        found: Tensor = self.linear(h)
        return found

    def forward(self, rows: Embedded, context: Context) -> dict[str, Tensor]:
        """Return "loss" and "accuracy" over the labelled rows, and their number, "labelled".

        Args:
            rows: z holds the features [B, W], id the classes [B], -1 where a row has none.
        """
        labelled = rows.id >= 0
        logits = self.logits(rows.z)
        each = F.cross_entropy(logits, rows.id.clamp(min=0), reduction="none", label_smoothing=self.settings.smoothing)
        right = (logits.detach().argmax(1) == rows.id).to(logits.dtype)
        return {
            "loss": context.world.mean(each, labelled),
            "accuracy": context.world.mean(right, labelled),
            "labelled": context.world.sum(labelled.sum()).to(logits.dtype),
        }
