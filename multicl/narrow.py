"""Modules whose parameters a user converted to 16 bits: they can embed, and can be frozen, but cannot be trained.

Modules of float64 parameters that cannot take float32 inputs get a clear error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from multicl.types import InputError

NARROW = (torch.bfloat16, torch.float16)


@contextmanager
def as_wide_as(module: nn.Module) -> Iterator[bool]:
    """Within it, a module of 16-bit parameters accepts wider inputs, through autocast. Yields whether that was needed.

    If autocast is already enabled, as by a run's mixed precision, it is left as it is.

    Raises:
        InputError: a module of float64 parameters does not accept narrower inputs.
    """
    p = next((p for p in module.parameters() if p.is_floating_point()), None)
    if p is None or p.dtype not in NARROW or torch.is_autocast_enabled(p.device.type):
        try:
            yield False
        except RuntimeError as error:
            if p is None or p.dtype != torch.float64 or isinstance(error, torch.OutOfMemoryError):
                raise
            raise InputError(
                f"a {type(module).__name__} with float64 parameters cannot take float32 input: call .float() on it "
                f"({error})"
            ) from error
        return
    with torch.autocast(p.device.type, dtype=p.dtype):
        yield True


def refuse_narrow(module: nn.Module) -> None:
    """Refuse to train 16-bit parameters: updates below half a weight's last bit, like AdamW's at 1e-5, are lost.

    Raises:
        InputError: a trained parameter has 16 bits; the message names the first.
    """
    for name, p in module.named_parameters():
        if p.requires_grad and p.dtype in NARROW:
            raise InputError(
                f"{name} is {str(p.dtype).removeprefix('torch.')}, in which small updates are lost: call .float() on "
                "its module, and train with --train.mixed-precision bf16; or freeze it (requires_grad_(False))"
            )
