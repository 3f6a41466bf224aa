"""Hard negatives mined from all rows: at intervals, every row is embedded with the current weights and searched.

The result is a table: row of a -> rows of b that are near it but about something else. A batch also loads the rows that
the table lists for its own rows; they are embedded with gradients like any other. Ranks share the work in blocks of
rows, so the table is bitwise the same for any number of ranks. It is a function of weights, step, settings and rows, so
it is cached in the run's folder under their hash. It also goes into checkpoints, because by then the weights that it
came from are gone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from multicl.config import to_plain
from multicl.data.cells import is_null, resolve_path
from multicl.data.reader import Reader
from multicl.data.slice import Slice
from multicl.distributed import World
from multicl.files import writing
from multicl.model import Model
from multicl.ops.hardest import dots
from multicl.ops.nearest import Nearest, tiles
from multicl.pairs import Pair
from multicl.seeds import hash62
from multicl.settings import Mine
from multicl.towers import Towers
from multicl.training.norms import average_statistics
from multicl.types import InputError

BLOCK = 2048
"""Rows that one rank embeds, or searches for, at a time."""
KEPT = 8
"""Number of tables, per mining pair, that are kept in the run's folder."""


class Miner:
    """Tables of hard negatives, for the pairs that ask for them.

    Args:
        towers: not wrapped. reader: of all rows. seed: the run's.
        folder: where tables are cached; None: nowhere.
        note: shows a line to the user.

    Raises:
        InputError: a pair mines, and the rows are a stream.
    """

    def __init__(
        self,
        towers: Towers,
        reader: Reader,
        world: World,
        seed: int,
        folder: Path | None = None,
        note: Callable[[str], None] = print,
    ) -> None:
        self.towers, self.reader, self.world, self.seed = towers, reader, world, seed
        self.folder, self.note = folder, note
        self.pairs = [(pair, pair.mine) for pair in towers.pairs if pair.mine]
        self.tables: dict[str, Tensor] = {}
        """Pair -> [N, k] int64 positions of b's rows, on the CPU; -1 where there is none."""
        if self.pairs and reader.rows.streaming:
            raise InputError(
                f"pair {self.pairs[0][0].name!r}: mine= searches all rows, and a stream cannot be searched: read the "
                "data without streaming, or leave mine out"
            )

    @property
    def most(self) -> int:
        """Largest number of rows that a view can have, as a multiple of the batch's rows."""
        return max([1, *(mine.negatives for _, mine in self.pairs)])

    def refresh(self, step: int) -> None:
        """Before a step, rebuild the tables that are due. Collective: all ranks must call it."""
        for pair, mine in self.pairs:
            if step >= mine.start and (step - mine.start) % mine.every == 0:
                average_statistics(self.towers, self.world)  # all ranks must embed alike
                key = self._key(pair, step)
                table = self._read(pair, mine, key)
                if table is None:
                    table = self._search(pair, mine, step)
                    self._write(pair, key, table)
                self.tables[pair.name] = table

    def bring(self, part: Slice) -> Slice:
        """The slice with the mined negatives of its rows added."""
        if not self.tables:
            return part
        places, numbers = self.reader.rows.places(part.row.tolist()), self.reader.rows.numbers()
        wanted = {name: table[places].flatten() for name, table in self.tables.items()}
        return self.reader.with_mined(part, {n: numbers[at[at >= 0].numpy()].tolist() for n, at in wanted.items()})

    def state(self) -> dict[str, Tensor]:
        """The tables, for a checkpoint."""
        return {f"mined:{name}": table for name, table in self.tables.items()}

    def load(self, kept: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take the tables out of a checkpoint's state, and return the rest.

        Raises:
            InputError: they are for another number of rows or of negatives.
        """
        for pair, mine in self.pairs:
            table = kept.get(f"mined:{pair.name}")
            if table is None:
                continue
            if list(table.shape) != self._shape(mine):
                raise InputError(
                    f"the checkpoint's mined negatives of pair {pair.name!r} are {list(table.shape)}, but this run "
                    f"needs {self._shape(mine)}: resume with the data and settings of its recipe.yaml"
                )
            self.tables[pair.name] = table
        return {name: t for name, t in kept.items() if not name.startswith("mined:")}

    def _shape(self, mine: Mine) -> list[int]:
        return [len(self.reader.rows), mine.negatives]

    def _search(self, pair: Pair, mine: Mine, step: int) -> Tensor:
        """Build the [N, k] table of a pair, on the CPU."""
        za, has_a = self._embed(pair, pair.a)
        zb, has_b = (za, has_a) if pair.symmetric else self._embed(pair, pair.b)
        ids = torch.from_numpy(self.reader.ids[pair.name]).to(za.device)
        positive = (za * zb).sum(1)
        limit = highest(mine, positive)
        found = []
        for number, rows in self._blocks():
            dice = torch.Generator().manual_seed(hash62("mine", self.seed, pair.name, step, number))
            found.append(near_negatives(za[rows], ids[rows], limit[rows], zb, ids, has_b, mine, dice))
        none = ids.new_zeros(0, mine.negatives)
        table = self._from_all(torch.cat([none, *found])).masked_fill(~(has_a & has_b)[:, None], -1)
        there = table >= 0
        self.note(
            f"pair {pair.name!r}, step {step}: {int(there.sum())} hard negatives for {int(there.any(1).sum())} rows; "
            f"mean similarity {mean_similarity(za, zb, table):.3f}, of positives {positive[has_a & has_b].mean():.3f}"
        )
        return table.cpu()

    def _embed(self, pair: Pair, node: str) -> tuple[Tensor, Tensor]:
        """([N, D] embeddings of a node's rows in the pair's space, [N] bool which exist), the same on every rank."""
        model, modality = Model(self.towers, pair.space), self.towers.modalities[node]
        column, cosine = self.reader.columns[node], getattr(pair.objective, "similarity", "cosine") == "cosine"
        device = self.towers.device
        vectors, there = [torch.zeros(0, self.towers.dim(node, pair.space))], [torch.zeros(0, dtype=torch.int64)]
        for _, rows in self._blocks():
            numbers = self.reader.rows.numbers()[rows].tolist()
            cells = [row.get(column) for row in self.reader.rows.fetch(numbers, [column])]
            present = [at for at, cell in enumerate(cells) if not is_null(cell)]
            bases = [self.reader.rows.base_of(numbers[at]) if modality.files else None for at in present]
            given = [resolve_path(cells[at], base) for at, base in zip(present, bases, strict=True)]
            skipped: dict[int, str] = {}
            z = vectors[0].new_zeros(len(cells), vectors[0].shape[1])
            z[present] = model.embed_node(node, given, normalize=cosine, skipped=skipped)
            good = torch.zeros(len(cells), dtype=torch.int64)
            good[[at for number, at in enumerate(present) if number not in skipped]] = 1
            vectors.append(z)
            there.append(good)
        return self._from_all(torch.cat(vectors).to(device)), self._from_all(torch.cat(there).to(device)) > 0

    def _blocks(self, rank: int | None = None) -> list[tuple[int, slice]]:
        """The numbered blocks of rows that belong to a rank; None: to this one."""
        rank, rows = self.world.rank if rank is None else rank, len(self.reader.rows)
        starts = enumerate(range(0, rows, BLOCK))
        return [(n, slice(at, min(at + BLOCK, rows))) for n, at in starts if n % self.world.size == rank]

    def _from_all(self, mine: Tensor) -> Tensor:
        """Values for the rows of this rank's blocks -> [N, ...] those of all rows, in row order."""
        found = self.world.all_rows(mine, self.world.counts(len(mine), mine.device))
        order = [torch.arange(s.start, s.stop) for rank in range(self.world.size) for _, s in self._blocks(rank)]
        out = torch.empty_like(found)
        out[torch.cat(order).to(out.device)] = found
        return out

    def _key(self, pair: Pair, step: int) -> str:
        """A hash of all that determines a table: weights, settings, ids, and the seed and step of random draws."""
        digest = hashlib.blake2b(repr((self.seed, step, to_plain(pair))).encode(), digest_size=12)
        digest.update(self.reader.ids[pair.name].tobytes())
        for name, t in self.towers.state_dict().items():
            if not name.startswith("objectives."):
                digest.update(name.encode())
                digest.update(t.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    def _read(self, pair: Pair, mine: Mine, key: str) -> Tensor | None:
        """The cached table of that key, read by rank 0 and sent to all; None if there is none."""
        table = None
        if self.folder and self.world.rank == 0 and (path := self._path(pair, key)).exists():
            try:
                table = load_file(path)["table"]
            except (OSError, SafetensorError, KeyError):  # damaged: it is made again
                table = None
            if table is not None and list(table.shape) != self._shape(mine):
                table = None
        device = self.towers.device
        if not self.world.any(table is not None, device):
            return None
        empty = torch.zeros(self._shape(mine), dtype=torch.int64)
        return self.world.sum((empty if table is None else table).to(device)).cpu()

    def _write(self, pair: Pair, key: str, table: Tensor) -> None:
        if not self.folder or self.world.rank != 0:
            return
        path = self._path(pair, key)
        beside = path.with_suffix(".new")
        try:
            with writing(self.folder):
                self.folder.mkdir(parents=True, exist_ok=True)
                save_file({"table": table.contiguous()}, beside)
                beside.replace(path)
        except InputError:
            with suppress(OSError):
                beside.unlink()
            raise
        older = sorted(self.folder.glob("*.safetensors"), key=lambda p: p.stat().st_mtime_ns)
        for old in older[: -KEPT * len(self.pairs)]:
            old.unlink(missing_ok=True)

    def _path(self, pair: Pair, key: str) -> Path:
        assert self.folder
        return self.folder / f"{pair.name}-{key}.safetensors"


def highest(mine: Mine, positive: Tensor) -> Tensor:
    """[N] similarity of each row and its positive -> [N] upper limit for the similarity of its negatives."""
    limit = torch.full_like(positive, torch.inf if mine.max_similarity is None else mine.max_similarity)
    if mine.absolute_margin is not None:
        limit = limit.minimum(positive - mine.absolute_margin)
    if mine.relative_margin is not None:
        limit = limit.minimum(positive - mine.relative_margin * positive.abs())
    return limit


def mean_similarity(za: Tensor, zb: Tensor, table: Tensor) -> Tensor:
    """Mean similarity of rows and their negatives, 0 if there are none; never gathers the [N, k, D] vectors at once.

    Args:
        za, zb: [N, D]. table: [N, k] int64 positions of zb's rows; -1 where there is none.
    """
    row, at = (table >= 0).nonzero(as_tuple=True)
    return dots(za, zb, row, table[row, at]).mean() if len(row) else za.new_zeros(())


def near_negatives(
    queries: Tensor, query_ids: Tensor, limit: Tensor, keys: Tensor, key_ids: Tensor, there: Tensor, mine: Mine,
    dice: torch.Generator,
) -> Tensor:  # fmt: skip
    """Find the keys that are near each query but about something else.

    Args:
        queries: [n, D]. query_ids: [n] int64. limit: [n] greatest similarity of a negative. keys: [N, D], all of them.
            key_ids: [N] int64. there: [N] bool, False for keys to leave out. mine: how many to take, and which of the
            nearest. dice: a CPU generator, used if `mine.among` is set.

    Returns:
        [n, mine.negatives] int64 positions of keys, nearest first unless drawn; -1 where there are no more.
    """
    nearest = Nearest(queries, mine.skip + (mine.among or mine.negatives))
    for rows, columns in tiles(len(queries), len(keys), queries.device):
        similarity = queries[rows] @ keys[columns].T
        similarity[similarity > limit[rows, None]] = -torch.inf
        similarity[query_ids[rows, None] == key_ids[columns]] = -torch.inf
        similarity[:, ~there[columns]] = -torch.inf
        nearest.add(rows, similarity, columns.start)
    places = nearest.places.masked_fill(~nearest.found, -1)[:, mine.skip :]
    if mine.among:
        lots = torch.rand(places.shape, generator=dice).to(places.device).masked_fill(places < 0, -1.0)
        places = places.gather(1, lots.topk(mine.negatives, dim=1).indices)
    return places
