"""Row numbers -> a slice of a batch, decoded and collated, with the ids of each pair and the classes of each target."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import nn

from multicl.data import ids as identity
from multicl.data.cache import UNREAD, Cache, Found, bytes_of
from multicl.data.cells import blamed, is_null, resolve_path
from multicl.data.classes import class_numbers
from multicl.data.equal_files import Files
from multicl.data.rows import Row, Rows
from multicl.data.scores import Scores
from multicl.data.slice import Skipped, Slice, negatives_of
from multicl.data.sources.unread import unread_beside
from multicl.data.store import Store
from multicl.graph import Term, column_of, pairs_of, targets_of
from multicl.pairs import Pair
from multicl.seeds import Draws
from multicl.types import Alike, BadSample, Batch, InputError, Modality

SLOW = 2e-3
"""Seconds to load a row above which loader processes help."""
READ_AGAIN = 1 << 24
"""Bytes up to which a file named in a stream is hashed whole, so that its id is that of its content: hashing takes less
time than decoding. A larger file, such as a long recording of which a window is decoded, is identified by its path."""

CPU = torch.device("cpu")


def sources_of(modalities: Mapping[str, Modality]) -> dict[str, str]:
    """Node -> key of its source. Nodes of equal (column, source) share a source, which is decoded and viewed once."""
    known: dict[Any, str] = {}
    for node, modality in modalities.items():
        known.setdefault((column_of(node, modality), modality.source), node)
    return {node: known[column_of(node, m), m.source] for node, m in modalities.items()}


class Reader:
    """Turns rows into slices, in the main process or in loader processes.

    Raises:
        InputError: the column of a node, pair or target is missing; a node's column is null in every row; a target's
            column holds a label that is not one of its classes.
    """

    def __init__(
        self,
        rows: Rows,
        modalities: Mapping[str, Modality],
        terms: Sequence[Term],
        seed: int = 0,
    ) -> None:
        self.rows, self.seed = rows, seed
        self.pairs, self.targets = pairs_of(terms), targets_of(terms)
        self.modalities: dict[str, Modality] = {}
        self.columns: dict[str, str] = {}
        self.sources = sources_of(modalities)
        for node, source in self.sources.items():
            self.columns[node] = rows.resolve(column_of(node, modalities[node]), f", which {node!r} reads")
            if node == source:
                self.modalities[source] = modalities[node]
        for node, column in self.columns.items():
            if not rows.streaming and all(map(is_null, rows.cells(column))):  # stops at the first cell that is not null
                raise InputError(f"column {column!r} of {rows.label}, which {node!r} reads, is null in every row")
        self.label_columns = {
            pair.name: rows.resolve(pair.ids, f", the ids of pair {pair.name!r}") for pair in self.pairs if pair.ids
        }
        for target in self.targets:
            self.label_columns[target.name] = rows.resolve(target.column, f", the labels of target {target.name!r}")
        self.scores = Scores(rows, self.pairs)
        sets: list[Rows] = getattr(rows, "sets", [rows])
        self.notes = [line for part in sets for line in unread_beside(part.data, part.base)]
        self.ids = {} if rows.streaming else self._all_ids()
        self.cache = Cache(self.modalities)

    def __getstate__(self) -> dict[str, Any]:
        """The state sent to loader processes, without cache or user's encoder, which may be large or not pickle."""
        light = {source: _without_module(modality) for source, modality in self.modalities.items()}
        return self.__dict__ | {"cache": Cache(light), "modalities": light}

    def keep(self, room: float, device: torch.device = CPU, pin: bool = False) -> None:
        """Cache the samples that do not depend on random draws, from now on.

        Args:
            room: bytes that the cache may take. device: where samples of one shape (`Alike`) are kept, as one tensor.
            pin: copy to the device through page-locked memory.
        """
        self.cache.room = room
        self.cache.stores.clear()
        for source, modality in self.modalities.items():
            if room and isinstance(modality, Alike):
                self.cache.give(source, Store(modality, self.rows, self.columns[source], device, pin))

    def _all_ids(self) -> dict[str, identity.Ids]:
        """[N] for each pair the ids of every row and of its explicit negatives; for each target the rows' classes.

        Pairs with equal demands share one computation.
        """
        done: dict[Any, tuple[identity.Ids, identity.Ids]] = {}
        files = Files()
        found: dict[str, identity.Ids] = {}
        for pair in self.pairs:
            key = self._demand(pair)
            if key not in done:
                done[key] = self._ids_of_all(pair, files)
            found[pair.name], negatives = done[key]
            if pair.negatives:
                found[negatives_of(pair)] = negatives
        for target in self.targets:
            found[target.name] = class_numbers(target, self.rows.cells(self.label_columns[target.name]))
        return found

    def _ids_of_all(self, pair: Pair, files: Files) -> tuple[identity.Ids, identity.Ids]:
        """[N] ids of every row, and [N] ids of the rows' explicit negatives, which are about other things."""
        rows = len(self.rows)
        numbers = self.rows.numbers().tolist()
        others = list(range(-rows, 0)) if pair.negatives else []  # numbers that no row has
        if pair.ids:
            labels = self.rows.cells(self.label_columns[pair.name])
            named = identity.label_ids(labels, numbers, f"ids={pair.ids!r} of pair {pair.name!r}")
            return named, identity.row_ids(others)
        if pair.symmetric or pair.target:
            return identity.row_ids(numbers), identity.row_ids(others)
        cells: list[Iterable[Any]] = [self._cells(node) for node in (pair.a, pair.b)]
        if pair.negatives:  # an explicit negative that repeats a row's own text is not a negative of that row
            cells = [chain(cells[0], repeat(None, rows)), chain(cells[1], self._cells(pair.negatives))]
            numbers = [*numbers, *others]
        looked = [files if self._reads_files(node) else None for node in (pair.a, pair.b)]
        ids, shared = identity.content_ids(cells, numbers, looked)
        if shared:
            what = "rows and negatives" if pair.negatives else "rows"
            self.notes.append(
                f"pair {pair.name!r}: {shared} of {len(numbers)} {what} repeat a text or a file; "
                f"repeats are {'positives' if pair.equal_ids == 'positive' else 'left out'}, never negatives"
            )
        return ids[:rows], ids[rows:]

    def _demand(self, pair: Pair) -> Any:
        if pair.ids:
            return ("label", self.label_columns[pair.name], bool(pair.negatives))
        if pair.symmetric or pair.target:
            return bool(pair.negatives)
        nodes = [pair.a, pair.b, *([pair.negatives] if pair.negatives else [])]
        columns = [(self.columns[node], self._reads_files(node)) for node in nodes]
        return tuple(columns if pair.negatives else sorted(columns))  # the order matters only with negatives

    def _reads_files(self, node: str) -> bool:
        """Whether a node's strings are paths of files."""
        return self.modalities[self.sources[node]].files

    def _resolved(self, node: str, number: int, cell: Any) -> Any:
        """A cell, its relative paths resolved against its row's folder if the node reads files."""
        return resolve_path(cell, self.rows.base_of(number) if self._reads_files(node) else None)

    def _cells(self, node: str) -> Iterator[Any]:
        """Iterate over every cell of a node's column."""
        return self.rows.found(self.columns[node], self._reads_files(node))

    @property
    def needed(self) -> list[str]:
        """The columns of the data that slices need."""
        return list(dict.fromkeys(chain(*(d.values() for d in (self.columns, self.label_columns, self.scores.pairs)))))

    def slice(self, numbers: Sequence[int], epoch: int, rows: Sequence[Row] | None = None) -> Slice:
        """The slice of these row numbers; `rows`: the rows themselves, for a stream."""
        skipped: list[Skipped] = []
        sources = list(self.modalities)
        fetched = self._fetch(numbers, sources) if rows is None else dict(zip(numbers, rows, strict=True))
        batches = {source: self._batch(source, numbers, epoch, fetched, skipped) for source in sources}
        ids = {name: torch.from_numpy(found) for name, found in self._ids(numbers, fetched).items()}
        row = torch.from_numpy(np.array(numbers, dtype=np.int64))
        return Slice(batches, row, ids, tuple(skipped), epoch, scores=self.scores.of(numbers, fetched))

    def with_mined(self, part: Slice, wanted: Mapping[str, Sequence[int]]) -> Slice:
        """The slice plus mined rows; `wanted`: pair -> the numbers of its node b's. Unreadable cells are left out."""
        mined: dict[str, Batch | None] = {}
        for pair in self.pairs:
            if pair.name in wanted:
                source, numbers = self.sources[pair.b], wanted[pair.name]
                mined[pair.name] = self._batch(source, numbers, part.epoch, self._fetch(numbers, [source]), [])
        more = torch.cat([torch.zeros(0, dtype=torch.int64), *(b.row for b in mined.values() if b is not None)])
        ids = {
            name: torch.cat([part.ids[name], torch.from_numpy(x)]) for name, x in self._ids(more.tolist(), {}).items()
        }
        return replace(part, mined=mined, row=torch.cat([part.row, more]), ids=ids)

    def _batch(
        self, source: str, numbers: Sequence[int], epoch: int, fetched: Mapping[int, Row], skipped: list[Skipped]
    ) -> Batch | None:
        """The batch of the rows that have this source, None if none has; unreadable cells are added to `skipped`."""
        if (store := self.cache.stores.get(source)) is not None:
            new = {n: self._load(source, n, epoch, fetched) for n in store.unknown(numbers)}
            lasting = all(lasts for _, lasts in new.values())
            if lasting and store.fill({n: found for n, (found, _) in new.items()}, self.cache.left):
                return store.batch(numbers, skipped)
            del self.cache.stores[source]  # not all alike, or no room: cache row by row, and reload what it held
            for number, (found, lasts) in new.items():
                if lasts:
                    self.cache.add(source, number, found)
            fetched = {**self._fetch(numbers, [source]), **fetched}
        samples, present, kept = [], [], self.cache.found[source]
        for number, found in zip(numbers, map(kept.get, numbers, repeat(UNREAD)), strict=True):
            if found is UNREAD:
                found, lasts = self._load(source, number, epoch, fetched)
                if lasts:
                    self.cache.add(source, number, found)
            if isinstance(found, Skipped):
                skipped.append(found)
            elif found is not None:
                samples.append(found)
                present.append(number)
        if not samples:
            return None
        batch = self.modalities[source].collate(samples)
        batch.row = torch.tensor(present, dtype=torch.int64)
        return batch

    def _fetch(self, numbers: Sequence[int], sources: Sequence[str]) -> dict[int, Row]:
        """The rows that are not fully cached, in one read."""
        wanted = list(dict.fromkeys(chain.from_iterable(self.cache.unknown(source, numbers) for source in sources)))
        columns = list(dict.fromkeys(self.columns[source] for source in sources))
        return dict(zip(wanted, self.rows.fetch(wanted, columns), strict=True)) if wanted else {}

    def _load(self, source: str, number: int, epoch: int, fetched: Mapping[int, Row]) -> tuple[Found, bool]:
        """What a cell loads as, and whether that is the same in every epoch."""
        column, modality = self.columns[source], self.modalities[source]
        cell = fetched[number].get(column)
        draws = Draws(self.seed, epoch, number, source)
        if is_null(cell):
            return None, True
        cell = self._resolved(source, number, cell)
        try:
            return modality.load(cell, draws), not draws.used
        except BadSample as error:
            return Skipped(number, column, blamed(cell, modality.files, str(error))), not draws.used
        except Exception as error:
            error.add_note(f"while loading row {number}, column {column!r} of {self.rows.label}")
            raise

    def _ids(self, numbers: Sequence[int], fetched: Mapping[int, Row]) -> dict[str, identity.Ids]:
        if not self.rows.streaming:
            at = self.rows.places(numbers)
            return {name: every[at] for name, every in self.ids.items()}
        found: dict[str, identity.Ids] = {}
        for target in self.targets:
            column = self.label_columns[target.name]
            found[target.name] = class_numbers(target, [fetched[n].get(column) for n in numbers], numbers)
        for pair in self.pairs:
            if pair.ids:
                column = self.label_columns[pair.name]
                labels = [fetched[n].get(column) for n in numbers]
                found[pair.name] = identity.label_ids(labels, numbers, f"ids={pair.ids!r} of pair {pair.name!r}")
            elif pair.symmetric or pair.target:
                found[pair.name] = identity.row_ids(numbers)
            else:  # a stream cannot be searched for repeats in advance: the content of the second node is the id
                found[pair.name] = self._contents(pair.b, numbers, fetched)
            if pair.negatives:
                found[negatives_of(pair)] = self._contents(pair.negatives, numbers, fetched)
        return found

    def _contents(self, node: str, numbers: Sequence[int], fetched: Mapping[int, Row]) -> identity.Ids:
        cells = [self._resolved(node, n, fetched[n].get(self.columns[node])) for n in numbers]
        keys = [identity.content_key(cell, READ_AGAIN if self._reads_files(node) else 0) for cell in cells]
        return np.array([identity.row_id(n) if k is None else k for k, n in zip(keys, numbers, strict=True)])

    def decodes_on(self, room: float) -> bool:
        """Whether loader processes are worth it: decoded rows do not fit the cache, or are slow to load every epoch.

        The first rows decide.

        Args:
            room: bytes that the cache may take.
        """
        looked_at = self.rows.numbers()[:8].tolist()
        self.cache.room = math.inf
        slow = self.slow(looked_at, epoch=0)  # times a second load: what the cache lacks by then it will never hold
        used = sum(bytes_of(kept[n]) for kept in self.cache.found.values() for n in looked_at if n in kept)
        self.cache.room = 0.0
        return used * len(self.rows) / len(looked_at) > room or slow

    def slow(self, numbers: Sequence[int], epoch: int, rows: Sequence[Row] | None = None) -> bool:
        """Whether `slice` of these rows, a second time, is slow enough to justify starting loader processes."""
        self.slice(numbers, epoch, rows)  # the first time also loads libraries and tokenizers
        began = time.perf_counter()
        self.slice(numbers, epoch, rows)
        return time.perf_counter() - began > SLOW * max(1, len(numbers))


def _without_module(modality: Modality) -> Modality:
    if not isinstance(getattr(modality, "encoder", None), nn.Module):
        return modality
    light = copy.copy(modality)
    object.__setattr__(light, "encoder", None)  # loaders call only load and collate, which do not use it
    return light
