"""Names of recipes and of their runs."""

from __future__ import annotations

import importlib.util
import inspect
import time
from pathlib import Path

from multicl.running.accelerator import meet


def name_of(recipe: type) -> str:
    """The name by which `recipe_class` finds it: that of a shipped recipe, or the path of a user's file."""
    try:
        source = Path(inspect.getfile(recipe)).resolve()
    except (TypeError, OSError):  # defined in a console
        return recipe.__qualname__
    shipped = importlib.util.find_spec("multicl.recipes")
    homes = [Path(p).resolve() for p in (shipped.submodule_search_locations or [])] if shipped else []
    name = source.stem if source.parent in homes else str(source)
    return name if recipe.__name__ == "Recipe" else f"{name}:{recipe.__name__}"


def short_name(recipe: type) -> str:
    """The short name of a recipe: that of a shipped one, or the stem of its file."""
    return Path(name_of(recipe).partition(".py")[0]).name


def new_folder(recipe: type) -> Path:
    """runs/RECIPE-DATE-TIME, the same on every rank."""
    from accelerate.utils import broadcast_object_list

    meet()
    (stamp,) = broadcast_object_list([time.strftime("%Y%m%d-%H%M%S")])
    return Path("runs") / f"{short_name(recipe)}-{stamp}"
