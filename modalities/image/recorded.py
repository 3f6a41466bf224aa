"""GPU work that is the same at every step, recorded once as a CUDA graph and replayed with one launch."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

import torch
from torch import Tensor

KEPT = 8
"""Maximum number of recordings, each with memory of its own."""
SEEN = 3
"""Which call with the same shapes and settings is recorded: a recording does not pay for one or two calls."""

_calls: OrderedDict[Hashable, int | _Recording] = OrderedDict()


def replayed(function: Callable[..., Tensor], given: tuple[Tensor | None, ...], *rest: Hashable) -> Tensor:
    """function(*given, *rest), recorded once and then replayed.

    Args:
        function: never synchronises with the GPU, copies nothing to it, and depends on its arguments alone.
        given: tensors on one GPU, or None; the first is a tensor.

    Returns:
        A new tensor.
    """
    key = (function, rest, *(z if z is None else (z.shape, z.stride(), z.dtype, z.device) for z in given))
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
    def __init__(
        self, function: Callable[..., Tensor], given: tuple[Tensor | None, ...], rest: tuple[Hashable, ...]
    ) -> None:
        assert given[0] is not None
        with torch.cuda.device(given[0].device), torch.inference_mode(False), torch.no_grad():
            self.given = [None if z is None else _like(z) for z in given]
            self._take(given)
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):  # libraries allocate at first use, which cannot be recorded
                function(*self.given, *rest)
            torch.cuda.current_stream().wait_stream(stream)
            self.graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
                self.found = function(*self.given, *rest)

    def __call__(self, given: tuple[Tensor | None, ...]) -> Tensor:
        self._take(given)
        self.graph.replay()
        return self.found.clone()

    def _take(self, given: tuple[Tensor | None, ...]) -> None:
        for own, z in zip(self.given, given, strict=True):
            if own is not None and z is not None:
                own.copy_(z)


def _like(z: Tensor) -> Tensor:
    return torch.empty_strided(z.shape, z.stride(), dtype=z.dtype, device=z.device)
