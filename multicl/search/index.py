"""Index: a database of a model's vectors, filled from any data and searched by anything that the model reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from multicl.distributed import World
from multicl.model import AND_FEATURES, DEFAULT, Model, load
from multicl.own_data import own_data
from multicl.search import approximate, fill
from multicl.search.database import (
    ROWS,
    SOURCE,
    About,
    Approximate,
    connect,
    content_column,
    file_column,
    fingerprint,
    first_line,
    own_columns,
    read_about,
    write_about,
)
from multicl.search.fill import Added
from multicl.search.items import nearest_items, rows_at
from multicl.search.query import readers_of
from multicl.types import InputError

MOST = 1000
"""Most results that one search may ask for."""


@dataclass(frozen=True)
class Hit:
    """A thing that was found, by a row of it."""

    score: float
    """Cosine of the query's vector and the row's, in [-1, 1]."""
    row: dict[str, Any]
    """`id`, `row` (its number in the data), the data's plain columns, and `NODE_file` where a medium is a file."""
    previews: dict[str, tuple[str, bytes]]
    """Node -> (MIME type, bytes) of the row's preview, small enough for a page."""


class Index:
    """A search database.

    ```python
    index = Index("things.lance", "runs/clip")          # created if it does not exist yet
    index.add("pictures.parquet")                       # adds what is new
    for hit in index.search("a red square")["image"]:   # by a text, a path, bytes, an array
        print(hit.score, hit.row)
    ```

    Args:
        where: a folder, or an object store's URI ("s3://bucket/things").
        model: a Model, a run's or model's folder or a hub name. None: the one whose place the database records.
        space: the space of a new database; default: the recipe's choice. None: the encoders' features, which can be
            compared only within one tower.

    Raises:
        InputError: there is no database and no model to create one; the database holds vectors of another model or
            space; the model has no such space; or LanceDB is not installed.
    """

    def __init__(
        self, where: str | Path, model: str | Path | Model | None = None, *, space: str | None = DEFAULT
    ) -> None:
        self.where, self.world = str(where), World.current()
        self.db = connect(where, create=model is not None)
        about = read_about(self.db)
        self.model, name = _loaded(self.where, model, about)
        self.own = own_data(name)
        mine = fingerprint(self.model)
        if about is not None and about.fingerprint != mine:
            raise InputError(
                f"{where} holds vectors of another model ({about.model}, weights {about.fingerprint[:8]}), which "
                f"cannot be compared with those of {name} (weights {mine[:8]}): index into another folder"
            )
        wanted = self.model.space if space == DEFAULT else space
        if about is not None and space != DEFAULT and about.space != wanted:
            held, asked = (name or "None (on a command line: features)" for name in (about.space, wanted))
            raise InputError(f"{where} holds vectors of space {held}, not {asked}: index into another folder")
        self.about = about or About(name, mine, wanted)
        self.nodes = [n for n in self.model.nodes if self.space is None or self.space in self.model.towers.spaces_of(n)]
        if not self.nodes:
            spaces = list(self.model.towers.spaces)
            raise InputError(f"no space is named {self.space!r}; there are {spaces} and {AND_FEATURES}")
        self._counts: dict[str, int] = {}
        self.world.barrier()
        if about is None and self.world.rank == 0:
            write_about(self.db, self.about)
        self.world.barrier()

    @property
    def space(self) -> str | None:
        """The space of its vectors; None: the encoders' features."""
        return self.about.space

    @cached_property
    def table(self) -> Any:
        """LanceDB's table of the rows.

        Raises:
            InputError: there is none yet.
        """
        try:
            return self.db.open_table(ROWS)
        except Exception as error:
            raise InputError(f"{self.where} holds no rows yet: fill it with multicl index, or Index.add") from error

    def __len__(self) -> int:
        try:
            return int(self.table.count_rows())
        except InputError:
            return 0

    def add(
        self,
        data: Any,
        *,
        split: str = "train",
        columns: Mapping[str, str] | None = None,
        batch_size: int = 128,
        on_error: Literal["skip", "raise"] = "skip",
        exact_below: int = approximate.EXACT_BELOW,
    ) -> Added:
        """Embed the rows that are not there yet, each rank its share. Rows are written a thousand at a time.

        A row is identified by its content (files by their bytes), so a row whose text or label changed is a new one.
        Data with a name (a path, a URL, a hub name; with their split and `columns`) replace what was indexed from them
        before: rows that they no longer hold are deleted, and the others get their present numbers and files. A row
        that two data sets share belongs to the first; index the second again after the first has lost it. Rows in
        memory are only added.

        Args:
            data, split: as in `multicl.data.rows.open_rows`.
            columns: node -> column of the data; default: as the run that the model is of read its own.
            batch_size: cells computed at once.
            on_error: "skip" leaves out cells that cannot be read, "raise" stops.
            exact_below: number of vectors from which a node gets an approximate index.

        Raises:
            InputError: no node has a column in the data, a column changed its type, the data are a stream, or a cell
                cannot be read (`on_error="raise"`).
        """
        added = fill.add(self, data, split, columns or {}, batch_size, on_error)
        self.__dict__.pop("table", None)  # reopened on the next use
        self._counts.clear()
        if self.world.rank == 0:
            self.tend(exact_below, grown=added.new + added.moved + added.gone > 0)
        self.world.barrier()
        self.about = read_about(self.db) or self.about
        return added

    def tend(self, exact_below: int = approximate.EXACT_BELOW, *, grown: bool = True) -> dict[str, Approximate]:
        """Compact the table, and build or renew the approximate index of nodes that have enough vectors.

        Args:
            grown: whether rows were added, changed or deleted; if not, only missing indexes are built.

        Returns:
            Node -> its index, with the recall@10 that was measured.
        """
        found = dict(self.about.approximate)
        if grown:
            self.table.optimize()
        for node in self.nodes:
            column, count = f"{node}_vector", self.count(node)
            if count < max(1, exact_below):
                continue
            queries, content = self._queries(node), content_column(node)
            if node not in found or count > 2 * found[node].rows:
                found[node] = approximate.build(self.table, column, content, queries, count)
            elif grown:
                index = approximate.measure(self.table, column, content, queries, count, found[node].parts)
                found[node] = replace(index, rows=found[node].rows)
        self.about = replace(self.about, approximate=found)
        write_about(self.db, self.about)
        return found

    def count(self, node: str) -> int:
        """Number of rows that have a vector of a node."""
        if node not in self._counts:
            self._counts[node] = int(self.table.count_rows(f"`{node}_mime` IS NOT NULL"))
        return self._counts[node]

    def comparable(self, node: str) -> list[str]:
        """Nodes whose vectors can be compared with a node's: all in the space, or (features) those of its tower."""
        towers = self.model.towers.towers
        return [n for n in self.nodes if self.space is not None or towers[n] == towers[node]]

    def asked_as(self, query: Any, node: str | None = None, paths: bool = True) -> tuple[list[str], Any]:
        """The nodes that can read a query, and the cell that they read; errors as in `search`."""
        modalities = {n: self.model.towers.modalities[n] for n in self.nodes}
        return readers_of(modalities, query, node, paths)

    def search(
        self,
        query: Any,
        *,
        node: str | None = None,
        among: Sequence[str] | None = None,
        where: str | None = None,
        k: int = 10,
        exact: bool = False,
        paths: bool = True,
    ) -> dict[str, list[Hit]]:
        """What is nearest to a query: different pictures, sounds or texts, each by the first of its rows.

        Args:
            query: words, the path of a file, or whatever a node of the model reads (bytes, arrays).
            node: read the query as this node does; default: the first that can.
            among: nodes whose vectors are searched; default: all that can be compared, without those of the query's
                own tower if there are others.
            where: an SQL condition on the data's columns, applied before the search: "label = 3 AND text LIKE 'a%'".
            k: things of each node, 1 to 1000.
            exact: do without the approximate index.
            paths: whether a string may be the path of a file; False for queries of strangers.

        Returns:
            Node searched -> its nearest things, the nearest first; fewer than k where there are no more.

        Raises:
            InputError: no node can read the query, unknown or incomparable nodes, k out of range, bad SQL, or no rows.
        """
        if not 1 <= k <= MOST:
            raise InputError(f"k must be 1 to {MOST}, got {k}")
        readers, cell = self.asked_as(query, node, paths)
        vector = self.model.embed_node(readers[0], [cell], space=self.space)[0].numpy()
        found = {}
        for target in self.targets(readers[0], among):
            kept = self.about.approximate.get(target)
            found[target] = self.nearest(target, vector, where, k, None if exact or kept is None else kept.probes)
        return found

    def targets(self, node: str, among: Sequence[str] | None = None) -> list[str]:
        """The nodes among which a query of `node` is searched; see `search`."""
        comparable = self.comparable(node)
        if isinstance(among, str):
            raise InputError(f"among= takes a list of nodes, got {among!r}: write among=[{among!r}]")
        if among:
            for name in among:
                if name not in comparable:
                    raise InputError(f"{node!r} cannot be compared with {name!r}, only with {comparable}")
            return list(among)
        filled = [n for n in comparable if self.count(n)] or comparable
        towers = self.model.towers.towers
        return [n for n in filled if towers[n] != towers[node]] or filled

    def nearest(self, node: str, vector: Any, where: str | None, k: int, probes: int | None = None) -> list[Hit]:
        """The k things of a node whose vectors are nearest to a vector [D]; probes: None for exact search."""
        names = self.table.schema.names
        own = own_columns(self.nodes)
        shown = [name for name in names if name not in own or not name.endswith(("_vector", "_content", SOURCE))]
        try:
            found = nearest_items(self.table, node, vector, where, k, probes)
        except Exception as error:
            if not where:
                raise
            plain = [name for name in names if name in ("id", "row") or name not in own]
            raise InputError(
                f"the condition {where!r} cannot be used: {first_line(error)} (columns: {plain})"
            ) from error
        rows = rows_at(self.table, list(found), shown)
        return [self._hit(row, 1.0 - distance) for row, distance in zip(rows, found.values(), strict=True)]

    def _hit(self, row: dict[str, Any], score: float) -> Hit:
        previews = {}
        for node in self.nodes:
            mime, content = row.pop(f"{node}_mime", None), row.pop(f"{node}_preview", None)
            if mime is not None and content is not None:
                previews[node] = (mime, content)
            if (file := row.pop(file_column(node), None)) is not None:
                row.setdefault(f"{node}_file", file)
        return Hit(score, row, previews)

    def _queries(self, node: str) -> np.ndarray[Any, np.dtype[np.float32]]:
        """[Q, D] vectors to measure recall with: those of another comparable node if there is one, else its own."""
        asked = next((n for n in self.comparable(node) if n != node and self.count(n)), node)
        column = f"{asked}_vector"
        step = max(1, len(self) // approximate.QUERIES)
        rows = self.table.take_offsets(list(range(0, len(self), step))[: approximate.QUERIES])
        vectors = rows.select([column]).to_arrow().column(column).combine_chunks().drop_null()
        dim = self.model.towers.dim(asked, self.space)
        return np.asarray(vectors.flatten().to_numpy(zero_copy_only=False), np.float32).reshape(-1, dim)


def _loaded(where: str, model: str | Path | Model | None, about: About | None) -> tuple[Model, str]:
    """The model and its name."""
    if isinstance(model, Model):
        return model, "a model in memory"
    if model is not None:
        place = Path(model).expanduser()
        name = str(place.resolve() if place.exists() else model)
        return load(name), name
    if about is None:
        raise InputError(f"{where} is empty and names no model: give the model whose vectors it will hold")
    try:
        return load(about.model), about.model
    except InputError as error:
        raise InputError(f"the model that filled {where} cannot be loaded: {error}. Give it as --model RUN") from error
