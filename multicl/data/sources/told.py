"""What was taken to be meant is told once: data are opened several times."""

from __future__ import annotations

import logging
from functools import cache

log = logging.getLogger(__name__)


@cache
def tell(line: str) -> None:
    """Log a line, unless this process has."""
    log.warning(line)
