"""Settings as they are declared: a word that is misspelt, or a string for a number, is refused where it is given."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from multicl.types import InputError

KINDS: dict[Any, tuple[str, type]] = {
    bool: ("True or False", bool), int: ("a whole number", Integral), float: ("a number", Real),
}  # fmt: skip
"""What a field is declared as -> in words, and the class of what it may be: NumPy's numbers are numbers, too."""
SEVERAL: dict[Any, Any] = {tuple: tuple | list, dict: Mapping}
"""The same of fields that hold several values. A string is none of these, though its letters could be walked over."""


def check_settings(settings: Any, owner: str | None = None) -> None:
    """Look at every field of a dataclass that is declared as a Literal, a bool, a number, a tuple or a dict.

    Also at those that may be one of several of these, and at the numbers within tuples and dicts.

    Args:
        owner: what stands before the field's name in the message; default: the class.

    Raises:
        InputError: a field has another value; it names the field and what it may be.
    """
    for field, parts in _declared(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, field)
        if not any(part.fits(value) for part in parts):
            may_be = " or ".join(part.words for part in parts)
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


def number(name: str, value: Any) -> float:
    """An argument that is a number of any library's, or a tensor of one, as a float.

    Raises:
        InputError: it is none; strings and bools are none, though Python would read them as such.
    """
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} must be a number, got {value!r}") from error


class _Part(NamedTuple):
    """One of the things that a field may be."""

    words: str
    kind: Any
    among: tuple[Any, ...] = ()
    """Of that kind, these alone."""
    within: tuple[_Part, ...] = ()
    """Of what holds several values: what each may be; (): not for us to say."""

    def fits(self, value: Any) -> bool:
        is_kind = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not is_kind or (self.among and value not in self.among):
            return False
        each = (value.values() if isinstance(value, Mapping) else value) if self.within else ()
        return all(any(part.fits(item) for part in self.within) for item in each)


@functools.cache
def _declared(kind: type) -> dict[str, tuple[_Part, ...]]:
    """The fields of a class and of those above it."""
    found: dict[str, tuple[_Part, ...]] = {}
    for base in reversed(kind.__mro__):
        try:
            hints = inspect.get_annotations(base, eval_str=True)
        except NameError:  # a user's class, annotated with what is imported for type checkers alone
            continue
        found |= {field: parts for field, hint in hints.items() if (parts := _parts(hint))}
    return found


def _parts(hint: Any) -> tuple[_Part, ...]:
    """What a type lets a field be; () where that is not for us to say."""
    if hint in (None, NoneType):
        return (_Part("None", NoneType),)
    if hint in KINDS:
        return (_Part(*KINDS[hint]),)
    origin, args = get_origin(hint), get_args(hint)
    if origin in SEVERAL:
        item = args[1] if origin is dict else args[0] if args[-1:] == (...,) else Any
        return (_Part(f"a {hint}", SEVERAL[origin], within=_parts(item)),)
    if origin is Literal:
        return tuple(_Part(repr(word), type(word), (word,)) for word in args)
    if origin in (Union, UnionType):
        parts = [_parts(part) for part in args]
        return sum(parts, ()) if all(parts) else ()
    return ()
