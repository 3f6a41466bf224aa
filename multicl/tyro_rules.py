"""How settings become flags, where tyro's own rules will not do."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any, get_args, get_origin


def rules() -> Any:
    """tyro's registry of rules, with two more.

    Dictionaries: `--columns NAME VALUE NAME VALUE` replaces them, whatever they held. tyro itself makes a flag of each
    key of a default that is not empty, and then takes no other keys.

    Help: the lines of a field's docstring are one paragraph. tyro ends a line wherever the source does.
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
                raise ValueError(f"names and values in turn are needed, got {words}")
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
        if asking or not dataclasses.is_dataclass(info.type):
            return None
        asking = True  # what follows asks this rule, too
        try:
            spec: Any = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        fields = (dataclasses.replace(field, helptext=_flowing(field.helptext)) for field in spec.fields)
        return dataclasses.replace(spec, fields=tuple(fields))

    return registry


def _flowing(help_text: str | Callable[[], str | None] | None) -> Callable[[], str | None]:
    """The text when it is asked for, in paragraphs: docstrings are read for --help alone."""

    def text() -> str | None:
        found = help_text() if callable(help_text) else help_text
        return found and "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", found))

    return text
