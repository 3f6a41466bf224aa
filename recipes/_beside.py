"""What may be measured of pictures and captions, beside their retrieval."""

from __future__ import annotations

from dataclasses import dataclass, replace

from multicl import Modality
from multicl.data.rows import Rows
from multicl.evaluation import crossing
from multicl.evaluation.held_out import Embed, Figures, renamed


@dataclass(frozen=True, kw_only=True)
class Beside:
    """More columns of the held-out rows to measure on."""

    unseen: tuple[str, ...] = ()
    """Columns of other pictures of the same things (another vendor's), measured like `image`."""
    classes: str | None = None
    """A column of classes, for zero-shot: by name, or by number where the data have names for them (ClassLabel)."""
    templates: tuple[str, ...] = crossing.TEMPLATES
    """Sentences about a class, {} being its name; the mean of their vectors is compared. A FILE.txt has one on each
    line (such as CLIP's 80)."""

    def measure(self, embed: Embed, nodes: dict[str, Modality], rows: Rows) -> Figures:
        """Retrieval of each column and captions, and zero-shot accuracy."""
        figures: Figures = {}
        for column in self.unseen:
            other = {column: replace(nodes["image"], column=column), "text": nodes["text"]}  # type: ignore[type-var]
            figures |= crossing.crossing(
                renamed(embed, {column: "image"}), other, column, "text", rows, ids=[column, "text"]
            )
        if self.classes:
            figures |= crossing.classify(embed, nodes, "image", "text", rows, self.classes, self.templates)
        return figures
