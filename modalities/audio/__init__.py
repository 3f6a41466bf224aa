"""Sound: decoding, augmentation and encoders. Importing this loads no torch."""

from multicl.modalities.audio.changes import Augment
from multicl.modalities.audio.settings import Audio

__all__ = ["Audio", "Augment"]
