"""Typed settings <-> command line <-> recipe.yaml <-> a model's JSON, with errors that name the key."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
import types
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from multicl.files import write_whole
from multicl.named import named, narrowed, spelt_out
from multicl.signals import readers_may_leave
from multicl.synonyms import hints as of_others
from multicl.types import InputError
from multicl.tyro_rules import rules

T = TypeVar("T")

CONFIG = "--config FILE.yaml: settings of an earlier run (its recipe.yaml); flags override them"


def to_plain(value: Any) -> Any:
    """Convert dataclasses, tuples and paths to dicts, lists and strings that JSON and YAML can hold.

    Anything else (a user's own module) becomes {"object": "package.Class"}: recorded, but it cannot be rebuilt.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_plain(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
    if isinstance(value, Mapping):
        return {str(k): to_plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, bool):
        return value
    for kind in (int, float, str):
        if isinstance(value, kind):
            return kind(value)  # numpy's float64 is a float subclass that YAML cannot represent
    return {"object": f"{type(value).__module__}.{type(value).__qualname__}"}


def from_plain(cls: type[T], plain: Any, where: str = "") -> T:
    """Build a dataclass from plain values; missing keys keep their defaults.

    If a field's default is an instance of a subclass of its annotation, the values are read as that subclass, as on
    the command line.

    Args:
        where: the dotted key of `plain`, for messages.

    Raises:
        InputError: an unknown key (with the nearest name), a value of the wrong type, or an object that was only
            recorded; named by its full key.
    """
    if not isinstance(plain, Mapping):
        raise InputError(f"{where or cls.__name__}: expected keys and values, got {plain!r}")
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls) if f.init}  # type: ignore[arg-type]
    values: dict[str, Any] = {}
    for key, value in plain.items():
        if key not in fields:
            near = get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {_join(where, near[0])!r}?" if near else f"there are {list(fields)}"
            raise InputError(f"unknown key {_join(where, key)!r}; {hint}")
        values[key] = _convert(narrowed(hints[key], fields[key]), value, _join(where, key))
    needed = [n for n, f in fields.items() if f.default is f.default_factory is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"missing key {_join(where, missing[0])!r}")
    return cls(**values)


