"""The page of a run: report.html, self-contained, to open from a disk without a network.

Style, scripts and media are inside it; its content policy lets it load nothing and run nothing else. plotly.js is
compressed (from 4.8 to 1.5 MB), which leaves room for pictures and sounds.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from markupsafe import Markup

from multicl.report.charts import Chart, plotly_source
from multicl.report.gallery import Section, section_cells
from multicl.report.items import Item, Search
from multicl.report.page import space_data
from multicl.report.parts import joined, save_html, script_hash, script_of, template


@dataclass(frozen=True)
class Headline:
    """A figure at the top of the page."""

    name: str
    value: float
    interval: Sequence[float] | None = None
    """(low, high) at 95 %."""
    untrained: float | None = None
    baseline: float | None = None

    @property
    def share(self) -> bool:
        """Whether the value and all of `others` lie in [0, 1], so that they can be drawn on a line."""
        return all(0 <= v <= 1 for v in (self.value, *self.others))

    @property
    def others(self) -> list[float]:
        """Interval, untrained and baseline, as far as they are known."""
        beside = (*(self.interval or ()), self.untrained, self.baseline)
        return [v for v in beside if v is not None]


@dataclass(frozen=True)
class Contents:
    """All that a run's page shows; what is empty is left out."""

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
    """Write the page; its folder is created, an existing file is replaced.

    Raises:
        InputError: plotly is not installed; media that a page cannot show; vectors that differ in width.
    """
    library = plotly_source()
    searches = {"searches": contents.searches, "failures": contents.failures}
    data = space_data(contents.items, searches, umap=True)
    data["charts"] = {name: [asdict(chart) for chart in part] for name, part in contents.charts.items()}
    script = script_of("page.js", "map.js", "searches.js", "run_page.js")
    packed = gzip.compress(library.encode(), 9, mtime=0)
    page = template("run_page.html").render(
        c=contents,
        views=[section_cells(section) for section in contents.views],
        charts={name: list(contents.charts.get(name, ())) for name in ("space", "training")},
        style=Markup(joined("page.css", "run_page.css")),  # ours, as are the scripts; all else is escaped
        script=Markup(script),
        hashes=Markup(f"'{script_hash(script)}' '{script_hash(library)}'"),
        library=Markup(base64.b64encode(packed).decode()),
        data=data,
    )
    return save_html(path, page)
