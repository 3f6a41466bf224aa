"""Pictures: decoding, augmentation and encoders. Importing this loads no torch."""

from multicl.modalities.image.settings import Augment, Image

__all__ = ["Augment", "Image"]
