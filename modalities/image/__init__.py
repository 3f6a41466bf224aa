"""Pictures: decoding, augmentation and encoders. Importing this loads no torch."""

from multicl.modalities.image.presets import BYOL_FIRST, BYOL_SECOND, MOCO, SIMCLR, SMALL_PICTURES, Augment
from multicl.modalities.image.settings import Channels, Image

__all__ = ["BYOL_FIRST", "BYOL_SECOND", "MOCO", "SIMCLR", "SMALL_PICTURES", "Augment", "Channels", "Image"]
