"""The types that all parts of multicl share.

Adapters (`multicl.modalities`, or anyone's plug-in) import this file and nothing else of the core.
Dimensions: B rows of a batch, D width of a projection, W width of an encoder's features.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, runtime_checkable

from multicl.batch import Batch as Batch  # re-exported: adapters import it from here

if TYPE_CHECKING:  # torch is imported only where it is used, so that `multicl --help` stays instant
    from torch import Tensor, nn

    from multicl.distributed import World
    from multicl.training.bank import Bank

Kind = Literal["strong", "weak", "local"]
"""Kind of view. strong: to compare with another view of the same; weak: with a caption; local: a crop (multi-crop)."""
MoreKeys = Literal["queue", "negatives", "mine"]
"""The settings of a pair that give rows keys beyond the two views."""
Sample = Any
"""What `Modality.load` makes of one cell, as input of `Modality.collate`; picklable."""


class InputError(ValueError):
    """A user's input cannot be used; the message names it and the way out. Shown without a traceback."""


class BadSample(InputError):
    """A cell cannot be read (corrupt file, empty string). The row is counted and left out, or stops the run."""


@dataclass(frozen=True)
class Embedded:
    """One view of one batch on this rank: present rows only, so the two sides of a pair may differ in length."""

    z: Tensor
    """[B, D] float32, the head's output; the objective normalises it (cosine) or not (dot)."""
    row: Tensor
    """[B] int64, stable row of the data set."""
    id: Tensor
    """[B] int64, what the row is about: rows of equal id are positives (or ignored, if the pair says so)."""
    h: Tensor | None = None
    """[B, W] the encoder's features, if a term needs them."""
    score: Tensor | None = None
    """[B] float32 target similarity of the row's two sides, NaN where unknown; None if the pair has no `target`."""

    def __len__(self) -> int:
        return int(self.z.shape[0])

    def __getitem__(self, index: Tensor) -> Embedded:
        h, score = (None if x is None else x[index] for x in (self.h, self.score))
        return Embedded(self.z[index], self.row[index], self.id[index], h, score)


@dataclass(frozen=True)
class Extra:
    """More keys for one side: a queue (the same on every rank, detached), mined or explicit negatives (with gradients).

    They are never positives by row; equal ids count as everywhere.
    """

    z: Tensor
    """[X, D] output of a head; the objective normalises it."""
    row: Tensor
    """[X] int64."""
    id: Tensor
    """[X] int64."""
    same_row: Literal["ignore", "negative"] = "ignore"
    """"ignore": a key with the query's own row is left out (a queue). "negative": rows are not compared, only ids."""


@dataclass(frozen=True)
class Context:
    """What an objective gets besides its two views."""

    world: World
    """The ranks; means are taken over the rows of all of them."""
    step: int = 0
    """0-based."""
    progress: float = 0.0
    """Fraction of the run that is done, in [0, 1], for schedules."""
    symmetric: bool = False
    """Whether both views are draws of one node, so that both are rows and columns of one matrix (NT-Xent)."""
    both: bool = True
    """True: both sides' rows are queries; False: b's are keys only (of momentum towers, or global views for crops)."""
    equal_ids: Literal["positive", "ignore"] = "positive"
    """How rows of equal id relate; "ignore": neither positive nor negative."""
    extra_a: tuple[Extra, ...] = ()
    """More keys for the rows of a, and also for those of b if `symmetric`."""
    extra_b: tuple[Extra, ...] = ()
    """More keys for the rows of b."""
    told: bool = True
    """Whether values besides the loss are logged on this step; if False, the objective may leave them out."""
    bank_a: Bank | None = None
    """If the pair has banks: side a's vector of every row of the data, with which b's rows are compared."""
    bank_b: Bank | None = None
    """Side b's bank, for a's rows; for a pair of one node, the same bank."""

    def refuse_extras(self, objective: str) -> None:
        """Refuse extra keys, for objectives that do not support them.

        Raises:
            InputError: there are some.
        """
        if self.extra_a or self.extra_b:
            raise InputError(
                f"{objective} takes no queue and no explicit negatives: use a soft-max objective (InfoNCE)"
            )


class Objective(Protocol):
    """One idea of one paper: a frozen dataclass of settings that builds a module.

    Optional: `extras`, a class variable that names the `MoreKeys` that it supports; if absent, all.
    """

    def build(self, dims: tuple[int, int]) -> nn.Module:
        """An `nn.Module` that owns temperature, prototypes or weights; `dims` are the widths of its two sides.

        Its forward(a: Embedded, b: Embedded, context: Context) -> dict[str, Tensor] returns "loss", the mean over the
        rows of ALL ranks (`World.mean`), and scalars to log.
        """
        ...


class Encoder(Protocol):
    """An `nn.Module`: Batch of B rows -> [B, width]. It normalises its inputs and computes spectrograms itself."""

    width: int

    def __call__(self, batch: Batch) -> Tensor:
        """[B, width] features of B rows."""
        ...


