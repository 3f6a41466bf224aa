"""How settings become flags, where tyro's own rules do not suffice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, get_args, get_origin
from weakref import WeakKeyDictionary


def rules() -> Any:
    """tyro's registry of rules, with two additions.

    Dictionaries: `--columns NAME VALUE NAME VALUE` replaces the whole default. tyro itself makes a flag for each key of
    a non-empty default, and then accepts no other keys.

    Help: the lines of a field's docstring are joined into paragraphs. tyro breaks lines where the source does.
    """
    from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec

    registry = ConstructorRegistry()

    @registry.primitive_rule
    def mapping(info: Any) -> Any:
        if get_origin(info.type) is not dict:
            return None
        key, value = get_args(info.type)

        def from_words(words: list[str]) -> dict[Any, Any]:
            if len(words) % 2:
                raise ValueError(f"expected names and values in turn, got {words}")
            return {key(k): value(v) for k, v in zip(words[::2], words[1::2], strict=True)}

        return PrimitiveConstructorSpec(
            nargs="*",
            metavar=f"[{key.__name__.upper()} {value.__name__.upper()} ...]",
            instance_from_str=from_words,
            is_instance=lambda x: isinstance(x, dict),
            str_from_instance=lambda x: [str(part) for pair in x.items() for part in pair],
        )

    asking = False

    @registry.struct_rule
    def settings(info: Any) -> Any:
        nonlocal asking
        kind: type = info.type
        if asking or not dataclasses.is_dataclass(kind):
            return None
        asking = True  # the call below would come back to this rule
        try:
            spec: Any = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        known = _TEXTS.setdefault(kind, {})
        fields = (
            dataclasses.replace(field, helptext=_flowing(field.helptext, known, field.name)) for field in spec.fields
        )
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


_TEXTS: WeakKeyDictionary[type, dict[str, str | None]] = WeakKeyDictionary()
"""Class -> field -> its help text. tyro would read the class's source for each command line, even without --help."""


def _flowing(
    help_text: str | Callable[[], str | None] | None, known: dict[str, str | None], name: str
) -> Callable[[], str | None]:
    """A function that returns the help text, joined into paragraphs; the source is read once."""

    def text() -> str | None:
        if name not in known:
            found = help_text() if callable(help_text) else help_text
            known[name] = found and "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", found))
        return known[name]

    return text
