"""Batch: what a modality's `collate` makes from samples, its `view` transforms and its encoder reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Batch:
    """Named tensors that share their first dimension: the rows of one modality that are present.

    Args:
        tensors: name -> [B, ...]. The name `lengths` is reserved for [B] int64 valid lengths.
        row: [B] int64, the stable row of the data set (set number in the high bits), never a batch position.
            Adapters leave it out (`collate` does not know it), and the loader fills it in; it defaults to 0..B-1. It
            may stay on the CPU while the tensors are elsewhere.
        padded: names of the tensors [B, T, ...] that hold a row up to its length and padding beyond it, all with the
            same T. `trimmed` may shorten these tensors and no others.

    Raises:
        ValueError: there is no tensor, first dimensions differ, or `padded` names an unknown tensor.
    """

    __slots__ = ("padded", "row", "tensors")

    def __init__(self, tensors: Mapping[str, Tensor], row: Tensor | None = None, padded: Sequence[str] = ()) -> None:
        import torch

        sizes = {name: t.shape[0] for name, t in tensors.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"a Batch needs tensors that share their first dimension, got {sizes}")
        size = next(iter(sizes.values()))
        self.tensors: dict[str, Tensor] = dict(tensors)
        self.row: Tensor = torch.arange(size) if row is None else row
        if self.row.shape != (size,):
            raise ValueError(f"row must be [{size}], got {list(self.row.shape)}")
        self.padded = tuple(padded)
        if unknown := set(self.padded) - set(self.tensors):
            raise ValueError(f"padded names {sorted(unknown)}, but the tensors are {sorted(self.tensors)}")

    def __len__(self) -> int:
        return int(self.row.shape[0])

    def __getitem__(self, index: slice | Tensor) -> Batch:
        """The rows at `index` (a slice, or a tensor of positions or a mask, on any device), in that order."""
        there = row = index
        if not isinstance(index, slice):
            there = index.to(self.device, non_blocking=index.device.type == "cpu")
            row = index.to(self.row.device, non_blocking=index.device.type == "cpu")
        return Batch({name: t[there] for name, t in self.tensors.items()}, self.row[row], self.padded)

    def __iter__(self) -> Iterator[str]:
        return iter(self.tensors)

    def get(self, name: str) -> Tensor:
        """The tensor of that name, [B, ...]; KeyError lists the existing names."""
        if name not in self.tensors:
            raise KeyError(f"no tensor {name!r} in this batch; it has {sorted(self.tensors)}")
        return self.tensors[name]

    def replace(self, **tensors: Tensor) -> Batch:
        """The same rows with some tensors replaced or added."""
        return Batch({**self.tensors, **tensors}, self.row, self.padded)

    def trimmed(self) -> Batch:
        """The same rows without needless padding: `padded` tensors are cut to the longest row."""
        if self.lengths is None or not self.padded:
            return self
        longest = int(self.lengths.max())
        return self.replace(**{name: self.tensors[name][:, :longest].contiguous() for name in self.padded})

    @property
    def lengths(self) -> Tensor | None:
        """[B] int64 valid lengths (tokens, samples), or None if all rows have the same length."""
        return self.tensors.get("lengths")

    @property
    def device(self) -> torch.device:
        """The device of the tensors."""
        return next(iter(self.tensors.values())).device

    def to(self, device: torch.device | str, non_blocking: bool = False) -> Batch:
        """The same rows on a device."""
        moved = {name: t.to(device, non_blocking=non_blocking) for name, t in self.tensors.items()}
        return Batch(moved, self.row.to(device, non_blocking=non_blocking), self.padded)

    def pin_memory(self) -> Self:
        """Page-lock the tensors, in place, for fast copies to a GPU; tensors not on the CPU are left alone."""
        self.tensors = {name: t.pin_memory() if t.device.type == "cpu" else t for name, t in self.tensors.items()}
        self.row = self.row.pin_memory()
        return self

    def __repr__(self) -> str:
        return f"Batch({', '.join(f'{name}={list(t.shape)}' for name, t in self.tensors.items())})"
