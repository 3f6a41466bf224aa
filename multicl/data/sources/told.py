"""Logs each assumption about data once, however often the data are opened."""

from __future__ import annotations

import logging
from collections.abc import Hashable

log = logging.getLogger(__name__)
_TOLD = set[Hashable]()


def tell(line: str, about: Hashable = None) -> None:
    """Log a line, unless this process has logged it, or one with an equal `about`, before."""
    if (about or line) not in _TOLD:
        _TOLD.add(about or line)
        log.warning(line)
