"""Whole pictures are looked at as a pretrained model's own library looks at them."""

import pickle
import random
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
import transformers
from PIL import Image as Pil
from torchvision import models

from multicl.modalities.image import Image, decode

USUAL = (1.0, "bicubic", "center")
SIZE = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
BY_EDGE = {"size": {"shortest_edge": 40}, "crop_size": {"height": 32, "width": 32}}
SQUARE, LARGER = {"height": 32, "width": 32}, {"height": 36, "width": 36}
PROCESSORS = {
    "clip's": ("CLIPImageProcessor", BY_EDGE, (0.8, "bicubic", "center")),
    "dino's": ("BitImageProcessor", BY_EDGE | {"resample": 2}, (0.8, "bilinear", "center")),
    "vit's": ("ViTImageProcessor", {"size": SQUARE}, (1.0, "bilinear", "squash")),
    "deit's": ("DeiTImageProcessor", {"size": LARGER, "crop_size": SQUARE}, (32 / 36, "bicubic", "squash")),
    "convnext's": ("ConvNextImageProcessor", {"size": {"shortest_edge": 32}}, (0.875, "bicubic", "center")),
    "poolformer's": ("PoolFormerImageProcessor", {"size": {"shortest_edge": 32}, "crop_size": SQUARE, "crop_pct": 0.8},
                     (0.8, "bicubic", "center")),
}  # fmt: skip