class Half(NamedTuple):
    """An encoder as one half of a two-tower model of transformers: CLIP, SigLIP, CLAP."""

    model: nn.Module
    """transformers' own model of this half, trained."""
    config: Any
    """Configuration of the whole two-tower model; None if the adapter has only that of its half."""
    processor: Callable[[], Any]
    """Makes the processor of this half's cells: a tokenizer, an image processor, a feature extractor."""
    usage: str
    """Lines of Python that compute vectors [N, D] from `model` and `processor`, for the model card."""
    notes: str = ""
    """Further remarks for the model card."""


@runtime_checkable
class Modality(Protocol):
    """One domain's adapter: a frozen dataclass of settings; `encoder` first and positional, the rest keyword-only.

    Settings are plain values (str, int, float, bool, tuples, other such dataclasses) so that they can be saved as
    JSON and typed on a command line; `encoder` may also be the user's own `nn.Module`.

    Optional: `own`, a class variable that names settings in which nodes of one tower may differ, like `column`;
    `export` (`multicl.export.Exports`); `half` (`multicl.two_towers.HalfOfTwo`); and `tuned`, a property that says
    whether pretrained weights are trained as a whole.
    """

    @property
    def column(self) -> str | None:
        """The column of the data that the node reads; None: the column of the node's name."""
        ...

    @property
    def tower(self) -> str | None:
        """Nodes with the same tower share its weights; None: the node's name."""
        ...

    @property
    def source(self) -> Hashable:
        """The settings that determine load, collate and view: nodes of equal (column, source) are decoded and viewed
        once."""
        ...

    @property
    def files(self) -> bool:
        """Whether a string cell is a file's path; relative paths start at the folder of the table that names them."""
        ...

    def load(self, raw: Any, rng: random.Random | None) -> Sample:
        """One cell -> one sample, in a loader's worker; `rng` picks one of several captions, or the place of a crop.

        Without `rng` the choice is deterministic (evaluation), and several threads may call it at once. A sample for
        which nothing was drawn may be cached.

        Raises:
            BadSample: the cell cannot be read; the message says what is wrong with it, not which row it is.
        """
        ...

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """At least one sample -> Batch on the CPU; pads, and sets `lengths` (and `padded`) if rows differ in length."""
        ...

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        """One random view of the whole batch, on the batch's device.

        Args:
            seeds: [B] int64, one per row, on any device (in training, the CPU): equal seeds give equal draws on any
                device and in any grouping of rows. None: the deterministic view of evaluation.
            kind: "strong" for two views of one thing, "weak" to compare with a caption, "local" for a small part, which
                may have another shape; an adapter that has no parts gives a strong view instead.
        """
        ...

    def build(self, weights: bool = True) -> nn.Module:
        """The Encoder, an `nn.Module`; `weights=False`: only the architecture, without a download."""
        ...

    def save(self, folder: Path) -> None:
        """Write what `restored` needs to build without a hub (a config, a tokenizer), if anything."""
        ...

    def restored(self, folder: Path) -> Modality:
        """These settings after loading: names on the hub are replaced by what `save` wrote to `folder`."""
        ...

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """One cell for a page: (MIME type, bytes), small enough to embed."""
        ...


@runtime_checkable
class Shows(Protocol):
    """Optional protocol of an adapter, for `multicl views`."""

    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        """Each row of a batch or of a view, in the form of `preview`: what the encoder is about to see or hear."""
        ...


@dataclass(frozen=True)
class Suggestion:
    """An adapter's suggestion for some cells."""

    settings: dict[str, Any]
    """The adapter's fields that should differ from their defaults."""
    temperature: float
    """For two views of one thing."""
    why: str
    """In a few words."""
    pretrained: bool = False
    """Whether the encoder is pretrained, and so needs a lower learning rate than a new head."""


@runtime_checkable
class Suggests(Protocol):
    """Optional protocol of an adapter, for `multicl fit`."""

    def suggest(self, cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
        """Settings that suit these cells and the machine.

        Args:
            cells: at least one, of which some may be unreadable. accelerator: whether there is a GPU.
            pretrained: start from an encoder of the hub.
        """
        ...


@runtime_checkable
class Several(Protocol):
    """Optional protocol of an adapter whose cells may hold several alternatives, such as captions.

    Training draws one of them each time (`load` with an rng); evaluation counts them all.
    """

    def each(self, raw: Any) -> Sequence[Any]:
        """One cell -> the alternatives in it, each a cell for `load`; a cell without alternatives gives itself."""
        ...


@runtime_checkable
class Alike(Protocol):
    """Optional protocol of an adapter whose samples may all have the same size, such as pictures.

    Training keeps such samples as one tensor, on the GPU if there is room, but not if batches have `lengths`.
    """

    def alike(self, sample: Sample) -> Hashable | None:
        """A key for how a sample is collated: in batches of samples with equal keys, its row is always the same.

        None: its row may depend on the other samples.
        """
        ...

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """As `Modality.collate`."""
        ...


@runtime_checkable
class Single(Protocol):
    """Optional protocol of an adapter, so that `Model.embed` takes a single cell without a list around it."""

    def single(self, values: Any) -> bool:
        """Whether `values` is a single cell rather than several to iterate over.

        Raises:
            BadSample: it could be either; the message follows "NODE=" and gives the ways out.
        """
        ...
