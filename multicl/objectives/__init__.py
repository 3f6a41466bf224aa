"""Objectives: one idea of one paper a file. Settings import no torch; the modules that they build do."""

from multicl.objectives.info_nce import InfoNCE

__all__ = ["InfoNCE"]
