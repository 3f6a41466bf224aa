"""The Encoder that wraps every net: channels, normalisation, pooling, and the choice of the net by its name."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from multicl.modalities import lora
from multicl.modalities.image import color
from multicl.modalities.image.color import Stats
from multicl.modalities.image.huggingface import huggingface_net
from multicl.modalities.image.libraries import library_of
from multicl.modalities.image.named import timm_net, torchvision_net
from multicl.modalities.image.presets import require
from multicl.modalities.image.resample import to_float
from multicl.modalities.image.small import Small
from multicl.modalities.probing import probing
from multicl.modalities.wide import as_wide
from multicl.types import Batch, InputError

if TYPE_CHECKING:
    from multicl.modalities.image.settings import Channels, Image

log = logging.getLogger(__name__)
CHANNELS: dict[Channels, int] = {channels: which.stop - which.start for channels, which in color.WHICH.items()}


class ImageEncoder(nn.Module):
    """Batch of "pixels" [B, 3, h, w], uint8 or float in [0, 1] -> [B, width].

    Args:
        net: normalised float [B, C, h, w] -> [B, W] or [B, W, ...], which is averaged.
        channels: the channels that the net sees.
        shape: h and w; a dry run of the net checks any other size when it first comes.
        stats: normalisation of RGB; other colour spaces have their own.
        name: of the net, for errors.
        channels_last: give the net pictures in this memory format, in which most convolutions are faster.

    Raises:
        InputError: the net cannot take such pictures, or gives no such features.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        net: nn.Module,
        channels: Channels,
        shape: tuple[int, int],
        stats: Stats,
        name: str,
        channels_last: bool = False,
    ) -> None:
        super().__init__()
        self.net, self.channels, self.channels_last = net, channels, channels_last
        mean, std = color.stats(channels, stats)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.name, self.shapes = name, {shape}
        self.width = self._measure(shape)

    def forward(self, batch: Batch) -> Tensor:
        """The features, [B, width]."""
        x = batch.get("pixels")
        self._accept((x.shape[2], x.shape[3]))
        with torch.no_grad(), torch.autocast(x.device.type, enabled=False):
            x = (color.chosen(to_float(x), self.channels) - self.mean) / self.std
            if self.channels_last:
                x = x.contiguous(memory_format=torch.channels_last)
        return self._features(x)

    def _features(self, x: Tensor) -> Tensor:
        h: Tensor = self.net(as_wide(self.net, x))
        return h.flatten(2).mean(2) if h.ndim > 2 else h

    def _accept(self, shape: tuple[int, int]) -> None:
        """Refuse pictures of a size that the net cannot take, or for which it gives features of another width."""
        if shape in self.shapes:
            return
        if (width := self._measure(shape)) != self.width:
            raise InputError(
                f"the encoder {self.name} gives {width} features for pictures of {shape[0]} x {shape[1]} pixels, and "
                f"{self.width} for others: set local_size to the value of size, or use another encoder"
            )
        self.shapes.add(shape)

    def _measure(self, shape: tuple[int, int]) -> int:
        """Width of the features, measured on two black pictures."""
        device = next((p.device for p in self.net.parameters()), torch.device("cpu"))
        black = torch.zeros(2, CHANNELS[self.channels], *shape, device=device)
        try:
            with probing(self):
                h = self.net(as_wide(self.net, black))
        except Exception as error:  # nets raise anything on a size that they were not made for
            asked = f"{CHANNELS[self.channels]} x {shape[0]} x {shape[1]}"
            raise InputError(
                f"the encoder {self.name} cannot take pictures of {asked} (channels, height, width): {error}; "
                "give it another size=, local_size= or channels="
            ) from error
        if not isinstance(h, Tensor) or h.ndim < 2 or len(h) != 2 or not h.is_floating_point():
            got = f"{list(h.shape)} {h.dtype}" if isinstance(h, Tensor) else type(h).__name__
            raise InputError(
                f"the encoder {self.name} must return float [B, W] or [B, W, ...]; it returned {got} for B = 2"
            )
        return int(h.shape[1])


def warn_of_fresh(name: str | nn.Module) -> None:
    """Log that a named checkpoint has random weights. Torchvision's names, and timm's without a tag, name none."""
    library = library_of(name)
    if library == "transformers" or (library == "timm" and "." in str(name)):
        log.warning("image encoder %r begins with random weights: pretrained is False (--image.pretrained)", name)


def build(settings: Image, weights: bool) -> ImageEncoder:
    """The encoder that the settings name.

    Raises:
        InputError: an unknown name, weights that cannot be loaded, or a size that the net cannot take.
    """
    encoder, inputs = settings.encoder, CHANNELS[settings.channels]
    name = encoder if isinstance(encoder, str) else f"{type(encoder).__name__} (your module)"
    library = library_of(encoder)
    fits = not settings.lora or library in ("timm", "transformers")
    require(fits, "lora", settings.lora, f"0 unless the encoder is one of Hugging Face or timm, not {encoder!r}")
    if settings.stem != "default" and library != "torchvision":
        raise InputError(
            f"stem={settings.stem!r} is for torchvision's ResNets, not for the encoder {name}: "
            "set stem to 'default', too (--image.stem default)"
        )
    stats: Stats = color.IMAGENET
    net: nn.Module
    if not isinstance(encoder, str):
        net = encoder
    elif library == "timm":
        net, stats = timm_net(encoder.removeprefix("timm/"), inputs, weights)
        net = lora.adapted(net, settings.lora, "image")
    elif library == "transformers":
        net, stats = huggingface_net(encoder, inputs, weights)
        lora.adapted(net.model, settings.lora, "image")
    elif library == "torchvision":
        net, stats = torchvision_net(encoder, inputs, weights, cifar_stem=settings.stem == "cifar")
    else:
        net = Small(inputs, settings.shape, settings.fields)
    channels_last = library in ("timm", "torchvision")
    return ImageEncoder(net, settings.channels, settings.shape, stats, name, channels_last)
