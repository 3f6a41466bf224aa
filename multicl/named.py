"""Settings given by name, such as those of a paper: `--image.strong simclr` stands for all of their values.

A settings class lists them in its class attribute `named`: name -> settings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_type_hints

from multicl.types import InputError


def named(cls: type, name: str, where: str) -> Any:
    """The settings of that name in a class's `named`.

    Raises:
        InputError: the class has no settings of that name, or no `named`.
    """
    known: Mapping[str, Any] = getattr(cls, "named", {})
    if name not in known:
        wanted = f"one of {', '.join(known)}, or settings as keys and values" if known else "keys and values"
        raise InputError(f"{where}: expected {wanted}, got {name!r}")
    return known[name]


def narrowed(hint: Any, field: dataclasses.Field[Any]) -> Any:
    """The class of a field's default if that is a subclass of the annotation, else the annotation; as in tyro."""
    if not dataclasses.is_dataclass(hint):
        return hint
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    return type(default) if isinstance(default, hint) else hint  # type: ignore[arg-type]


def spelt_out(cls: type, words: Sequence[str]) -> list[str]:
    """Expand `--image.strong simclr` into a flag for each of its values; later flags can override them."""
    found: list[str] = []
    rest = list(words)
    while rest:
        flag, equals, value = rest.pop(0).partition("=")
        group = _class_at(cls, flag)
        if group is None or not (equals or (rest and not rest[0].startswith("--"))):
            found.append(flag + equals + value)
            continue
        settings = named(group, value if equals else rest.pop(0), flag.removeprefix("--"))
        for field in dataclasses.fields(settings):
            given = getattr(settings, field.name)
            values = given if isinstance(given, tuple) else (given,)
            found += [f"{flag}.{field.name.replace('_', '-')}", *map(str, values)]
    return found


def _class_at(cls: type, flag: str) -> type | None:
    """The class with `named` settings that a flag sets, such as Augment for --image.strong; None for other flags."""
    if not flag.startswith("--"):
        return None
    found: Any = cls
    for key in flag.removeprefix("--").replace("-", "_").split("."):
        fields = {f.name: f for f in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else {}
        if key not in fields:
            return None
        found = narrowed(get_type_hints(found)[key], fields[key])
    return found if hasattr(found, "named") else None
