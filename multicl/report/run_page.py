"""The page of a run: report.html, self-contained, to open from a disk without a network.

Style, scripts and media are inside it; its content policy lets it ask for nothing and run nothing else. plotly.js is
packed (1.5 of 4.8 MB), which leaves room for pictures and sounds.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from multicl.report.charts import Chart, plotly_source
from multicl.report.gallery import Section, section_cells
from multicl.report.items import Item, Search, Store, search_data
from multicl.report.plane import maps_of, near_of


@dataclass(frozen=True)
class Headline:
    """A figure as the page shows it first."""

    name: str
    value: float
    interval: Sequence[float] | None = None
    """(low, high) at 95 %."""
    untrained: float | None = None
    baseline: float | None = None

    @property
    def share(self) -> bool:
        """All that is said of it lies in [0, 1], and is drawn as a line."""
        return all(0 <= v <= 1 for v in (self.value, *self.others))

    @property
    def others(self) -> list[float]:
        """What stands beside it."""
        beside = (*(self.interval or ()), self.untrained, self.baseline)
        return [v for v in beside if v is not None]


@dataclass(frozen=True)
class Contents:
    """All that a run's page says; what is empty is left out."""

    title: str
    intro: Sequence[str] = ()
    """Paragraphs."""
    headlines: Sequence[Headline] = ()
    items: Sequence[Item] = ()
    searches: Sequence[Search] = ()
    failures: Sequence[Search] = ()
    charts: Mapping[str, Sequence[Chart]] = field(default_factory=dict)
    """"space" (cosines, confusion) and "training" (curves)."""
    views: Sequence[Section] = ()
    notes: Sequence[str] = ()
    recipe: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)
    credits: Sequence[str] = ()


def write_run_page(path: Path, contents: Contents) -> Path:
    """Write the page; its folder is made, a file that is there is replaced.

    Raises:
        InputError: plotly is not installed; media that a page cannot show; vectors that differ in width.
    """
    library = plotly_source()
    store = Store()
    for item in contents.items:
        store.add(item)
    found, failed = ([search_data(store, s) for s in part] for part in (contents.searches, contents.failures))
    data: dict[str, Any] = {
        "maps": maps_of(contents.items, umap=True), "near": near_of(contents.items), "searches": found,
        "failures": failed, "charts": {k: [asdict(c) for c in part] for k, part in contents.charts.items()},
        **store.data(),
    }  # fmt: skip
    here = resources.files(__package__)
    html, *styles = (
        (here / name).read_text(encoding="utf-8") for name in ("run_page.html", "page.css", "run_page.css")
    )
    parts = [(here / name).read_text(encoding="utf-8") for name in ("page.js", "map.js", "searches.js", "run_page.js")]
    script = "\n".join(['"use strict";', "{", *parts, "}", ""])
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    packed = gzip.compress(library.encode(), 9, mtime=0)
    page = environment.from_string(html).render(
        c=contents,
        views=[section_cells(section) for section in contents.views],
        charts={name: list(contents.charts.get(name, ())) for name in ("space", "training")},
        style=Markup("\n".join(styles)),  # ours, as are the scripts; all else is escaped
        script=Markup(script),
        hashes=Markup(f"{_hash(script)} {_hash(library)}"),
        library=Markup(base64.b64encode(packed).decode()),
        data=data,  # the template's `tojson` escapes <, >, & and '
    )
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page, encoding="utf-8", newline="\n")
    return path


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
