"""Checks the user's mapping of names to columns: an entry without effect is an error, never silently ignored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

from multicl.graph import Term, column_of, pairs_of, targets_of
from multicl.types import InputError, Modality


def check_columns(
    columns: Mapping[str, str], modalities: Mapping[str, Modality], terms: Sequence[Term], names: Sequence[str] | None
) -> None:
    """Refuse entries without effect: a name that nothing asks for, or a column that does not exist.

    Args:
        columns: requested name -> column of the data. names: all columns of the data; None: not known.

    Raises:
        InputError: there is such an entry; the message lists the valid names and suggests the nearest.
    """
    reads = {node: column_of(node, modality) for node, modality in modalities.items()}
    ids = [pair.ids for pair in pairs_of(terms)]
    scores = [pair.target for pair in pairs_of(terms)]
    labels = [target.column for target in targets_of(terms)]
    asked = [name for name in dict.fromkeys([*reads.values(), *ids, *scores, *labels]) if name is not None]
    for name, column in columns.items():
        if name not in asked:
            hint = f"; node {name!r} asks for {reads[name]!r}" if name in reads else _nearest(name, asked)
            raise InputError(f"columns= maps {name!r} to a column, but the names asked for are {asked}{hint}")
        if names is not None and column not in names:
            hint = _nearest(column, names)
            raise InputError(f"columns= maps {name!r} to {column!r}, but the data's columns are {list(names)}{hint}")


def _nearest(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
