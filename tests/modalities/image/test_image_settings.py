"""The settings: their ranges, their command line, their way to plain values and back, and no torch to say them."""

import pickle
import subprocess
import sys
import typing
from dataclasses import dataclass, field, replace

import pytest
import torch
import tyro
from torch import nn

from multicl.config import from_plain, to_plain
from multicl.modalities import image as presets
from multicl.modalities.image import Augment, Image
from multicl.types import InputError, Modality


def test_it_is_a_modality():
    assert isinstance(Image(), Modality)
    assert Image("resnet18").encoder == "resnet18"
    with pytest.raises(TypeError):
        Image("resnet18", 64)
    assert Image(size=(16, 48)).shape == (16, 48)
    assert Image(size=16).shape == (16, 16)
    assert Image(size=(16, 49)).local_shape == (8, 25)
    assert Image(size=16, local_size=12).local_shape == (12, 12)


@pytest.mark.parametrize(
    "bad",
    [
        {"size": 0}, {"size": (16,)}, {"size": (16, 2.5)}, {"size": "16"}, {"size": True}, {"size": 5000},
        {"local_size": 0}, {"local_size": (8, 2.5)},
        {"crop_pct": 0.0}, {"crop_pct": 1.1}, {"crop_pct": "all"}, {"interpolation": "cubic"},
        {"channels": "Lab"}, {"stem": "imagenet"}, {"fields": 0}, {"encoder": ""}, {"encoder": 3},
        {"strong": "simclr"}, {"weak": None},
    ],
    ids=str,
)  # fmt: skip
def test_settings_out_of_range_are_named(bad):
    (name,) = bad
    with pytest.raises(InputError, match=f"image setting {name}="):
        Image(**bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"crop": (0.0, 1.0)}, {"crop": (0.5, 1.1)}, {"crop": (0.6, 0.5)}, {"crop": 0.5}, {"crop": "ab"},
        {"ratio": (0, 1)}, {"blur_sigma": (0.0, 1.0)}, {"flip": 1.5}, {"flip": -0.1}, {"jitter": float("nan")},
        {"hue": 0.6}, {"brightness": -1}, {"rotate_degrees": 200}, {"solarize_threshold": 2}, {"noise_std": -1},
        {"gray": "often"}, {"posterize_bits": 0}, {"posterize_bits": 2.5}, {"cutout_area": (0.5, 0.1)},
    ],
    ids=str,
)  # fmt: skip
def test_augmentations_out_of_range_are_named(bad):
    (name,) = bad
    with pytest.raises(InputError, match=f"image setting {name}="):
        Augment(**bad)


def test_source_is_what_decides_the_pixels():
    image = Image()
    assert hash(image.source) == hash(Image("resnet18", channels="L", column="x", tower="y", stem="cifar").source)
    assert image.source == Image("resnet18", channels="ab", pretrained=False).source != Image("resnet18").source
    assert image.source == Image(size=(32, 32)).source
    assert image.source != Image(size=16).source
    assert image.source != Image(strong=Augment()).source
    assert image.source != Image(weak=Augment()).source
    assert image.source != Image(local=Augment()).source
    assert image.source != Image(local_size=12).source


def test_plain_values_and_back():
    for image in (Image(), Image("resnet18", size=(16, 48), channels="ab", strong=Augment(blur=0.5))):
        assert from_plain(Image, to_plain(image)) == image
        assert pickle.loads(pickle.dumps(image)) == image
    assert to_plain(Image(nn.Flatten()))["encoder"] == {"object": "torch.nn.modules.flatten.Flatten"}


def test_presets_are_settings_like_others():
    image = Image(size=224, strong=presets.SIMCLR)
    assert (image.strong.hue, image.strong.blur, image.strong.crop) == (0.2, 0.5, (0.08, 1.0))
    assert from_plain(Image, to_plain(image)) == image
    assert Image().strong == presets.SMALL_PICTURES
    assert presets.MOCO.brightness == 0.4
    first, second = presets.BYOL_FIRST, presets.BYOL_SECOND
    assert replace(first, blur=second.blur, solarize=second.solarize) == second
    assert (first.blur, first.solarize, second.blur, second.solarize) == (1.0, 0.0, 0.1, 0.2)


def test_annotations_resolve():
    hints = typing.get_type_hints(Image)
    assert hints["encoder"] is str
    assert hints["strong"] is Augment


@dataclass(frozen=True)
class Recipe:
    image: Image = field(default_factory=lambda: Image("small", size=24))


def test_the_command_line():
    assert tyro.cli(Recipe, args=[]).image == Image(size=24)
    line = "--image.encoder resnet18 --image.size 32 --image.channels ab --image.strong.blur 0.5 --image.no-pretrained"
    image = tyro.cli(Recipe, args=line.split()).image
    strong = replace(Image().strong, blur=0.5)
    assert image == Image("resnet18", size=32, channels="ab", pretrained=False, strong=strong)
    assert tyro.cli(Recipe, args=["--image.size", "16", "48"]).image.shape == (16, 48)


def test_settings_import_no_torch():
    code = (
        "import sys, typing; from multicl.modalities.image import Image; typing.get_type_hints(Image); Image();"
        "print([m for m in ('torch', 'torchvision', 'numpy', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_collate():
    image = Image(size=(4, 6))
    batch = image.collate([torch.zeros(3, 4, 6, dtype=torch.uint8)] * 5)
    assert batch.get("pixels").shape == (5, 3, 4, 6)
    assert batch.get("pixels").dtype == torch.uint8
    assert batch.lengths is None
