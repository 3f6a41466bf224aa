"""What ranks do in tests of search."""

from __future__ import annotations

from typing import Any

import found

from multicl.search import Index


def index_share(where: str, data: Any) -> tuple[int, int, int]:
    """Rows, new ones and repeats that this rank reports after all ranks have filled the database."""
    added = Index(where, found.model()).add(data)
    return added.rows, added.new, added.repeats
