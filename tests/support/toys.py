"""A modality of plain vectors: the smallest possible adapter, for tests of the core."""

from __future__ import annotations

import random
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from multicl.adapters import register
from multicl.types import BadSample, Batch, InputError, Kind, Modality


class Net(nn.Module):
    def __init__(self, settings: Vectors) -> None:
        super().__init__()
        self.width = settings.width
        self.net = nn.Sequential(nn.Linear(settings.size, settings.width), nn.Tanh(), nn.Dropout(settings.dropout))

    def forward(self, batch: Batch) -> Tensor:
        return self.net(batch.get("x"))


@register("vectors")
@dataclass(frozen=True)
class Vectors:
    encoder: Any = "linear"
    _: KW_ONLY
    column: str | None = None
    tower: str | None = None
    size: int = 6
    width: int = 8
    noise: float = 0.1
    dropout: float = 0.0

    @property
    def source(self) -> Hashable:
        return (type(self), self.size, self.noise)

    @property
    def files(self) -> bool:
        return False

    def load(self, raw: Any, rng: random.Random | None) -> Tensor:
        if isinstance(raw, list) and raw and isinstance(raw[0], list):  # several: rng picks
            raw = raw[0] if rng is None else rng.choice(raw)
        if not isinstance(raw, list | tuple) or len(raw) != self.size:
            raise BadSample(f"expected {self.size} numbers, got {raw!r}")
        return torch.tensor(raw, dtype=torch.float32)

    def collate(self, samples: Sequence[Tensor]) -> Batch:
        return Batch({"x": torch.stack(list(samples))})

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        if seeds is None:
            return batch
        noise = torch.stack(
            [torch.randn(self.size, generator=torch.Generator().manual_seed(int(s) % 2**62)) for s in seeds]
        )
        return batch.replace(x=batch.get("x") + self.noise * noise.to(batch.device))

    def build(self, weights: bool = True) -> nn.Module:
        if self.encoder != "linear":
            raise InputError(f"unknown encoder {self.encoder!r}")
        return Net(self)

    def save(self, folder: Path) -> None:
        pass

    def restored(self, folder: Path) -> Modality:
        return self

    def preview(self, raw: Any) -> tuple[str, bytes]:
        return "text/plain", str(raw).encode()


def rows(n: int = 64, size: int = 6, seed: int = 0) -> list[dict[str, Any]]:
    """Rows of two noisy views of one hidden vector, a label and a text."""
    g = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, size, generator=g)
    other = hidden.flip(1) + 0.1 * torch.randn(n, size, generator=g)
    return [{"a": hidden[i].tolist(), "b": other[i].tolist(), "label": i % 5, "text": f"row {i}"} for i in range(n)]
