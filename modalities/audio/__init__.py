"""Sound: decoding, augmentation and encoders. Importing this loads no torch."""

from multicl.modalities.audio.settings import Audio, Augment

__all__ = ["Audio", "Augment"]