def photo(height, width):
    g = np.random.default_rng(0)
    return Pil.fromarray(g.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize((width, height))


def colours(height, width):
    """[H, W, 3] uint8: a white quarter at the bottom right, and red on the left."""
    array = np.zeros((height, width, 3), np.uint8)
    array[:, : width // 2, 0] = 255
    array[height // 2 :, width // 2 :] = 255
    return array


def seen(image, picture):
    """[C, h, w] as the net gets a whole picture, and its features, [W]."""
    encoder, given = image.build(weights=False).eval(), []
    encoder.net.register_forward_pre_hook(lambda net, inputs: given.append(inputs[0]))
    with torch.no_grad():
        features = encoder(image.view(image.collate([image.load(picture)]), None))
    return given[0][0], features[0], encoder.net


@pytest.mark.parametrize("sides", [(300, 400), (513, 256), (224, 224)])
@pytest.mark.parametrize("name", ["resnet18", "efficientnet_b0"])
def test_a_pretrained_torchvision_model_sees_what_its_weights_transforms_give(name, sides):
    own, picture = models.get_model_weights(name).DEFAULT.transforms(), photo(*sides)
    x, features, net = seen(Image(name, size=224), picture)
    with torch.no_grad():
        expected = net(own(picture)[None])[0]
    apart = (x - own(picture)).abs()
    assert (apart.max() < 0.04, apart.mean() < 1e-4) == (True, True)  # few pixels are rounded otherwise, by 1 of 255
    assert float(torch.cosine_similarity(features, expected, dim=0, eps=0.0)) > 0.99999
    fresh = Image(name, size=224, pretrained=False)
    assert fresh.whole == USUAL
    assert not torch.equal(fresh.load(picture), Image(name, size=224).load(picture))


def vit(folder):
    torch.manual_seed(0)
    config = transformers.ViTConfig(**SIZE, image_size=32, patch_size=8, initializer_range=0.3)
    transformers.ViTModel(config).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("which", PROCESSORS)
def test_a_pretrained_model_of_transformers_sees_what_its_processor_gives(which, tmp_path):
    folder, (kind, settings, expected) = vit(tmp_path / "model"), PROCESSORS[which]
    own = getattr(transformers, kind)(**settings)
    own.save_pretrained(folder)
    image = Image(str(folder), size=32)
    assert image.whole == pytest.approx(expected)
    net = image.build().eval().net
    for sides in ((64, 80), (90, 50)):
        picture = photo(*sides)
        given = own(images=[picture], return_tensors="pt")["pixel_values"]
        x, _, _ = seen(image, picture)
        apart = (x - given[0]).abs()
        assert (apart.max() < 0.03, apart.mean() < 0.002) == (True, True)  # theirs scales tensors: by 1 of 255
        with torch.no_grad():
            found, wanted = net(x[None]), net(given)
        assert float(torch.cosine_similarity(found, wanted)) > 0.9999
        _, aspect = image.load(picture, random.Random(0))
        assert aspect == pytest.approx(1.0 if expected[2] == "squash" else sides[1] / sides[0])
    restored = image.restored(tmp_path / "elsewhere")
    assert (restored.pretrained, restored.whole, restored.source) == (False, image.whole, image.source)


def test_a_large_convnext_squashes(tmp_path):
    folder = vit(tmp_path / "model")
    transformers.ConvNextImageProcessor(size={"shortest_edge": 384}).save_pretrained(folder)
    assert Image(str(folder), size=32).whole == (1.0, "bicubic", "squash")


def test_what_is_given_wins_over_a_models_own(tmp_path):
    folder = vit(tmp_path / "model")
    transformers.ViTImageProcessor(size=SQUARE).save_pretrained(folder)
    image = Image(str(folder), size=32)
    assert replace(image, crop_mode="center", interpolation="box").whole == (1.0, "box", "center")
    assert replace(image, pretrained=False).whole == USUAL
    assert Image("resnet18", crop_pct=0.5).whole == (0.5, "bilinear", "center")


def test_where_nothing_is_known_whole_pictures_are_whole(tmp_path):
    folder = vit(tmp_path / "model")
    assert Image(str(folder)).whole == Image(str(tmp_path / "none")).whole == USUAL
    transformers.SiglipImageProcessor(do_resize=False).save_pretrained(folder)
    assert Image(str(folder)).whole == USUAL
    assert Image("nothing").whole == Image("small").whole == Image(torch.nn.Flatten()).whole == USUAL


def test_loaders_get_what_was_found(tmp_path):
    folder = vit(tmp_path / "model")
    transformers.ViTImageProcessor(size=SQUARE).save_pretrained(folder)
    image = Image(str(folder), size=32)
    assert image.whole == (1.0, "bilinear", "squash")
    (folder / "preprocessor_config.json").unlink()
    assert pickle.loads(pickle.dumps(image)).whole == image.whole


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnet18.a1_in1k", 224), ("resnet18.a1_in1k", 288), ("resnet18.tv_in1k", 224), ("vit_tiny_patch16_224", 32)],
)
def test_a_pretrained_timm_model_looks_at_whole_pictures_as_timm_evaluates_it(name, size, tmp_path):
    timm = pytest.importorskip("timm")
    config = timm.create_model(name, pretrained=False).pretrained_cfg
    share = config["test_crop_pct"] if size == 288 else config["crop_pct"]
    image, picture = Image(f"timm/{name}", size=size), Pil.fromarray(colours(300, 400))
    expected = decode.load(picture, size, size, share, False, config["interpolation"])
    assert image.load(picture).equal(expected)
    assert image.load(picture).equal(Image(size=size).load(picture)) is (size == 288 and image.whole == USUAL)
    restored = image.restored(tmp_path)
    assert (restored.pretrained, restored.whole, restored.source) == (False, image.whole, image.source)
    fresh, given = Image(f"timm/{name}", size=size, pretrained=False), Image(f"timm/{name}", crop_pct=1.0)
    assert (fresh.whole, given.whole[0]) == (USUAL, 1.0)
    assert image.load(picture, random.Random(0))[0].equal(Image(size=size).load(picture, random.Random(0))[0])


def test_where_timm_knows_no_weights_whole_pictures_are_whole(monkeypatch):
    pytest.importorskip("timm")
    assert Image("timm/resnet18.of_nobody").whole == Image("timm/nothing").whole == USUAL
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, "timm.models", None)
    assert Image("timm/resnet34").whole == USUAL