def _join(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """Convert a plain value to the type of the annotation."""
    origin, args = get_origin(hint) or hint, get_args(hint)
    if isinstance(value, Mapping) and set(value) == {"object"} and origin not in (dict, Mapping):
        raise InputError(
            f"{where}: {value['object']} is a Python object, which settings cannot create: give it in Python"
        )
    if origin in (Union, types.UnionType):
        return _convert_union(args, value, where)
    if origin is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in args):
            raise InputError(f"{where}: {value!r} is not one of {list(args)}")
        return value
    if dataclasses.is_dataclass(hint):
        assert isinstance(hint, type)
        return named(hint, value, where) if isinstance(value, str) else from_plain(hint, value, where)
    if origin in (tuple, list, Sequence):
        if not isinstance(value, list | tuple):
            raise InputError(f"{where}: expected a list, got {value!r}")
        fixed = origin is tuple and args and args[-1] is not ...
        kinds = list(args) if fixed else [args[0] if args else Any] * len(value)
        if len(kinds) != len(value):
            raise InputError(f"{where}: expected {len(kinds)} values, got {value!r}")
        items = (_convert(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
        return list(items) if origin is list else tuple(items)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise InputError(f"{where}: expected keys and values, got {value!r}")
        key_hint, value_hint = args or (Any, Any)
        return {_convert(key_hint, k, where): _convert(value_hint, v, _join(where, k)) for k, v in value.items()}
    return _convert_leaf(hint, value, where)


def _convert_union(options: tuple[Any, ...], value: Any, where: str) -> Any:
    errors = []
    for option in options:
        try:
            return _convert(option, value, where)
        except InputError as error:
            if option is not type(None):
                errors.append(error)
    raise errors[0]


def _convert_leaf(hint: Any, value: Any, where: str) -> Any:
    if hint is Any or isinstance(hint, TypeVar):
        return tuple(value) if isinstance(value, list) else value  # settings must be hashable
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, int | str) and not isinstance(value, bool):
        try:
            return float(value)  # YAML reads 1e-4 as a string
        except ValueError:
            raise InputError(f"{where}: expected a number, got {value!r}") from None
    fits = type(value) is hint if hint in (int, float, str, bool) else isinstance(value, hint)
    if not fits:
        raise InputError(f"{where}: expected {'a number' if hint is float else hint.__name__}, got {value!r}")
    return value


def write_yaml(path: Path, value: Any, header: str = "") -> None:
    """Write settings as YAML, keys in their order, below `header` as comments."""
    import yaml

    body = yaml.safe_dump(to_plain(value), sort_keys=False, allow_unicode=True)
    write_whole(path, "".join(f"# {line}\n" for line in header.splitlines()) + body)


def read_yaml(path: Path) -> dict[str, Any]:
    """A YAML file's keys and values.

    Raises:
        InputError: the file cannot be read, or does not hold a mapping.
    """
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected keys and values")
    return value


def parse_arguments(
    cls: type[T],
    argv: Sequence[str],
    *,
    header: str = "",
    skip: Sequence[str] = (),
    quiet: bool = False,
    program: str | None = None,
) -> T:
    """Build a dataclass from a command line; `--config FILE.yaml` gives the defaults.

    Args:
        header: printed above --help, line for line. skip: keys of the file that are not settings.
        quiet: print nothing (all processes of a run but the first).
        program: the command as help and errors show it; default: how Python was started.

    Raises:
        InputError: the file has an unknown key, or a settings class refuses a value.
        SystemExit: after --help, or after a wrong flag, for which similar flags are printed.
    """
    import tyro

    words, file = _take_config(argv)
    words = spelt_out(cls, list(map(_dashed, words)))
    kwargs: dict[str, Any] = {}
    if file is not None:
        kwargs["default"] = from_plain(cls, {k: v for k, v in read_yaml(file).items() if k not in skip})
    helps = {"-h", "--help"} & set(words) and not quiet
    errors = io.StringIO()
    try:
        with readers_may_leave(lambda within: True), contextlib.redirect_stderr(errors):  # `--help | head` is fine
            if helps:  # printed here because tyro would join the lines of its examples
                print(f"{header}\n\n{CONFIG}\n")
            settings: T = tyro.cli(
                cls,
                prog=program,
                args=words,
                description="",
                config=(tyro.conf.AvoidSubcommands,),
                console_outputs=not quiet,
                registry=rules(),
                **kwargs,
            )
    except SystemExit as stop:
        cause: BaseException | None = stop
        while cause is not None:
            if isinstance(cause, InputError):  # its message is enough without tyro's box around it
                raise cause from None
            cause = cause.__context__
        lines = [] if quiet or not stop.code else of_others(cls, words)
        print(errors.getvalue(), *(f"{line}\n" for line in lines), sep="", end="", file=sys.stderr, flush=True)
        raise
    return settings


def _dashed(word: str) -> str:
    """--batch_size -> --batch-size: tyro accepts both, but suggests similar flags only for dashes."""
    flag, equals, value = word.partition("=")
    return (flag.replace("_", "-") if flag.startswith("--") else flag) + equals + value


def _take_config(argv: Sequence[str]) -> tuple[list[str], Path | None]:
    """(the words without `--config FILE`, that file or None)."""
    words, file = [], None
    rest = iter(argv)
    for word in rest:
        flag, equals, value = word.partition("=")
        if flag != "--config":
            words.append(word)
            continue
        if not equals:
            value = next(rest, "")
        if not value:
            raise InputError("--config needs a file")
        file = Path(value)
    return words, file


def flat(plain: Mapping[str, Any], where: str = "") -> dict[str, Any]:
    """Flatten nested settings to dotted names, such as "train.lr"."""
    found: dict[str, Any] = {}
    for key, value in plain.items():
        found |= flat(value, f"{where}{key}.") if isinstance(value, Mapping) and value else {f"{where}{key}": value}
    return found
