"""Counter-based random draws: a pure function of (row seed, stream, index), the same on every device.

Every row draws from its own splitmix64 sequence (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", OOPSLA 2014), so a row's draws do not depend on the rows beside it, on how rows are grouped into
batches, or on how many draws are asked for: the first k of n draws are the k draws.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

_GAMMA = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio, as int64: the step of the sequence
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)
_STREAM = 0xD1342543DE82EF95 - (1 << 64)  # odd, unrelated to _GAMMA: keeps streams off each other's counters
_BLOCK = 1024
"""Words per block of `noise`: their first numbers are stored together, followed by their second numbers."""


def uniform(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draws n uniform numbers for each row.

    Args:
        seeds: [B] int64, one seed a row.
        n: draws for each row.
        stream: separates uses of the same seeds; draws of two streams are independent.

    Returns:
        [B, n] float32 in [0, 1), multiples of 2^-24, on the device of `seeds`.
    """
    return _to_unit(_bits(seeds, n, stream))


def uniforms(seeds: Tensor, n: int, streams: int) -> Tensor:
    """The draws of `uniform` from streams 0 to `streams` - 1, made together: fewer kernel launches on a GPU.

    Returns:
        [streams, B, n] float32 in [0, 1).
    """
    offsets = torch.arange(streams, device=seeds.device).mul_(_STREAM)
    return _to_unit(_words(seeds, n, offsets[:, None]))


def normal(seeds: Tensor, shape: tuple[int, ...], stream: int = 0) -> Tensor:
    """Draws standard normal numbers for each row (Box and Muller, 1958), at most 6.67 in magnitude.

    Args:
        seeds: [B] int64, one seed a row.
        shape: shape of one row's draws, filled in row-major order.
        stream: separates uses of the same seeds.

    Returns:
        [B, *shape] float32 on the device of `seeds`. Computed in float64: logarithm and cosine differ in the last
        bit between devices, but after rounding all but about one draw in 10^8 agree.
    """
    n = math.prod(shape)
    bits = _bits(seeds, (n + 1) // 2, stream)  # one 64-bit word makes a pair
    radius = _logical_shift(bits, 32).to(torch.float64).add_(1.0).mul_(2.0**-32)  # (0, 1]: the log is finite
    radius = radius.log_().mul_(-2.0).sqrt_()
    angle = (bits & 0xFFFFFFFF).to(torch.float64).mul_(2.0 * math.pi * 2.0**-32)
    pairs = torch.stack((angle.cos().mul_(radius), angle.sin().mul_(radius)), dim=-1)
    return pairs.flatten(1)[:, :n].to(torch.float32).reshape(len(seeds), *shape)


def noise(seeds: Tensor, n: int, stream: int = 0) -> Tensor:
    """Draws standard normal numbers several times as fast as `normal`: it computes in float32, and stores the two
    numbers of a word a block apart, so that nothing is interleaved.

    Devices, and batches of different sizes, agree up to rounding: about 1e-6 of a draw, 2e-4 of one near zero.

    Returns:
        [B, n] float32 on the device of `seeds`.
    """
    blocks = -(-n // (2 * _BLOCK))
    bits = _bits(seeds, blocks * _BLOCK, stream).unflatten(1, (blocks, _BLOCK))
    radius = _logical_shift(bits, 32).to(torch.float32).add_(1.0).mul_(2.0**-32).log_().mul_(-2.0).sqrt_()
    angle = bits.bitwise_and_(0xFFFFFFFF).to(torch.float32).mul_(2.0 * math.pi * 2.0**-32)
    return torch.cat((angle.cos().mul_(radius), angle.sin_().mul_(radius)), 2).flatten(1)[:, :n]


def _bits(seeds: Tensor, n: int, stream: int) -> Tensor:
    """64 random bits for every row and counter, [B, n] int64."""
    return _words(seeds, n, (stream * _STREAM + (1 << 63)) % (1 << 64) - (1 << 63))  # wraps like int64


def _words(seeds: Tensor, n: int, offset: int | Tensor) -> Tensor:
    """[B, n] words of random bits from the stream at an offset; [S, B, n] for offsets [S, 1]."""
    if seeds.dtype != torch.int64 or seeds.ndim != 1:
        raise TypeError(f"seeds must be [B] int64, not {list(seeds.shape)} {seeds.dtype}")
    state = _mix(_mix(seeds + _GAMMA) ^ offset)
    counter = torch.arange(1, n + 1, device=seeds.device).mul_(_GAMMA)
    return _mix(state[..., None] + counter)


def _to_unit(bits: Tensor) -> Tensor:
    return _logical_shift(bits, 40).to(torch.float32).mul_(2.0**-24)


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser, in place: the callers pass a tensor that they have just created."""
    spare = torch.empty_like(x)
    x = x.bitwise_xor_(_logical_shift(x, 30, spare)).mul_(_MIX_1)
    x = x.bitwise_xor_(_logical_shift(x, 27, spare)).mul_(_MIX_2)
    return x.bitwise_xor_(_logical_shift(x, 31, spare))


def _logical_shift(x: Tensor, by: int, out: Tensor | None = None) -> Tensor:
    """Shifts right, filling with zeros: torch's shift of int64 fills with the sign."""
    return torch.bitwise_right_shift(x, by, out=out).bitwise_and_((1 << (64 - by)) - 1)
