"""Finds adapters by name: in the entry-point group `multicl.modalities`, or in a file given with `--import`."""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from multicl.types import InputError, Modality

GROUP = "multicl.modalities"
_registered: dict[str, type] = {}
C = TypeVar("C", bound=type)


def register(name: str) -> Callable[[C], C]:
    """Class decorator that registers an adapter under a name, for files given with `--import`.

    Raises:
        InputError: another class is registered under the name.
    """

    def keep(cls: C) -> C:
        known = _registered.get(name)
        if known is not None and _place(known) != _place(cls):
            raise InputError(f"two adapters are named {name!r}: {_place(known)} and {_place(cls)}; rename one of them")
        _registered[name] = cls
        return cls

    return keep


def entry_point_names() -> dict[str, EntryPoint]:
    """Name -> entry point of every installed adapter, without loading it.

    Raises:
        InputError: two distributions use one name for different adapters; the message names both.
    """
    found: dict[str, EntryPoint] = {}
    homes = (Path(home) for home in sys.path)  # "" is the folder where one is
    for point in _installed(tuple((home, home.stat().st_mtime_ns) for home in homes if home.exists())):
        other = found.setdefault(point.name, point)
        if other.value != point.value:
            raise InputError(
                f"two adapters are named {point.name!r}: {other.value} of {_distribution(other)} and {point.value} of "
                f"{_distribution(point)}; uninstall one of them"
            )
    return found


@lru_cache(maxsize=1)
def _installed(homes: tuple[tuple[Path, int], ...]) -> Sequence[EntryPoint]:
    """Of every distribution, whose metadata are read again only where a folder of packages has changed.

    A model asks for each of its nodes, more than once, and there may be hundreds of distributions.

    Args:
        homes: each folder of `sys.path`, and when its contents changed.
    """
    return tuple(entry_points(group=GROUP))


def adapter(name: str) -> type[Modality]:
    """The class of the adapter of that name.

    Raises:
        InputError: there is no such adapter, there are two, or it cannot be imported.
    """
    points, cls = entry_point_names(), _registered.get(name)
    if name in points:
        installed = _load(points[name])
        if cls not in (None, installed):
            whose = f"{points[name].value} of {_distribution(points[name])}"
            raise InputError(f"two adapters are named {name!r}: {whose} and {_place(cls)}; rename the latter")
        return installed
    if cls is None:
        raise InputError(
            f"no adapter named {name!r} is installed; there are {sorted({*points, *_registered})}. "
            "Install the package that provides it, or give its file with --import."
        )
    return cls


def adapter_name(modality: Modality) -> str:
    """The name under which `adapter` finds a modality's class.

    Raises:
        InputError: the class is not registered, so a model that uses it could not be loaded.
    """
    cls = type(modality)
    names = [name for name, known in _registered.items() if known is cls]
    package = cls.__module__.partition(".")[0]  # import no other plug-in than the one that it comes from
    points = [(name, p) for name, p in entry_point_names().items() if p.module.partition(".")[0] == package]
    points.sort(key=lambda item: not f"{cls.__module__}.".startswith(f"{item[1].module}."))
    name = next((name for name in names if adapter(name) is cls), None)
    name = name or next((name for name, point in points if _load(point) is cls), None)
    if name is None:
        raise InputError(
            f"{cls.__name__} is not a registered adapter, so a model saved with it could not be loaded: "
            "decorate it with @multicl.register('name') or give its package a 'multicl.modalities' entry point"
        )
    return name


def import_file(path: Path) -> ModuleType:
    """Import a user's Python file, once; like a script, it may import the modules next to it.

    Returns:
        The module; the one already loaded, such as the running program, if `path` is its file.

    Raises:
        InputError: there is no such file, or it is not a Python file.
    """
    if not path.is_file() or path.suffix != ".py":
        raise InputError(f"{path}: {'not a Python file' if path.exists() else 'no such file'}")
    path = path.resolve()
    for module in list(sys.modules.values()):
        if getattr(module, "__file__", None) == str(path):
            return module
    name = _module_name(path)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module_name(path: Path) -> str:
    """The file's stem, or a unique name if the stem would shadow another module."""
    name = path.stem
    if name.isidentifier() and name not in sys.modules:
        known = importlib.util.find_spec(name)
        if known is None or known.origin == str(path):
            return name
    return f"_{hashlib.blake2b(str(path).encode(), digest_size=8).hexdigest()}"


def _load(point: EntryPoint) -> type[Modality]:
    try:
        cls: type[Modality] = point.load()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"adapter {point.name!r} of {_distribution(point)} cannot be imported ({point.value}): {error}"
        ) from error
    return cls


def _distribution(point: EntryPoint) -> str:
    return point.dist.name if point.dist else "an unknown distribution"


def _place(cls: type | None) -> str:
    assert cls is not None
    return f"{cls.__module__}.{cls.__qualname__}"
