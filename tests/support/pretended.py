"""A pretended GPU: tensors that report the device "cuda" but are computed on the CPU, to the same bits.

torch's own FakeTensorMode makes all tensors of a program fake, even those on the CPU, whose values code may read
freely; it does not move modules, and has no backward without a driver. Here a tensor on the "GPU" keeps its values in
another one on the CPU. So code takes its branches for a GPU, results can be compared with those of the CPU, and what a
GPU would refuse or synchronise for shows:

- an operation between a tensor on the GPU and one on the CPU raises RuntimeError, as on a GPU;
- `Gpu.waits` counts synchronisations by the function of this repository that caused them: when values, or the size of a
  result, go to the CPU, and when values come from the CPU without `non_blocking`;
- `Gpu.launches` counts operations, so that work done a row at a time shows.

There are no streams, no Triton (the forms in torch's own operations run), no CUDA graphs, no compilation and none of a
GPU's rounding; autocast follows the CPU's rules. Tensors that C++ makes inside a composite operation stay on the CPU.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.utils._device import _device_constructors

ROOT = Path(__file__).parents[2]
CUDA = torch.device("cuda", 0)
FACTORIES = (
    "arange", "as_tensor", "empty", "empty_like", "empty_strided", "eye", "full", "full_like", "hamming_window",
    "hann_window", "linspace", "ones", "ones_like", "rand", "rand_like", "randint", "randn", "randn_like", "randperm",
    "tensor", "zeros", "zeros_like",
)  # fmt: skip
READS = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "is_nonzero", "linalg_cholesky_ex", "_linalg_eigh",
    "_linalg_svd", "masked_select", "nonzero", "repeat_interleave", "unique_consecutive", "unique_dim",
}  # fmt: skip
"""Operations for which the CPU must wait: only the GPU knows their result, its size, or whether there is one."""
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_"}


_device_constructors()  # makes torch cache its list of functions that make tensors before they are patched


class Gpu:
    """Counts of what the pretended GPU did."""

    def __init__(self) -> None:
        self.waits: Counter[str] = Counter()
        """Function of this repository, "path:name" -> how often it waited."""
        self.launches = 0

    def clear(self) -> None:
        """Reset the counts."""
        self.waits.clear()
        self.launches = 0

    def wait(self) -> None:
        """Count a synchronisation for the innermost function that is not a test's; tests themselves may wait."""
        frame: Any = sys._getframe(1)
        while frame is not None:
            if own := _own(frame.f_code.co_filename):
                self.waits[f"{own}:{frame.f_code.co_qualname}"] += 1
                return
            frame = frame.f_back

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation on at least one tensor of the GPU."""
        operation = _operation(func)
        name = operation.name
        self.launches += 1
        if name == "copy_":
            up, same = isinstance(args[0], OnGpu), isinstance(args[0], OnGpu) == isinstance(args[1], OnGpu)
            if not (same or (up and (args[1].ndim == 0 or (*args, False)[2]))):
                self.wait()
        elif name in INDEXED:
            self._index(*args[1:3], put=name != "index")
        elif any(type(t) is Tensor and t.ndim for t in _leaves((args, *kwargs.values()))):
            raise RuntimeError(f"Expected all tensors to be on the same device, but {func} got one of the CPU")
        if name in READS and not (name == "repeat_interleave" and func._overloadname != "Tensor"):
            self.wait()
        kwargs = {key: torch.device("cpu") if key == "device" else value for key, value in kwargs.items()}
        found = func(*_changed(_held, args), **{key: _changed(_held, value) for key, value in kwargs.items()})
        if operation.changes:
            given = dict(zip(operation.arguments, args, strict=False)) | kwargs
            changed = [given[argument] for argument in operation.changes]
            return changed[0] if len(changed) == 1 else tuple(changed)
        return _changed(lambda t: OnGpu(t) if type(t) is Tensor else t, found)

    def _index(self, places: Any, values: Any = None, put: bool = False) -> None:
        given = [place for place in places if place is not None]
        if any(type(place) is Tensor and place.ndim for place in given):
            self.wait()  # indices are copied
        masks = any(place.dtype in (torch.bool, torch.uint8) for place in given)
        if masks and not (put and values.numel() == 1 and len(given) == 1):  # a fill, which needs no wait
            self.wait()
        if put and type(values) is Tensor and values.ndim:
            raise RuntimeError("Expected all tensors to be on the same device, but values of the CPU were put")


class _Operation(NamedTuple):
    name: str
    arguments: list[str]
    changes: list[str]
    """Arguments that it writes into and gives back: in place, or with `out`."""


@cache
def _operation(func: Any) -> _Operation:
    schema = func._schema
    changes = [a.name for a in schema.arguments if a.alias_info is not None and a.alias_info.is_write]
    gives = any(r.alias_info is not None for r in schema.returns)
    return _Operation(schema.name.removeprefix("aten::"), [a.name for a in schema.arguments], changes if gives else [])


@cache
def _own(file: str) -> str | None:
    """A source file's path in this repository; None: it is of tests, of an environment that lies there, or foreign."""
    path = Path(file).resolve()  # multicl/modalities may be a link to modalities
    own = path.relative_to(ROOT) if path.is_relative_to(ROOT) else Path()
    return own.as_posix() if own.parts[:1] in (("multicl",), ("modalities",)) else None


