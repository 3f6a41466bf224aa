"""Your own modality in one file: time series of a sensor, paired with words. Nothing in multicl knows of it.

python examples/own_modality.py        (elsewhere: multicl embed RUN --import own_modality.py)
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from multicl import BadSample, Batch, Pair, Train, Trainer, register
from multicl.modalities.text import Text


class Convolutions(nn.Module):
    """[B, length] -> [B, 64]."""

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv1d(1, 32, 9, 2), nn.ReLU(), nn.Conv1d(32, 64, 9, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()
        )

    def forward(self, batch: Batch) -> Tensor:
        """Features of B series."""
        return self.net(batch.get("values")[:, None])


@register("series")
@dataclass(frozen=True)
class Series:
    """Time series of one length: a cell is a list of numbers."""

    encoder: str = "convolutions"
    _: KW_ONLY
    column: str | None = None
    tower: str | None = None
    length: int = 64
    noise: float = 0.1

    @property
    def source(self) -> Hashable:
        """Nodes with an equal source read a column only once."""
        return (type(self), self.length, self.noise)

    @property
    def files(self) -> bool:
        """Cells are numbers, not paths."""
        return False

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        """A cell -> [length]; a cell that raises BadSample is left out, with this reason."""
        try:
            values = torch.tensor(raw, dtype=torch.float32)
        except (TypeError, ValueError):
            raise BadSample(f"a series is a list of numbers, got {type(raw).__name__}") from None
        if values.shape != (self.length,):
            raise BadSample(f"expected {self.length} numbers, got {list(values.shape)}")
        return (values - values.mean()) / values.std().clamp_min(1e-6)

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        """Samples -> a batch."""
        return Batch({"values": torch.stack(list(samples))})

    def view(self, batch: Batch, seeds: Tensor | None, kind: str = "strong") -> Batch:
        """Augment with a random start and noise, drawn from each row's own seed; without seeds (evaluation), don't."""
        if seeds is None:
            return batch
        rows = []
        for row, seed in zip(batch.get("values"), seeds.tolist(), strict=True):
            draw = torch.Generator().manual_seed(seed % 2**62)
            shift = int(torch.randint(self.length, (1,), generator=draw))
            rows.append(row.roll(shift) + self.noise * torch.randn(self.length, generator=draw).to(row.device))
        return batch.replace(values=torch.stack(rows))

    def build(self, weights: bool = True) -> nn.Module:
        """The encoder."""
        return Convolutions()

    def save(self, folder: Path) -> None:
        """Save nothing: the settings are enough to build the encoder again."""

    def restored(self, folder: Path) -> Series:
        """The adapter of a saved model: this one, unchanged."""
        return self

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """A cell as pages show it: (MIME type, bytes)."""
        return "text/plain", f"{len(raw)} values from {min(raw):.2f} to {max(raw):.2f}".encode()


def main() -> None:
    """Train series and words together, then name new series."""
    rng, t = np.random.default_rng(0), np.arange(64)
    shapes = {
        "a slow wave": lambda: np.sin(2 * np.pi * (t + rng.integers(64)) / 32),
        "a fast wave": lambda: np.sin(2 * np.pi * (t + rng.integers(64)) / 6),
        "a saw": lambda: ((t + rng.integers(64)) % 16) / 8 - 1,
        "single pulses": lambda: ((t + rng.integers(64)) % 21 == 0) * 3.0,
    }
    rows = [
        {"series": (shape() + rng.normal(0, 0.2, 64)).tolist(), "text": name}
        for name, shape in shapes.items()
        for _ in range(40)
    ]
    nodes = {"series": Series(), "text": Text("words", width=32)}
    model = Trainer(nodes, [Pair("series", "text")], data=rows[:-1], train=Train(batch_size=64, steps=60)).fit()

    names = list(shapes)
    fresh = [(shapes[name]() + rng.normal(0, 0.2, 64)).tolist() for name in names for _ in range(10)]
    found = (model.embed(series=fresh) @ model.embed(text=names).T).argmax(1).tolist()
    for i, name in enumerate(names):
        right = sum(f == i for f in found[10 * i : 10 * i + 10])
        print(f"{name}: {right} of 10 new series are called so")


if __name__ == "__main__":
    main()
