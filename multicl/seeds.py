"""Seeds of all random draws of a run: pure functions of what a draw is for, so that there is no state to save.

Views draw from (run seed, epoch, source, kind, draw, data-set row), so they depend neither on the number of workers nor
on the number of ranks. Dropout draws from (run seed, step, rank, view), so a resumed run continues as if uninterrupted.
"""

from __future__ import annotations

import functools
import hashlib
import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ODD = 0x9E3779B97F4A7C15 - (1 << 64)  # 2^64 / golden ratio as signed int64; odd, so distinct rows stay distinct


def hash62(*what: Any) -> int:
    """A 62-bit hash (blake2b) of the strings of `what`, the same in every process and on every machine."""
    digest = hashlib.blake2b("\0".join(map(str, what)).encode("utf-8", "surrogatepass"), digest_size=8)
    return int.from_bytes(digest.digest(), "little") >> 2


def hashes62(what: str, numbers: Iterable[int]) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[N] int64 `hash62(what, number)` of each number, in half the time: a table may have millions of rows."""
    start = what.encode() + b"\0%d"
    digests = b"".join(hashlib.blake2b(start % number, digest_size=8).digest() for number in numbers)
    return (np.frombuffer(digests, dtype="<u8") >> np.uint64(2)).astype(np.int64)


def row_seeds(row: Tensor, *what: Any) -> Tensor:
    """[B] int64 rows -> [B] int64 seeds for the draw that `what` names."""
    return row * _ODD + hash62("view", *what)


def seed_everything(*what: Any) -> None:
    """Seed Python, numpy (from which Hugging Face's audio masks draw) and torch, including its accelerator.

    `torch.manual_seed` is avoided because it records a stack trace for every absent kind of device, at each call.
    """
    seed = hash62("global", *what)
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.default_generator.manual_seed(seed)
    if (device := _accelerator()) is not None:
        getattr(device, "manual_seed_all", device.manual_seed)(seed)


@functools.cache
def _accelerator() -> Any:
    """The module of the accelerator, such as torch.cuda; None if there is none."""
    kind = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return None if kind is None else torch.get_device_module(kind)


class Draws(random.Random):
    """A random.Random for one (row, epoch) that records whether anything was drawn.

    A sample for which nothing was drawn is the same in every epoch, and can be cached.
    """

    def __init__(self, *what: Any) -> None:
        self.used = False
        super().__init__(hash62("load", *what))

    def random(self) -> float:
        """As in `random.Random`; recorded."""
        self.used = True
        return super().random()

    def getrandbits(self, k: int, /) -> int:
        """As in `random.Random`; recorded."""
        self.used = True
        return super().getrandbits(k)


def epoch_order(seed: int, epoch: int, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """[rows] int64: the order in which an epoch visits the rows."""
    return np.random.default_rng([seed, epoch]).permutation(rows)
