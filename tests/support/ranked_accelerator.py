"""What the tests of setting up process groups run on each rank."""

from __future__ import annotations

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from accelerate import Accelerator

from multicl import Train
from multicl.distributed import World
from multicl.recipe_names import new_folder
from multicl.recipes.simclr import Recipe
from multicl.running.accelerator import accelerator_of


def meets(first: Sequence[str], told: dict[str, str]) -> tuple[int, int, int, str]:
    """The number of processes by Accelerate and by us, this one's rank, and how long it waits for others."""
    os.environ.update(told)
    for asks in first:
        if asks == "name":
            new_folder(Recipe)
        else:
            accelerator_of(Train(), None)
    backend = dist.group.WORLD._get_backend(torch.device("cpu"))
    world = World.current()
    return Accelerator().num_processes, world.size, world.rank, str(backend.options._timeout)