def _held(t: Any) -> Any:
    return t.held if isinstance(t, OnGpu) else t


def _leaves(x: Any) -> Iterator[Any]:
    """What operations take, out of lists and tuples; torch's own trees know more kinds, and take ten times as long."""
    if isinstance(x, list | tuple):
        for part in x:
            yield from _leaves(part)
    else:
        yield x


def _changed(change: Callable[[Any], Any], x: Any) -> Any:
    """The same lists and tuples of leaves that are changed."""
    return type(x)([_changed(change, part) for part in x]) if isinstance(x, list | tuple) else change(x)


_gpu = Gpu()


class OnGpu(Tensor):
    """A tensor of the pretended GPU. C++ sees a CPU tensor, so that autograd and autocast run."""

    held: Tensor
    device = property(lambda self: CUDA)  # type: ignore[assignment]
    is_cuda = property(lambda self: True)  # type: ignore[assignment]
    is_cpu = property(lambda self: False)  # type: ignore[assignment]
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, held: Tensor) -> OnGpu:
        assert type(held) is Tensor
        made: OnGpu = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype
        )
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _gpu.run(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"OnGpu({self.held!r})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        if id(self) not in memo:
            memo[id(self)] = made = OnGpu(self.held.clone()).requires_grad_(self.requires_grad)
            if isinstance(self, nn.Parameter):
                made._is_param = True
        return memo[id(self)]

    def data_ptr(self) -> int:
        return self.held.data_ptr()

    def get_device(self) -> int:
        return 0

    def tolist(self) -> Any:
        _gpu.wait()
        return self.held.tolist()

    def numpy(self, **options: Any) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu() first")

    def pin_memory(self, device: Any = None) -> Tensor:
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned")

    def cpu(self, *args: Any, **options: Any) -> Tensor:
        return _to(self, "cpu")

    def to(self, *args: Any, **options: Any) -> Tensor:
        return _to(self, *args, **options)

    def new_tensor(self, data: Any, **options: Any) -> Tensor:
        _gpu.wait()
        return OnGpu(self.held.new_tensor(data, **options))


class _Carry(torch.autograd.Function):
    """Copies between CPU and GPU; gradients are copied back."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Tensor:
        ctx.down = isinstance(x, OnGpu)
        return x.held.clone() if ctx.down else OnGpu(x.detach().clone())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Tensor:
        return OnGpu(grads[0]) if ctx.down else grads[0].held


_PLAIN_TO = Tensor.to


def _to(x: Tensor, *args: Any, **options: Any) -> Tensor:
    """`Tensor.to` in all of its forms."""
    where, rest = options.pop("device", None), list(args)
    if rest and isinstance(rest[0], Tensor):
        where, rest = rest[0].device, [rest[0].dtype, *rest[1:]]
    elif rest and (rest[0] is None or isinstance(rest[0], str | int | torch.device)):
        where, rest = rest[0], rest[1:]
    unwaited = options.pop("non_blocking", False) or (len(rest) > 1 and rest[1])
    here = isinstance(x, OnGpu)
    if where is not None and _is_cuda(where) != here:
        if here or not unwaited:
            _gpu.wait()
        x = _Carry.apply(x)  # type: ignore[no-untyped-call]
    return _PLAIN_TO(x, *rest[:1], **options) if rest[:1] or options else x


def _is_cuda(device: Any) -> bool:
    return isinstance(device, int) or torch.device(device).type == "cuda"


def _making(plain: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A function of torch that makes tensors, extended to make them on the GPU."""
    name = plain.__name__

    def make(*args: Any, **options: Any) -> Tensor:
        where = options.get("device")
        if where is None or not _is_cuda(where):
            return plain(*args, **options)
        if name in ("tensor", "as_tensor"):
            if isinstance(args[0], Tensor):
                return _to(args[0], where, **{key: value for key, value in options.items() if key == "dtype"})
            _gpu.wait()
        if name.endswith("_like") and isinstance(args[0], OnGpu):
            return plain(*args, **{**options, "device": None})
        wants = options.pop("requires_grad", False)
        return OnGpu(plain(*args, **{**options, "device": "cpu"})).requires_grad_(wants)

    return make


class _Autocast(torch.autocast):
    def __init__(self, device_type: str, *args: Any, **options: Any) -> None:
        super().__init__("cpu" if device_type == "cuda" else device_type, *args, **options)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gpu]:
    """Makes "cuda" this pretended GPU for one test."""
    _gpu.clear()
    for name in FACTORIES:
        monkeypatch.setattr(torch, name, _making(getattr(torch, name)))
    monkeypatch.setattr(Tensor, "to", _to)
    monkeypatch.setattr(Tensor, "cuda", lambda self, **options: _to(self, CUDA, **options))
    one_hot, enabled = nn.functional.one_hot, torch.is_autocast_enabled
    monkeypatch.setattr(
        nn.functional, "one_hot", lambda x, n: OnGpu(one_hot(x.held, n)) if isinstance(x, OnGpu) else one_hot(x, n)
    )  # it makes CPU tensors inside
    pad = nn.utils.rnn.pad_sequence
    monkeypatch.setattr(
        nn.utils.rnn,
        "pad_sequence",
        lambda parts, **how: (
            OnGpu(pad([p.held for p in parts], **how)) if isinstance(parts[0], OnGpu) else pad(parts, **how)
        ),
    )  # it is a composite operation
    monkeypatch.setattr(torch, "autocast", _Autocast)
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda kind="cpu": enabled("cpu" if kind == "cuda" else kind))
    monkeypatch.setenv("MULTICL_TRITON", "0")
    monkeypatch.setattr(torch.version, "cuda", None)  # no CUDA graphs
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device=None: (1 << 33, 1 << 34))  # bytes free, and in total
    before = torch.__future__.get_overwrite_module_params_on_conversion()
    torch.__future__.set_overwrite_module_params_on_conversion(True)  # `.data` cannot take a tensor of another type
    yield _gpu
    torch.__future__.set_overwrite_module_params_on_conversion(before)


def same(found: Tensor, wanted: Tensor, close: float = 0.0) -> None:
    """Assert that a tensor is on the GPU and has the other's type, shape and values, to `close` of their maximum."""
    assert isinstance(found, OnGpu)
    assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
    most = float(wanted.detach().abs().max()) if wanted.numel() and wanted.is_floating_point() else 1.0
    torch.testing.assert_close(found.detach().held, wanted.detach(), atol=close * most, rtol=0)
