from __future__ import annotations

from typing import Any

import pytest
from torch import nn

from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text


@pytest.mark.parametrize(
    ("settings", "tuned"),
    [
        (Text("some/encoder"), True), (Image("resnet18"), True), (Audio("some/encoder"), True),
        (Text("some/encoder", lora=4), False), (Text("some/encoder", pretrained=False), False),
        (Image("resnet18", pretrained=False), False), (Text("words"), False), (Text(), False), (Image("small"), False),
        (Audio("small"), False), (Image(nn.Flatten()), False),
    ],
)  # fmt: skip
def test_which_encoders_begin_with_trained_weights_that_train(settings: Any, tuned: bool) -> None:
    assert settings.tuned == tuned
