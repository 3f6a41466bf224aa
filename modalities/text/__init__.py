"""Text: tokens, encoders and poolings. Importing this loads no torch."""

from multicl.modalities.text.settings import Text

__all__ = ["Text"]
