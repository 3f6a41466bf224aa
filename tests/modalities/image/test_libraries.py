"""Which library an image encoder's name belongs to."""

from __future__ import annotations

import pytest
from torch import nn

from multicl.modalities.image.libraries import library_of


@pytest.mark.parametrize(
    ("encoder", "library"),
    [
        ("small", None),
        (nn.Flatten(), None),
        ("resnet18", "torchvision"),
        ("timm/resnet18", "timm"),
        ("timm/vit_tiny_patch16_224.augreg", "timm"),
        ("hf/google/vit-base-patch16-224", "transformers"),
        ("./my_model", "transformers"),
        ("/models/timm", "transformers"),
    ],
)
def test_a_name_tells_the_library(encoder: object, library: str | None) -> None:
    assert library_of(encoder) == library
