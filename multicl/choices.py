"""Checks settings against their annotations: a misspelt word, or a string for a number, is refused at once."""

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
"""Annotation -> (its description, the class that values must have). NumPy's numbers count as numbers."""
SEVERAL: dict[Any, Any] = {tuple: tuple | list, dict: Mapping}
"""Annotation of a container -> the classes that values may have. A string is not a container of its letters."""


def check_settings(settings: Any, owner: str | None = None) -> None:
    """Check every field of a dataclass that is annotated as a Literal, a bool, a number, a tuple or a dict.

    Unions of these are checked too, and so are the items of tuples and the values of dicts.

    Args:
        owner: prefix of the field's name in messages; default: the class.

    Raises:
        InputError: a field has an invalid value; the message names the field and what it may be.
    """
    for field, parts in _declared(type(settings)).items():  # type: ignore[arg-type]
        value = getattr(settings, field)
        if not any(part.fits(value) for part in parts):
            may_be = " or ".join(part.words for part in parts)
            owner = f"{type(settings).__name__}: " if owner is None else owner
            raise InputError(f"{owner}{field} must be {may_be}, got {value!r}")


def check_kinds(**given: tuple[Any, type]) -> None:
    """Check arguments that must be None or an instance of a settings class: name=(value, class).

    Raises:
        InputError: one is something else.
    """
    for name, (value, kind) in given.items():
        if value is not None and not isinstance(value, kind):
            raise InputError(f"{name} must be {kind.__name__}(...), got {value!r}")


def number(name: str, value: Any) -> float:
    """Convert an argument to float: a number of any library, or a tensor of one element.

    Raises:
        InputError: it is not a number. Strings and bools are refused, although float() would accept them.
    """
    try:
        if isinstance(value, str | bytes | bool):
            raise TypeError
        return float(value.detach() if hasattr(value, "detach") else value)
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise InputError(f"{name} must be a number, got {value!r}") from error


class _Part(NamedTuple):
    """One alternative of a field's annotation."""

    words: str
    kind: Any
    among: tuple[Any, ...] = ()
    """The allowed values; (): any of `kind`."""
    within: tuple[_Part, ...] = ()
    """For containers, the alternatives of each item; (): items are not checked."""

    def fits(self, value: Any) -> bool:
        is_kind = isinstance(value, self.kind) and (self.kind is bool or not isinstance(value, bool))
        if not is_kind or (self.among and value not in self.among):
            return False
        each = (value.values() if isinstance(value, Mapping) else value) if self.within else ()
        return all(any(part.fits(item) for part in self.within) for item in each)


@functools.cache
def _declared(kind: type) -> dict[str, tuple[_Part, ...]]:
    """Field -> its alternatives, for a class and its bases."""
    found: dict[str, tuple[_Part, ...]] = {}
    for base in reversed(kind.__mro__):
        try:
            hints = inspect.get_annotations(base, eval_str=True)
        except NameError:  # a user's class whose annotations are imported only under TYPE_CHECKING
            continue
        found |= {field: parts for field, hint in hints.items() if (parts := _parts(hint))}
    return found


def _parts(hint: Any) -> tuple[_Part, ...]:
    """The alternatives of a type hint; () if it is not checked."""
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
