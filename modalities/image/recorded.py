"""Work on a GPU that is the same at every step, recorded once and replayed as one launch (CUDA graphs)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

KEPT = 8
"""Recordings, each with memory of its own."""
SEEN = 3
"""The call of a kind at which it is recorded: what comes once or twice is not worth it."""

_calls: OrderedDict[Hashable, int | _Recording] = OrderedDict()


def replayed(function: Callable[..., Tensor], given: tuple[Tensor, ...], *rest: Hashable) -> Tensor:
    """function(*given, *rest).

    Args:
        function: waits for nothing, copies nothing to the device, and depends on nothing else.
        given: tensors on one GPU.

    Returns:
        A tensor of its own.
    """
    key = (function, rest, *((z.shape, z.stride(), z.dtype, z.device) for z in given))
    known = _calls.get(key, 0)
    if isinstance(known, _Recording):
        _calls.move_to_end(key)
        return known(given)
    if known + 1 < SEEN or torch.version.cuda is None:
        _calls[key] = known + 1
        found = function(*given, *rest)
    else:
        _calls[key] = recording = _Recording(function, given, rest)
        found = recording(given)
    while len(_calls) > KEPT:
        _calls.popitem(last=False)
    return found


class _Recording:
    def __init__(self, function: Callable[..., Tensor], given: tuple[Tensor, ...], rest: tuple[Hashable, ...]) -> None:
        device = given[0].device
        with torch.cuda.device(device), torch.inference_mode(False), torch.no_grad():
            self.given = [torch.empty_strided(z.shape, z.stride(), dtype=z.dtype, device=device) for z in given]
            for own, z in zip(self.given, given, strict=True):
                own.copy_(z)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # libraries make room for themselves at first use, which cannot be recorded
                function(*self.given, *rest)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.found = function(*self.given, *rest)

    def __call__(self, given: tuple[Tensor, ...]) -> Tensor:
        for own, z in zip(self.given, given, strict=True):
            own.copy_(z)
        self.graph.replay()
        return self.found.clone()
