"""Objectives: one idea of one paper a file. Settings import no torch; the modules that they build do.

A Trainer builds and calls them. In a loop of one's own, most are functions in `multicl.functional`; those with weights
or memory are built and called as it does, which examples/own_loop.py shows:

    module = SwAV(prototypes=32).build((16, 16))  # of two sides 16 wide; its parameters are the optimizer's, too
    a, b = (Embedded(encoder(view), row, row) for view in views)  # row: [B] int64, equal where a thing is
    loss = module(a, b, Context(World.current(), step=step, progress=step / steps, symmetric=True))["loss"]
"""

from multicl.objectives.bilinear import Bilinear
from multicl.objectives.co_sent import CoSENT
from multicl.objectives.cross_entropy import CrossEntropy
from multicl.objectives.decoupled import Decoupled
from multicl.objectives.hard_negative import HardNegative
from multicl.objectives.hardest import HardestNegatives
from multicl.objectives.info_nce import InfoNCE
from multicl.objectives.instance_nce import InstanceNCE
from multicl.objectives.margin import Margin
from multicl.objectives.matryoshka import Matryoshka
from multicl.objectives.nt_xent import NTXent
from multicl.objectives.predicted import Predicted
from multicl.objectives.prototypes import SwAV
from multicl.objectives.sigmoid import Sigmoid
from multicl.objectives.sup_con import SupCon

__all__ = [
    "Bilinear", "CoSENT", "CrossEntropy", "Decoupled", "HardNegative", "HardestNegatives", "InfoNCE", "InstanceNCE",
    "Margin", "Matryoshka", "NTXent", "Predicted", "Sigmoid", "SupCon", "SwAV",
]  # fmt: skip
