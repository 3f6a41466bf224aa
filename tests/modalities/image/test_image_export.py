"""Image encoders as timm and torchvision load them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Picture
from safetensors.torch import load_file
from torchvision import models
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    ConvNextConfig,
    ConvNextModel,
    Dinov2Config,
    Dinov2Model,
    ViTConfig,
    ViTModel,
)

from multicl import Head, Model, Pair, load
from multicl.export import export, fitting
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.towers import Towers
from multicl.types import InputError

SIZE = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
peer = pytest.mark.filterwarnings("ignore")  # what their initialisation warns of is theirs


def saved(folder: Path, image: Image, space: str | None = None, **nodes: Any) -> Path:
    """A model of one node, `image`, in a folder."""
    torch.manual_seed(0)
    pairs = [Pair("image", "image"), *(Pair("image", node) for node in nodes)]
    model = Model(Towers({"image": image, **nodes}, pairs, Head(dim=4)), space)
    with torch.no_grad():  # as if trained: no bias is zero, no norm is one
        for parameter in model.towers.parameters():
            parameter += 0.02 * torch.randn_like(parameter)
        for module in model.towers.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None  # the statistics become those of these pictures
        batch = image.collate([image.load(picture) for picture in pictures(image.shape)])
        model.towers.train().encoder("image")(batch)
    return model.save(folder, {"knn": 0.51234})


def pictures(shape: tuple[int, int]) -> list[Any]:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (2, *shape, 3), generator=generator, dtype=torch.uint8)
    return [Picture.fromarray(p.numpy()) for p in pixels]


def given(folder: Path, image: Image) -> tuple[torch.Tensor, torch.Tensor]:
    """What the net sees of two pictures, normalised, and the features that we have of them."""
    model = load(folder, device="cpu")
    encoder: Any = model.towers.encoder("image")
    seen: list[torch.Tensor] = []
    hook = encoder.net.register_forward_pre_hook(lambda net, inputs: seen.append(inputs[0]))
    features = model.embed(image=pictures(image.shape), space=None, normalize=False)
    hook.remove()
    assert features.std(0).max() > 1e-4  # pictures differ
    return seen[0], features


def run(out: Path, folder: Path, x: torch.Tensor) -> torch.Tensor:
    """The first program of a card, and the features that its model has of what the net sees."""
    card, names = (out / "README.md").read_text(), dict[str, Any]()
    code = re.findall(r"```python\n(.*?)```", card, re.DOTALL)[0]
    exec(code.replace("this-folder", str(out)), names)
    encoder: Any = load(folder, device="cpu").towers.encoder("image")
    torch.testing.assert_close(names["mean"], encoder.mean)
    torch.testing.assert_close(names["std"], encoder.std)
    assert names["features"].shape == (2, encoder.width)
    with torch.no_grad():
        found: torch.Tensor = names["model"](x)
    return found


@peer
@pytest.mark.parametrize(
    "image",
    [
        Image("timm/resnet18", size=32, crop_pct=0.875, pretrained=False),
        Image("timm/vit_tiny_patch16_224", size=224, pretrained=False),
        Image("timm/mobilenetv3_small_050", size=32, channels="ab", pretrained=False),
    ],
)
def test_timm_gives_our_features(image: Image, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm")
    folder = saved(tmp_path / "model", image)
    out = export(folder, "timm", tmp_path / "out")
    x, expected = given(folder, image)
    name, channels = str(image.encoder).removeprefix("timm/"), x.shape[1]
    file = str(out / "model.safetensors")
    overlay = {"file": file, "num_classes": 0, "custom_load": False}
    loaded = [
        timm.create_model(name, num_classes=0, in_chans=channels, checkpoint_path=file),
        timm.create_model(f"local-dir:{out}", pretrained=True, num_classes=0, in_chans=channels),
        timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=0, in_chans=channels),
    ]
    with torch.no_grad():
        for model in loaded:
            torch.testing.assert_close(model.eval()(x), expected, atol=1e-5, rtol=1e-5)
    encoder: Any = load(folder, device="cpu").towers.encoder("image")
    config = loaded[1].pretrained_cfg
    assert config["mean"] == pytest.approx(encoder.mean.flatten().tolist())
    assert config["std"] == pytest.approx(encoder.std.flatten().tolist())
    assert tuple(config["input_size"]) == tuple(x.shape[1:])
    assert config["crop_pct"] == image.whole[0]
    torch.testing.assert_close(run(out, folder, x), expected, atol=1e-5, rtol=1e-5)
    again = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, num_classes=10, in_chans=channels)
    with torch.no_grad():
        pooled = again.eval().forward_head(again.forward_features(x), pre_logits=True)
    torch.testing.assert_close(pooled, expected, atol=1e-5, rtol=1e-5)


@peer
@pytest.mark.parametrize(
    ("image", "last"),
    [
        (Image("resnet18", size=32, pretrained=False), "fc"),
        (Image("resnet18", size=32, stem="cifar", channels="L", pretrained=False), "fc"),
        (Image("mobilenet_v3_small", size=32, pretrained=False), "classifier.3"),
        (Image("squeezenet1_1", size=64, pretrained=False), "classifier.1"),
        (Image("vit_b_32", size=224, pretrained=False), "heads.head"),
        (Image("googlenet", size=64, pretrained=False), "fc"),
    ],
)
def test_torchvision_gives_our_features(
    image: Image, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = models.VisionTransformer  # whose smallest, vit_b_32, has 88 million parameters in twelve equal layers
    monkeypatch.setattr(models.vision_transformer, made.__name__, lambda **how: made(**{**how, "num_layers": 1}))
    folder = saved(tmp_path / "model", image)
    out = export(folder, "torchvision", tmp_path / "out")
    x, expected = given(folder, image)
    card = (out / "README.md").read_text()
    assert f'model.set_submodule("{last}", torch.nn.Identity())' in card
    assert "| knn | 0.5123 |" in card
    torch.testing.assert_close(run(out, folder, x), expected, atol=1e-5, rtol=1e-5)
    assert ("not RGB but L of CIE Lab" in card) == (image.channels == "L")


def test_a_backbone_lacks_its_classifier_and_nothing_else(tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", Image("resnet18", size=32, pretrained=False))
    out = export(folder, "torchvision", tmp_path / "out")
    missing, unexpected = models.resnet18().load_state_dict(load_file(out / "model.safetensors"), strict=False)
    assert (sorted(missing), unexpected) == (["fc.bias", "fc.weight"], [])


@pytest.mark.parametrize(
    ("image", "options", "message"),
    [
        ("small", {"to": "timm"}, r"\(image: ImageEncoder\).*Forms that fit: none; use multicl"),
        ("resnet18", {"to": "timm"}, r"Forms that fit: --to torchvision \(image\)"),
        ("timm/resnet18", {"to": "torchvision"}, r"Forms that fit: --to timm \(image\)"),
        ("resnet18", {"to": "clip"}, r"image-image: a ResNet is not the image half.*--to torchvision \(image\)"),
        ("resnet18", {"to": "torchvision", "space": "joint"}, r"no place for a head.*--space features"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_does(
    image: str, options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = saved(tmp_path / "model", Image(image, size=32, pretrained=False))
    with pytest.raises(InputError, match=message):
        export(folder, out=tmp_path / "out", **options)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


def test_each_form_finds_its_node(tmp_path: Path) -> None:
    text = Text("small", width=16, layers=1, heads=2)
    folder = saved(tmp_path / "model", Image("resnet18", size=32, pretrained=False), text=text)
    found = fitting(load(folder, device="cpu"))
    assert found == {form: ["text"] for form in ("sentence-transformers", "transformers", "onnx")} | {
        "torchvision": ["image"]
    }
    assert (export(folder, "torchvision", tmp_path / "one") / "model.safetensors").is_file()
    assert (export(folder, "transformers", tmp_path / "two") / "tokenizer.json").is_file()


def vit(folder: Path) -> str:
    ViTModel(ViTConfig(**SIZE, image_size=32, patch_size=8)).save_pretrained(folder)
    return str(folder)


def dino(folder: Path) -> str:
    Dinov2Model(Dinov2Config(**SIZE, image_size=28, patch_size=14)).save_pretrained(folder)
    return str(folder)


def convnext(folder: Path) -> str:
    config = ConvNextConfig(hidden_sizes=[8, 8], depths=[1, 1], num_stages=2, image_size=32)
    ConvNextModel(config).save_pretrained(folder)
    return str(folder)


def clip_vision(folder: Path) -> str:
    config = CLIPVisionConfig(**SIZE, image_size=32, patch_size=16)
    CLIPVisionModel(config).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (vit, {"size": 32}),
        (dino, {"size": 56, "crop_mode": "squash"}),
        (convnext, {"size": 32, "crop_pct": 0.8}),
        (clip_vision, {"size": (32, 48), "crop_mode": "squash"}),
    ],
)
def test_transformers_gives_our_features(make: Any, settings: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    image = Image(make(tmp_path / "theirs"), **settings)
    folder = saved(tmp_path / "model", image)
    assert fitting(load(folder, device="cpu")) == {"transformers": ["image"]}
    out = export(folder, "transformers", tmp_path / "out")
    _, features = given(folder, image)
    code = re.findall(r"```python\n(.*?)```", (out / "README.md").read_text(), re.DOTALL)[0]
    code = re.sub(r"images=\[.*?\]", "images=pictures_here", code).replace("this-folder", str(out))
    names: dict[str, Any] = {"pictures_here": pictures(image.shape)}
    exec(code, names)
    assert names["pictures"]["pixel_values"].shape[2:] == image.shape
    rounding = 0.0 if image.whole[0] == 1 else 0.2  # theirs rounds pixels between scaling and cutting
    torch.testing.assert_close(names["features"], features, atol=rounding + 1e-5, rtol=1e-5)


def test_what_transformers_cannot_read_is_refused(tmp_path: Path) -> None:
    wide = Image(clip_vision(tmp_path / "theirs"), size=(32, 48))
    with pytest.raises(InputError, match="crop to squares only: train on square pictures"):
        export(saved(tmp_path / "wide", wide), "transformers", tmp_path / "out")
    lab = Image(vit(tmp_path / "vit"), size=32, channels="ab")
    with pytest.raises(InputError, match="Forms that fit: none"):
        export(saved(tmp_path / "lab", lab), "transformers", tmp_path / "out")
