"""The nouns that every part of multicl speaks in.

Adapters (`multicl.modalities`, or anybody's plug-in) import this file and nothing else of the core.
Dimensions: B rows of a batch, D width of a projection, W width of an encoder's features.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from multicl.batch import Batch as Batch  # one of the nouns: adapters import it from here

if TYPE_CHECKING:  # torch is imported by whoever computes, so that `multicl --help` stays instant
    from torch import Tensor, nn

    from multicl.distributed import World
    from multicl.training.bank import Bank

Kind = Literal["strong", "weak", "local"]
"""Of a view: strong beside another view of the same, weak beside a caption, local: a small part (multi-crop)."""
MoreKeys = Literal["queue", "negatives", "mine"]
"""A setting of a pair by which rows get keys beyond the two views."""
Sample = Any
"""What `Modality.load` makes of one cell and `Modality.collate` understands; picklable."""


class InputError(ValueError):
    """What a user gave cannot be used; the message names it and the way out. Printed without a traceback."""


class BadSample(InputError):
    """One cell cannot be read (corrupt file, empty string). The row is counted and left out, or stops the run."""


@dataclass(frozen=True)
class Embedded:
    """One view of one batch on this rank: present rows only; two of a pair may differ in length."""

    z: Tensor
    """[B, D] float32 as the head gave it; the objective normalises (cosine) or not (dot)."""
    row: Tensor
    """[B] int64 stable row of the data set."""
    id: Tensor
    """[B] int64 what the row is about: rows of equal id are positives (or ignored, as the pair says)."""
    h: Tensor | None = None
    """[B, W] what the encoder gave, where a term asks for it."""
    score: Tensor | None = None
    """[B] float32 how near a row's two should be, as the pair's target says, NaN where it does not; None: no target."""

    def __len__(self) -> int:
        return int(self.z.shape[0])

    def __getitem__(self, index: Tensor) -> Embedded:
        h, score = (None if x is None else x[index] for x in (self.h, self.score))
        return Embedded(self.z[index], self.row[index], self.id[index], h, score)


@dataclass(frozen=True)
class Extra:
    """More keys for one side: a queue (the same on every rank, detached), mined or explicit negatives (with gradients).

    Never positive by row; equal ids mean what they mean everywhere.
    """

    z: Tensor
    """[X, D] as a head gives it; the objective normalises."""
    row: Tensor
    """[X] int64."""
    id: Tensor
    """[X] int64."""
    same_row: Literal["ignore", "negative"] = "ignore"
    """"ignore": a key of the query's own row counts nowhere (a queue). "negative": rows mean nothing, ids alone do."""


@dataclass(frozen=True)
class Context:
    """What an objective may know beside its two views."""

    world: World
    """The ranks, over whose rows together means are taken."""
    step: int = 0
    """From 0 on."""
    progress: float = 0.0
    """Share of the run that is done, in [0, 1], for schedules."""
    symmetric: bool = False
    """Both views are draws of one node: they stand on both sides of one symmetric matrix (NT-Xent)."""
    both: bool = True
    """Either side's rows ask; False: b holds keys alone (a momentum encoder's, or whole views beside local ones)."""
    equal_ids: Literal["positive", "ignore"] = "positive"
    """What rows of equal id are to each other; "ignore": neither positive nor negative."""
    extra_a: tuple[Extra, ...] = ()
    """More keys for the rows of a; where the views are symmetric, for both."""
    extra_b: tuple[Extra, ...] = ()
    """More keys for the rows of b."""
    told: bool = True
    """What an objective gives beside the loss is looked at; False: it may leave it out."""
    bank_a: Bank | None = None
    """A vector for every row of the data, as side a has it: b's rows are compared with it, where the pair has banks."""
    bank_b: Bank | None = None
    """The same of side b, for a's rows; of one node, the same bank."""

    def refuse_extras(self, objective: str) -> None:
        """For objectives that know no keys beyond the two views.

        Raises:
            InputError: there are some.
        """
        if self.extra_a or self.extra_b:
            raise InputError(
                f"{objective} takes no queue and no explicit negatives: use a soft-max objective (InfoNCE)"
            )


class Objective(Protocol):
    """One idea of one paper: a frozen dataclass of settings that builds a module.

    It may have more: `extras`, a class variable that names those of `MoreKeys` that it takes, all if it is left out.
    """

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """An `nn.Module` that owns temperature, prototypes or weights; `dims` are the widths of its two sides.

        Its forward(a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor] holds "loss", the mean over the
        rows of ALL ranks (`World.mean`), and scalars to log.
        """
        ...


class Encoder(Protocol):
    """An `nn.Module`: Batch of B rows -> [B, width]. Normalisation of inputs and spectrograms are its own affair."""

    width: int

    def __call__(self, batch: Batch) -> Tensor:
        """[B, width] features of B rows."""
        ...


