"""Optional measures of pictures and captions besides their retrieval."""

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
    """Column of classes for zero-shot classification: names, or numbers that the data have names for (ClassLabel)."""
    templates: tuple[str, ...] = crossing.TEMPLATES
    """Sentences about a class, with {} for its name, or a FILE.txt with one on each line (such as CLIP's 80). A class
    is represented by the mean of their vectors."""

    def measure(self, embed: Embed, nodes: dict[str, Modality], rows: Rows) -> Figures:
        """Retrieval between each column and the captions, and zero-shot accuracy."""
        figures: Figures = {}
        for column in self.unseen:
            other = {column: replace(nodes["image"], column=column), "text": nodes["text"]}  # type: ignore[type-var]
            figures |= crossing.crossing(
                renamed(embed, {column: "image"}), other, column, "text", rows, ids=[column, "text"]
            )
        if self.classes:
            figures |= crossing.classify(embed, nodes, "image", "text", rows, self.classes, self.templates)
        return figures
