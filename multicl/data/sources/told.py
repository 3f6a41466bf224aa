"""Assumptions about data are logged once, though data are opened several times."""

from __future__ import annotations

import logging
from collections.abc import Hashable

log = logging.getLogger(__name__)
_TOLD = set[Hashable]()


def tell(line: str, about: Hashable = None) -> None:
    """Log a line, unless this process has, or one about the same."""
    if (about or line) not in _TOLD:
        _TOLD.add(about or line)
        log.warning(line)
