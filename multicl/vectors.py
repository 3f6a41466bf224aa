"""Checks and converts the arguments of the plain functions: rows, a column of values for them, a temperature."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from multicl.choices import number
from multicl.ops.unit import unit
from multicl.types import InputError

Similarity = Literal["cosine", "dot"]


def sides(a: Tensor, b: Tensor, similarity: Similarity, as_given: bool = False) -> tuple[Tensor, Tensor]:
    """Apply `vectors` to two sides of equal shape [N, D], and convert both to one dtype."""
    _check_shapes(a, b)
    a, b = vectors(a, similarity, as_given=as_given), vectors(b, similarity, as_given=as_given)
    kind = torch.promote_types(a.dtype, b.dtype)
    return a.to(kind), b.to(kind)


def vectors(
    z: Tensor, similarity: Similarity, name: str = "", beside: Tensor | None = None, *, as_given: bool = False
) -> Tensor:
    """[N, D] in float32 or wider; unit vectors if the similarity is the cosine.

    Args:
        name: for messages. beside: rows [M, D] whose width and device `z` must share. as_given: leave the dtype for dot
            products as it is, because `contrast` handles it.

    Raises:
        InputError: it is something else, such as integers, or float8, which torch cannot sum.
    """
    cosine = is_cosine(similarity)
    width = None if beside is None else beside.shape[1]
    wanted = f"{name}{name and ': '}a float tensor [N, {width or 'D'}] is needed"
    if not isinstance(z, Tensor):
        raise InputError(f"{wanted}, got {type(z).__name__}")
    if z.ndim != 2 or not z.is_floating_point() or z.dtype.itemsize == 1 or width not in (None, z.shape[1]):
        raise InputError(f"{wanted}, got {list(z.shape)} {z.dtype}")
    if beside is not None and beside.device != z.device:
        raise InputError(f"{wanted} on {beside.device}, got one on {z.device}")
    if cosine:
        u: Tensor = unit(z)
        return u
    return z if as_given else z.to(_kind(z))


def is_cosine(similarity: Similarity) -> bool:
    """Whether the similarity is "cosine" rather than "dot"; InputError if it is neither."""
    if similarity not in ("cosine", "dot"):
        raise InputError(f"similarity must be 'cosine' or 'dot', got {similarity!r}")
    return similarity == "cosine"


def column(values: Tensor | Sequence[float], name: str, kind: str, z: Tensor) -> Tensor:
    """[N] a value for each row of z, on its device; from a tensor, an array, a pandas Series or a list.

    Raises:
        InputError: there are not N of them, or they are not numbers.
    """
    try:  # torch itself cannot read a Series whose index does not start at 0, nor an array of negative strides
        plain = isinstance(values, Tensor | list | tuple)
        found = torch.as_tensor(values if plain else np.array(values), device=z.device)
    except (TypeError, ValueError, RuntimeError) as error:
        cells = values if np.iterable(values) else [values]
        given = next((v for v in cells if not isinstance(v, int | float)), values)
        way_out = ": number the names once, for all batches and ranks" if isinstance(given, str) else ""
        raise InputError(f"{name} must be {len(z)} {kind}, one a row, got {given!r} among them{way_out}") from error
    if found.shape != z.shape[:1]:
        raise InputError(f"{name} must be {len(z)} {kind}, one a row, got {list(found.shape)} {found.dtype}")
    return found


def integers(labels: Tensor | Sequence[int], name: str, z: Tensor) -> Tensor:
    """[N] int64 labels of the rows of z.

    Raises:
        InputError: they are not integers below 2**63, or not one a row.
    """
    label = column(labels, name, "integers", z)
    if len(z) and (label.dtype.is_floating_point or label.dtype.is_complex):
        raise InputError(f"{name} must be {len(z)} integers, one a row, got {list(label.shape)} {label.dtype}")
    unsigned, label = label.dtype == torch.uint64, label.long()
    if unsigned and bool((label < 0).any()):
        raise InputError(f"{name} must be below 2**63: as int64 those above would be negative, unlabelled")
    return label


def _check_shapes(a: Tensor, b: Tensor) -> None:
    """Raise InputError unless both are tensors of one shape [N, D], on one device."""
    if any(not isinstance(z, Tensor) for z in (a, b)):
        raise InputError(f"two tensors [N, D] are needed, got {type(a).__name__} and {type(b).__name__}")
    if a.ndim != 2 or a.shape != b.shape:
        raise InputError(f"two [N, D] tensors of one shape are needed, got {list(a.shape)} and {list(b.shape)}")
    if a.device != b.device:
        raise InputError(f"two tensors on one device are needed, got {a.device} and {b.device}: move one with .to()")


def inverse(temperature: float | Tensor, like: Tensor) -> tuple[Tensor, float | None]:
    """(1 / temperature as a tensor [1], the same as a float or None for a tensor, whose value needs a device sync)."""
    value = scalar(temperature, "temperature", like)
    if isinstance(temperature, Tensor):
        return value.reciprocal(), None
    known = 1 / float(temperature)
    if known > torch.finfo(value.dtype).max:
        raise InputError(f"temperature must be above 0, and 1 / temperature finite, got {temperature}")
    return value.fill_(known), known


def scalar(value: float | Tensor, name: str, like: Tensor, any_sign: bool = False) -> Tensor:
    """[1] on the device of `like`, in its dtype but float32 at least.

    Raises:
        InputError: it has more than one element, is not a number, is not finite, or is 0 or below without `any_sign`. A
            tensor's value on a GPU is not checked, because that would synchronise with the device.
    """
    if isinstance(value, Tensor) and value.numel() != 1:
        raise InputError(f"{name} must be one number, got a tensor {list(value.shape)}")
    if not isinstance(value, Tensor) or value.device.type == "cpu":
        known = number(name, value)
        if not (math.isfinite(known) if any_sign else 0 < known < math.inf):
            raise InputError(f"{name} must be {'finite' if any_sign else 'above 0'}, got {known}")
    if isinstance(value, Tensor):
        return value.to(like.device, _kind(like)).reshape(1)
    return torch.full((1,), known, dtype=_kind(like), device=like.device)


def _kind(z: Tensor) -> torch.dtype:
    """The dtype of z, but float32 at least."""
    return torch.promote_types(z.dtype, torch.float32)
