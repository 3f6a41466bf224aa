"""Settings of the modality image: `Image`. Methods import the libraries that they need."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from multicl.modalities import checks
from multicl.modalities.image.libraries import library_of
from multicl.modalities.image.presets import LOCAL, SMALL, STRONG, WEAK, Augment, height_width, require
from multicl.modalities.image.reading import Reading, own_reading
from multicl.types import Batch, Half, Kind, Sample, Suggestion

if TYPE_CHECKING:
    import random

    from torch import Tensor, nn

    EncoderLike = str | nn.Module
else:
    EncoderLike = str  # all that a command line can name; an nn.Module comes from Python

Channels = Literal["rgb", "L", "ab", "a", "b", "Y", "CbCr"]
Stem = Literal["default", "cifar"]
CropMode = Literal["center", "squash"]
Interpolation = Literal["nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"]


@dataclass(frozen=True)
class Image:
    """Pictures as a modality. A batch holds "pixels": uint8 [B, 3, H, W] as loaded, float32 in [0, 1] as viewed.

    Raises:
        InputError: a setting out of its range.
    """

    encoder: EncoderLike = "small"
    """One of: "small" (a convolutional net for small pictures, 0.4 to 0.7 M parameters, which keeps positions);
    a torchvision classifier's name ("resnet18"); "timm/NAME"; "hf/ORG/NAME" or a folder with config.json (Hugging
    Face); or an `nn.Module` of your own: normalised float [B, C, h, w] -> [B, W] or [B, W, ...] (averaged)."""
    _: KW_ONLY
    column: str | None = None
    """Column of the data that holds the pictures; None: the one named like the node."""
    tower: str | None = None
    """Name of the tower; nodes with the same tower share its weights. None: the node's name."""
    size: int | tuple[int, int] = 32
    """Height and width in pixels that the encoder sees; one number: a square."""
    stored: int | tuple[int, int] | None = None
    """Greatest height and width, in pixels, at which training stores the pictures that random crops are cut from:
    longer sides are shrunk (those shorter than `size` enlarged), and a crop with fewer pixels than `size` is enlarged.
    A pixel takes 3 bytes, in memory and on the way to the device. None: twice `size`; for a `size` of up to 48, at most
    48, up to which views are fastest."""
    crop_mode: CropMode | None = None
    """How whole pictures of other proportions are fitted (timm's names): "center" scales them to cover the size and
    cuts out their centre; "squash" scales them to the size whatever their proportions, as for SigLIP. Random crops are
    cut from anywhere; with "squash", from the squashed picture. None: what a pretrained model of Hugging Face or timm
    is evaluated with; for others "center"."""
    crop_pct: float | None = None
    """Share of the height and width that evaluation looks at, around the centre, in (0, 1] (timm's name). Training's
    crops show things larger than whole pictures do (arXiv:1906.06423): after strong crops, less than 1 may be better.
    None: what the library of a pretrained model (timm, torchvision, Hugging Face) evaluates it with, mostly 0.875 to
    1; for others 1. Nodes of one column whose values differ have views of their own."""
    interpolation: Interpolation | None = None
    """How whole pictures are scaled, antialiased (Pillow's and timm's names). None: a pretrained model's own; for
    others "bicubic"."""
    channels: Channels = "rgb"
    """What the encoder sees; "L", "ab": lightness or colour of CIE Lab (CMC, arXiv:1906.05849); "a", "b": one channel
    of that colour; "Y", "CbCr": luma or colour as in JPEG."""
    fields: int = 2
    """Number of fields to which "small" pools the shorter side of a picture; the longer side gets more in proportion.
    With more fields it locates things better, which suits pictures with a common layout, such as icons."""
    stem: Stem = "default"
    """"cifar": a torchvision ResNet begins with a 3x3 convolution of stride 1 and no pooling, for small pictures."""
    pretrained: bool = True
    """Load the weights of a named model, if there are any; False: its architecture with random weights."""
    lora: int = 0
    """Rank of LoRA's updates (arXiv:2106.09685) to all linear layers of a model of Hugging Face or timm: only these and
    the heads are trained; 0: all weights are. Needs peft; an export merges them into the weights."""
    strong: Augment = field(default=STRONG)
    weak: Augment = field(default=WEAK)
    local: Augment = field(default=LOCAL)
    local_size: int | tuple[int, int] | None = None
    """Height and width of small views (a pair's `local_draws`), which the encoder must accept, too. None: half of
    `size`; SwAV uses 96 with 224."""

    projection: ClassVar[str] = "visual_projection"
    """Name of the layer after the image half in a two-tower model of transformers."""

    def __post_init__(self) -> None:
        checks.check_common("image", self.encoder, self.lora, '"small", a name, a folder (as a string)')
        height_width("size", self.size)
        for name in ("stored", "local_size"):
            if getattr(self, name) is not None:
                height_width(name, getattr(self, name))
        if self.crop_pct is not None:
            right = isinstance(self.crop_pct, int | float) and 0 < self.crop_pct <= 1
            require(right, "crop_pct", self.crop_pct, "in (0, 1]")
        modes = get_args(CropMode)
        require(self.crop_mode in (None, *modes), "crop_mode", self.crop_mode, f"one of {modes}")
        for name in ("strong", "weak", "local"):
            wanted = "an Augment, as SIMCLR of multicl.modalities.image"
            require(isinstance(getattr(self, name), Augment), name, getattr(self, name), wanted)
        names = get_args(Interpolation)
        require(self.interpolation in (None, *names), "interpolation", self.interpolation, f"one of {names}")
        require(self.fields in range(1, 17), "fields", self.fields, "a whole number, 1 to 16")
        require(self.channels in get_args(Channels), "channels", self.channels, f"one of {get_args(Channels)}")
        require(self.stem in get_args(Stem), "stem", self.stem, f"one of {get_args(Stem)}")

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return height_width("size", self.size)

    @property
    def stored_shape(self) -> tuple[int, int]:
        """The greatest (height, width) at which training stores pictures."""
        if self.stored is not None:
            return height_width("stored", self.stored)
        longer = max(self.shape)
        times = 2 if longer > SMALL else min(2, SMALL / longer)
        return round(times * self.shape[0]), round(times * self.shape[1])

    @property
    def local_shape(self) -> tuple[int, int]:
        """(height, width) of small views."""
        if self.local_size is not None:
            return height_width("local_size", self.local_size)
        height, width = self.shape
        return -(-height // 2), -(-width // 2)

    @cached_property  # a model's own may be in a file or on the hub; workers get it with the settings
    def whole(self) -> tuple[float, Interpolation, CropMode]:
        """How whole pictures are read: `crop_pct`, `interpolation` and `crop_mode`, with None resolved."""
        own = Reading()
        if self.pretrained and isinstance(self.encoder, str) and library_of(self.encoder) and self.stem == "default":
            own = own_reading(self.encoder, self.shape)
        how: Interpolation = next((known for known in get_args(Interpolation) if known == own.interpolation), "bicubic")
        mode: CropMode = "squash" if own.crop_mode == "squash" else "center"
        return self.crop_pct or own.crop_pct or 1.0, self.interpolation or how, self.crop_mode or mode

    @property
    def source(self) -> Hashable:
        """The settings that decide load, collate and view."""
        shapes = self.shape, self.stored_shape, self.local_shape
        return "image", *shapes, *self.whole, self.strong, self.weak, self.local

    @property
    def tuned(self) -> bool:
        """Whether pretrained weights are fine-tuned in full."""
        return checks.tuned(self)

    @property
    def files(self) -> bool:
        """Whether a string cell is a file's path: it is."""
        return True

    def load(self, raw: Any, rng: random.Random | None = None) -> Sample:
        """One cell -> uint8 [3, h, w] of the size, as `crop_mode` and `crop_pct` say.

        Args:
            rng: given in training, though nothing is drawn from it. The sample is then (pixels, aspect): the whole
                picture as `stored` says, and its original width / height divided by that of `size`.
            raw: encoded bytes, a path, a dict with "bytes" or "path", a PIL image, or an array ([H, W] or [H, W, C] of
                numpy, [C, H, W] of torch; integers in [0, 255] or floats in [0, 1]). The EXIF orientation is
                applied, transparent parts are put on white.

        Raises:
            BadSample: not a picture, corrupt, empty, too large, or an array of another shape or range.
        """
        from multicl.modalities.image import decode

        share, how, mode = self.whole
        if rng is None:
            return decode.load(raw, *self.shape, share, mode == "squash", how)
        pixels, (tall, wide) = decode.load_whole(raw, self.shape, self.stored_shape)
        return pixels, 1.0 if mode == "squash" else (wide * self.shape[0]) / (tall * self.shape[1])

    def single(self, values: Any) -> bool:
        """Whether these are one picture: a path, bytes, a PIL image, an array [H, W] or [H, W, C].

        Raises:
            BadSample: an array whose first dimension, of 3 or 4, may be channels or pictures.
        """
        from multicl.modalities.image import decode

        return decode.is_single(values)

    def collate(self, samples: Sequence[Sample]) -> Batch:
        """Samples of `load` -> Batch of "pixels" uint8 [B, 3, H, W]; in training also "extent", if it is needed.

        If pictures differ in size, H and W are those of `stored`, and each lies at the top left; see `kept.together`.
        """
        from multicl.modalities.image import kept

        if isinstance(samples[0], tuple):
            return Batch(kept.together(samples, self.stored_shape))
        return Batch({"pixels": kept.stack(samples)})

    def alike(self, sample: Sample) -> Hashable | None:
        """A key that training pictures share if they collate to the same rows in any batch; see `kept.kind`."""
        from multicl.modalities.image import kept

        return kept.kind(sample)

    def view(self, batch: Batch, seeds: Tensor | None, kind: Kind = "strong") -> Batch:
        """One random view, on the batch's device; seeds None: the pictures as they are.

        Returns:
            "pixels" float32 in [0, 1], [B, 3, h, w] of the size; for a local view, [B, 3, *local_shape].
        """
        from multicl.modalities.image import views

        pixels, extent, size = batch.get("pixels"), batch.tensors.get("extent"), self.shape
        if seeds is None:
            return Batch({"pixels": views.plain_view(pixels, size, extent)}, batch.row)
        if kind == "local":
            (height, width), size = size, self.local_shape
            if extent is not None and size[0] * width != size[1] * height:
                extent = extent.clone()  # not times a tensor of factors: that would be copied to a GPU
                extent[:, 2] *= (width * size[0]) / (height * size[1])
        settings = {"weak": self.weak, "strong": self.strong, "local": self.local}[kind]
        return Batch({"pixels": views.random_view(pixels, seeds, settings, size, extent)}, batch.row)

    def build(self, weights: bool = True) -> nn.Module:
        """The Encoder: Batch -> [B, width]. With `weights`, as for training, it logs a named checkpoint that gets
        random weights.

        Raises:
            InputError: an unknown encoder, weights that cannot be loaded, or a `size` that it cannot take.
        """
        from multicl.modalities.image import encoders

        if weights and not self.pretrained:
            encoders.warn_of_fresh(self.encoder)
        return encoders.build(self, weights and self.pretrained)

    def save(self, folder: Path) -> None:
        """Write the configuration of a Hugging Face model and its normalisation; nothing for other encoders."""
        if library_of(self.encoder) == "transformers":
            from multicl.modalities.image import huggingface

            assert isinstance(self.encoder, str)
            huggingface.save(self.encoder, folder)

    def restored(self, folder: Path) -> Image:
        """These settings after loading: no weights are fetched; a Hugging Face model is built from what `save` wrote.

        Raises:
            InputError: the encoder was a module of the user's own, which a folder cannot hold.
        """
        if not isinstance(self.encoder, str):
            raise checks.not_saved("image", self.encoder)
        encoder = str(folder) if (Path(folder) / "config.json").is_file() else self.encoder
        plain, (share, how, mode) = dataclasses.replace(self, encoder=encoder, pretrained=False), self.whole
        if plain.whole == self.whole:
            return plain
        return dataclasses.replace(plain, crop_pct=share, interpolation=how, crop_mode=mode)

    def forms(self, encoder: nn.Module) -> tuple[str, ...]:
        """The forms of `export` that can hold this encoder."""
        from multicl.modalities.image import export

        return export.forms(self)

    def export(self, encoder: nn.Module, head: nn.Module | None, folder: Path, form: str) -> str:
        """Write a trained encoder for timm, torchvision or transformers; returns how to use it, as Markdown.

        Args:
            head: must be None: these libraries have no place for one. form: one of `forms`.

        Raises:
            InputError: a head is given, or that library cannot read pictures as these settings do.
        """
        from multicl.modalities.image import export

        return export.write(self, encoder, head, folder, form)

    def half(self, encoder: nn.Module) -> Half:
        """A trained encoder as the image half of CLIP or SigLIP; see `multicl.types.Half`.

        Raises:
            InputError: it is not such a half.
        """
        from multicl.modalities.image import export

        return export.half(self, encoder)

    def suggest(self, cells: Sequence[Any], accelerator: bool, pretrained: bool) -> Suggestion:
        """Settings for cells like these; see `multicl.types.Suggests`."""
        from multicl.modalities.image.suggest import suggest

        return suggest(cells, accelerator, pretrained)

    def preview(self, raw: Any) -> tuple[str, bytes]:
        """One cell for a page: (MIME type, bytes) of a PNG (of a JPEG for a JPEG), at most 64 pixels a side.

        Raises:
            BadSample: as `load`.
        """
        from multicl.modalities.image import decode

        return decode.preview(raw)

    def show(self, batch: Batch) -> list[tuple[str, bytes]]:
        """Each row of a batch or a view of it for a page: (MIME type, bytes) of a PNG, pixel by pixel."""
        from multicl.modalities.image import decode

        return [decode.to_png(picture) for picture in batch.get("pixels")]