class Half(NamedTuple):
    """An encoder as one half of a two-tower model of transformers: CLIP, SigLIP, CLAP."""

    model: nn.Module
    """transformers' own model of this half, trained."""
    config: Any
    """Of the whole two-tower model; None where the adapter keeps its own half's alone."""
    processor: Callable[[], Any]
    """Makes what reads this half's cells: a tokenizer, an image processor, a feature extractor."""
    usage: str
    """Lines of Python that give its vectors [N, D] by `model` and `processor`, for the model card."""
    notes: str = ""
    """What else is to be known, for the model card."""


@runtime_checkable
class Modality(Protocol):
    """One domain's adapter: a frozen dataclass of settings; `encoder` first and positional, the rest keyword-only.

    Settings are plain values (str, int, float, bool, tuples, other such dataclasses) so that they can be saved as
    JSON and typed on a command line; `encoder` may also be the user's own `nn.Module`.

    It may have more: `own`, a class variable that names settings in which nodes of one tower may differ, as in their
    column; `export` (`multicl.export.Exports`); `half` (`multicl.two_towers.HalfOfTwo`); and `tuned`, a property that
    says whether weights that were trained elsewhere train as a whole.
    """

    @property
    def column(self) -> str | None:
        """Column of the rows; None: the node's name."""
        ...

    @property
    def tower(self) -> str | None:
        """Nodes that name one tower share its weights; None: the node's name."""
        ...

    @property
    def source(self) -> Hashable:
        """What decides load, collate and view: nodes of equal (column, source) are decoded and viewed once."""
        ...

    @property
    def files(self) -> bool:
        """A string cell is a file's path: relative ones are looked for beside the table that names them."""
        ...

    def load(self, raw: Any, rng: random.Random | None) -> Sample:
        """One cell -> one sample, in a loader's worker; `rng` picks one of several captions, seeks a crop.

        Without `rng` the choice is deterministic (evaluation), and several threads may call it at once. A sample for
        which nothing was drawn may be cached.

        Raises:
            BadSample: the cell cannot be read; the message says what is wrong with it, not which row it is.
        """
        ...

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """At least one sample -> Batch on the CPU; pads, and keeps `lengths` (and `padded`) where rows differ."""
        ...

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        """One random view of the whole batch, on the batch's device.

        Args:
            seeds: [B] int64, one a row, on any device (while training, the CPU): equal seeds give equal draws on any
                device and in any grouping of rows. None: the deterministic view of evaluation.
            kind: "strong" for two views of one thing, "weak" beside a caption, "local" for a small part of it, which
                may have another shape; an adapter that knows no parts gives a strong one.
        """
        ...

    def build(self, weights: bool = True) -> nn.Module:
        """The Encoder, an `nn.Module`; `weights=False`: the architecture alone, without a download."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `restored` needs to build without a hub (a config, a tokenizer), if anything."""
        ...

    def restored(self, folder: Path) -> Modality:
        """These settings after loading: names of the hub replaced by what `save` wrote to `folder`."""
        ...

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """One cell for a page: (MIME type, bytes), small enough to embed."""
        ...


@runtime_checkable
class Shows(Protocol):
    """What an adapter may have beside `Modality`'s: for `multicl views`."""

    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        """Each row of a batch or a view of it, as `preview` gives a cell: what the encoder is about to see or hear."""
        ...


@dataclass(frozen=True)
class Suggestion:
    """What an adapter would do with some cells."""

    settings: dict[str, Any]
    """Of the adapter's fields, those that should differ from their defaults."""
    temperature: float
    """For two views of one thing."""
    why: str
    """In a few words."""
    pretrained: bool = False
    """The encoder begins with trained weights, which want a lower learning rate than a fresh head."""


@runtime_checkable
class Suggests(Protocol):
    """What an adapter may have beside `Modality`'s: for `multicl fit`."""

    def suggest(self, cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
        """Settings that suit these cells and the machine.

        Args:
            cells: at least one, of which some may be unreadable. accelerator: a GPU is there.
            pretrained: begin with an encoder from the hub.
        """
        ...


@runtime_checkable
class Several(Protocol):
    """What an adapter may have beside `Modality`'s, whose cells may hold several of what they are about: captions.

    Training draws one of them each time (`load` with an rng); evaluation counts them all.
    """

    def each(self, raw: Any) -> Sequence[Any]:
        """One cell -> the cells that it stands for, each as `load` takes it; itself where it is but one."""
        ...


@runtime_checkable
class Alike(Protocol):
    """What an adapter may have beside `Modality`'s, whose samples may all be of one size: pictures.

    Training keeps such as one tensor, on the GPU where there is room. Batches that have `lengths` it does not keep so.
    """

    def alike(self, sample: Sample) -> Hashable | None:
        """What decides how a sample is collated: among those of which it is equal, its row is the same in any batch.

        None: its row may hang on others.
        """
        ...

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """As `Modality.collate`."""
        ...


@runtime_checkable
class Single(Protocol):
    """What an adapter may have beside `Modality`'s, so that `Model.embed` takes one cell without a list around it."""

    def single(self, values: Any) -> bool:
        """Whether these are one cell, or else several, to be iterated over.

        Raises:
            BadSample: they may be either; the message goes on from "NODE=" and gives the ways out.
        """
        ...
