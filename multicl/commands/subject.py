"""A model and a data set's rows as vectors, embedded once however many measures use them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from multicl.data.ids import label_key
from multicl.data.rows import Rows
from multicl.distributed import World
from multicl.evaluation.crossing import Side, side
from multicl.evaluation.tiles import by_slices
from multicl.graph import column_of
from multicl.model import DEFAULT, Model
from multicl.types import InputError, Several


class Subject:
    """A model and the rows that it is measured on; ranks share the work of embedding them.

    Args:
        model: the same on every rank.
        test: rows that training did not see. train: rows in which kNN searches and from which probes learn; None:
            measures that need them are refused.
        space: as in `Model.embed`. batch_size: cells embedded at once.

    Raises:
        InputError: `batch_size` is less than 1.
    """

    def __init__(
        self, model: Model, test: Rows, train: Rows | None = None, *,
        space: str | None = DEFAULT, batch_size: int = 128, world: World | None = None,
    ) -> None:  # fmt: skip
        if batch_size < 1:
            raise InputError(f"batch_size must be 1 or more, got {batch_size}")
        self.model, self.test, self._train = model, test, train
        self.space, self.batch_size, self.world = space, batch_size, world or World()
        self._known: dict[tuple[str, bool], Side] = {}
        self._several: dict[str, Side] = {}

    @property
    def train(self) -> Rows:
        """The rows to learn from.

        Raises:
            InputError: none were given.
        """
        if self._train is None:
            raise InputError("this measure learns from training rows, and none were given")
        return self._train

    def nodes(self) -> list[str]:
        """The nodes whose column the test rows have."""
        return [n for n in self.model.nodes if self.test.has(column_of(n, self.model.towers.modalities[n]))]

    def cells(self, node: str, rows: Rows) -> list[Any]:
        """The cells of a node's column, one per row, None where null."""
        modality = self.model.towers.modalities[node]
        return rows.resolved(column_of(node, modality), modality.files)

    def vectors(self, node: str, of_train: bool = False) -> Side:
        """[N, D] unit vectors of the rows that have the node and can be read, and these rows' positions.

        Raises:
            InputError: no row has the node.
        """
        if (node, of_train) not in self._known:
            rows = self.train if of_train else self.test
            cells = self.cells(node, rows)
            present = [i for i, cell in enumerate(cells) if cell is not None]
            if not present:
                raise InputError(f"{rows.label}: no row has {node!r}")
            z, bad = self.embed(node, [cells[i] for i in present])
            good = (~bad).nonzero()[:, 0].tolist()
            self._known[node, of_train] = z[good], [present[at] for at in good]
        return self._known[node, of_train]

    def parts(self, node: str) -> Side:
        """As `vectors` of the test rows, but with one vector for each of several captions in a cell.

        Raises:
            InputError: no row has the node.
        """
        modality, cells = self.model.towers.modalities[node], self.cells(node, self.test)
        if not isinstance(modality, Several) or all(c is None or list(modality.each(c)) == [c] for c in cells):
            return self.vectors(node)

        def embed(node: str, cells: Sequence[Any], skipped: dict[int, str]) -> Tensor:
            z, bad = self.embed(node, cells)
            skipped |= dict.fromkeys(bad.nonzero()[:, 0].tolist(), "cannot be read")
            return z

        if node not in self._several:
            self._several[node] = side(embed, node, modality, cells)
        return self._several[node]

    def embed(self, node: str, cells: Sequence[Any]) -> tuple[Tensor, Tensor]:
        """[N, D] unit vectors and [N] bool, which cells could not be read (zero vectors); every rank gets them all."""
        model, window = self.model, 16 * self.batch_size  # the window in which `Model.embed_node` sorts by length

        def part(rows: slice) -> Tensor:
            skipped: dict[int, str] = {}
            z = model.embed_node(
                node, cells[rows], space=self.space, batch_size=self.batch_size, skipped=skipped
            )  # fmt: skip
            bad = torch.zeros(len(z), 1)
            bad[list(skipped)] = 1
            return torch.cat([z, bad], 1)

        width = model.embed_node(node, [], space=self.space).shape[1]
        found = by_slices(len(cells), window, part, torch.zeros(0, width + 1), self.world)
        return found[:, :-1].contiguous(), found[:, -1] > 0

    def labelled(self, node: str, label: str, of_train: bool = False) -> tuple[Tensor, list[str]]:
        """The `vectors` of the rows that have a label, and their labels as `label_key` normalises them.

        Raises:
            InputError: there is no such column, or no row that has the node has a label.
        """
        z, rows = self.vectors(node, of_train)
        data = self.train if of_train else self.test
        cells = data.column(label)
        found = {at: key for at, row in enumerate(rows) if (key := label_key(cells[row])) is not None}
        if not found:
            raise InputError(f"{data.label}: no row that has {node!r} has a {label!r}")
        return z[list(found)], list(found.values())

    def together(self, *nodes: str) -> tuple[list[Tensor], list[int]]:
        """[N, D] unit vectors of each node for the test rows that have all these nodes, and these rows' positions.

        Raises:
            InputError: no row has all of them.
        """
        sides = [self.vectors(node) for node in nodes]
        at = [{row: place for place, row in enumerate(rows)} for _, rows in sides]
        rows = [row for row in sides[0][1] if all(row in places for places in at)]
        if not rows:
            raise InputError(f"{self.test.label}: no row has all of {list(nodes)}")
        return [z[[places[row] for row in rows]] for (z, _), places in zip(sides, at, strict=True)], rows
