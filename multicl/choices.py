"""Settings of a few words: one that is misspelt is refused, and not taken for another."""

from __future__ import annotations

import functools
import inspect
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from multicl.types import InputError


def check_choices(settings: Any, owner: str | None = None) -> None:
    """Look at every field of a dataclass that is declared as a Literal, or as one or None.

    Args:
        owner: what stands before the field's name in the message; default: the class.

    Raises:
        InputError: a field has another value; it names the field and what it may be.
    """
    for field, words in _choices(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, field)
        if value not in words:
            may_be = " or ".join(repr(word) for word in words)
            owner = f"{type(settings).__name__}: " if owner is None else owner
            raise InputError(f"{owner}{field} must be {may_be}, got {value!r}")


def check_kinds(**given: tuple[Any, type]) -> None:
    """Look at arguments that are settings of a class, or None: name=(what was given, the class).

    Raises:
        InputError: one is something else.
    """
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name} must be {kind.__name__}(...), got {value!r}")


@functools.cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    """The fields of a class and of those above it."""
    found: dict[str, tuple[Any, ...]] = {}
    for base in reversed(kind.__mro__):
        try:
            hints = inspect.get_annotations(base, eval_str=True)
        except NameError:  # a user's class, annotated with what is imported for type checkers alone
            continue
        found |= {field: words for field, hint in hints.items() if (words := _words(hint))}
    return found


def _words(hint: Any) -> tuple[Any, ...]:
    """What a Literal may be; () of any other type."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    if get_origin(hint) in (Union, UnionType):
        parts = [(None,) if part is NoneType else _words(part) for part in get_args(hint)]
        return sum(parts, ()) if all(parts) else ()
    return ()
