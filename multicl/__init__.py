"""multicl: contrastive learning for images, text and audio with one trainer.

Names are loaded when first used, so that `import multicl` is instant.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multicl.adapters import register
    from multicl.data.hold_out import HoldOut, LeaveOut
    from multicl.data.loading import Data
    from multicl.distributed import World
    from multicl.graph import core_view, full_graph
    from multicl.launcher import launch
    from multicl.model import Model, load
    from multicl.objectives import (
        Bilinear,
        CoSENT,
        CrossEntropy,
        Decoupled,
        HardestNegatives,
        HardNegative,
        InfoNCE,
        InstanceNCE,
        Margin,
        Matryoshka,
        NTXent,
        Predicted,
        Sigmoid,
        SupCon,
        SwAV,
    )
    from multicl.pairs import Pair
    from multicl.run import Run
    from multicl.settings import Mine, Momentum, Train
    from multicl.targets import Target
    from multicl.towers import Head
    from multicl.trainer import Trainer
    from multicl.training.optim import Optim
    from multicl.types import BadSample, Batch, Context, Embedded, InputError, Modality

__version__ = "0.1.0"

# PyTorch reads this at its first large allocation: on Linux, large tensors then use huge pages instead of 4 KB ones,
# with far fewer page faults. A step on a CPU takes an eighth less time. Set "0" to turn it off.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
__all__ = [
    "BadSample", "Batch", "Bilinear", "CoSENT", "Context", "CrossEntropy", "Data", "Decoupled", "Embedded",
    "HardNegative", "HardestNegatives", "Head", "HoldOut", "InfoNCE", "InputError", "InstanceNCE", "LeaveOut", "Margin",
    "Matryoshka", "Mine", "Modality", "Model", "Momentum", "NTXent", "Optim", "Pair", "Predicted", "Run", "Sigmoid",
    "SupCon", "SwAV", "Target", "Train", "Trainer", "World", "core_view", "full_graph", "launch", "load", "register",
]  # fmt: skip
_HOMES = {
    "BadSample": "types", "Batch": "types", "Bilinear": "objectives", "CoSENT": "objectives",
    "Context": "types", "CrossEntropy": "objectives", "Data": "data.loading", "Decoupled": "objectives",
    "Embedded": "types", "HardestNegatives": "objectives",
    "HardNegative": "objectives", "Head": "towers", "HoldOut": "data.hold_out", "InfoNCE": "objectives",
    "InputError": "types", "InstanceNCE": "objectives", "LeaveOut": "data.hold_out", "Margin": "objectives",
    "Matryoshka": "objectives",
    "Mine": "settings", "Modality": "types", "Model": "model", "Momentum": "settings", "NTXent": "objectives",
    "Optim": "training.optim", "Pair": "pairs", "Predicted": "objectives", "Run": "run", "Sigmoid": "objectives",
    "SupCon": "objectives", "SwAV": "objectives", "Target": "targets", "Train": "settings", "Trainer": "trainer",
    "World": "distributed", "core_view": "graph", "full_graph": "graph", "launch": "launcher", "load": "model",
    "register": "adapters",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'multicl' has no attribute {name!r}")
    return getattr(import_module(f"multicl.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
