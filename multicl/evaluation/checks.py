"""Checks that every measure runs on its input, so that a wrong shape or a NaN is named and never becomes a figure."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from multicl.types import InputError

Ids = Tensor | Sequence[int] | Sequence[str]
"""What each row is about: an integer tensor [N], or N ints or strings. Equal values mean the same thing."""


def features(name: str, x: Tensor, like: tuple[str, Tensor] | None = None) -> Tensor:
    """`x` detached, as [N, D] float32 or float64 (narrower floats are widened).

    Args:
        name: the argument's name, for error messages.
        like: name and tensor of another argument, whose width and device `x` must share.

    Raises:
        InputError: `x` is not a floating-point matrix with rows and columns, not finite, or does not match `like`.
    """
    if not isinstance(x, Tensor) or not x.is_floating_point():
        got = x.dtype if isinstance(x, Tensor) else type(x).__name__
        raise InputError(f"{name} must be a floating-point tensor [N, D], got {got}")
    if x.ndim != 2 or 0 in x.shape:
        raise InputError(f"{name} must be [N, D] with at least one row and one column, got {list(x.shape)}")
    if like is not None and x.shape[1] != like[1].shape[1]:
        raise InputError(f"{name} has width {x.shape[1]} and {like[0]} has {like[1].shape[1]}; they must share a space")
    if like is not None and x.device != like[1].device:
        raise InputError(f"{name} is on {x.device} and {like[0]} on {like[1].device}; move one of them")
    bad = int((~torch.isfinite(x)).any(dim=1).sum())
    if bad:
        raise InputError(f"{name} has NaN or infinite values in {bad} of its {len(x)} rows")
    return x.detach().to(torch.promote_types(x.dtype, torch.float32))


def paired(name_a: str, a: Tensor, name_b: str, b: Tensor) -> tuple[Tensor, Tensor]:
    """`features` of two matrices whose rows correspond.

    Raises:
        InputError: as `features`, or the numbers of rows differ.
    """
    a, b = features(name_a, a), features(name_b, b, like=(name_a, a))
    if len(a) != len(b):
        raise InputError(
            f"{name_a} has {len(a)} rows and {name_b} has {len(b)}; row i of one belongs to row i of the other"
        )
    return a, b


def unit(x: Tensor) -> Tensor:
    """`x` with every row scaled to length 1; a row of zeros stays zero (cosine 0 with everything)."""
    return F.normalize(x, dim=1)


def codes(*named: tuple[str, Ids, int]) -> list[Tensor]:
    """Convert ids of any kind to int64 tensors on the CPU, numbered from 0 by first appearance over all arguments.

    Args:
        named: (name of the argument, its ids, how many there must be).

    Raises:
        InputError: ids are nested, are too few or too many, or are neither ints nor strings.
    """
    seen: dict[int | str, int] = {}
    out = []
    for name, ids, size in named:
        values = list(ids.tolist() if hasattr(ids, "tolist") else ids)
        values = [value.item() if hasattr(value, "item") else value for value in values]  # numpy and torch scalars
        for value in values:
            if not isinstance(value, int | str):
                raise InputError(f"{name} must be flat and hold ints or strings, got {value!r}")
        if len(values) != size:
            raise InputError(f"{name} has {len(values)} entries for {size} rows")
        out.append(torch.tensor([seen.setdefault(v, len(seen)) for v in values], dtype=torch.int64))
    return out


def positive(name: str, value: float) -> None:
    """Raise InputError unless `value` is above zero."""
    if not value > 0:
        raise InputError(f"{name} must be above 0, got {value}")
