"""Encoders of every kind: widths, sizes, channels, normalisation, errors, and the way through a folder."""

import sys

import pytest
import torch
import transformers
from torch import nn
from torchvision import models

from multicl.modalities.image import Image
from multicl.modalities.image.color import IMAGENET, LAB, rgb_to_lab
from multicl.modalities.image.named import adapt_input
from multicl.types import Batch, InputError


def batch(height, width, n=3, seed=0):
    g = torch.Generator().manual_seed(seed)
    return Batch({"pixels": torch.randint(0, 256, (n, 3, height, width), generator=g, dtype=torch.uint8)})


@pytest.mark.parametrize("size", [8, (8, 24), (16, 48), 32, (48, 16), (9, 200)])
@pytest.mark.parametrize("channels", ["rgb", "L", "ab"])
def test_small_takes_any_size_and_channels(size, channels):
    image = Image(size=size, channels=channels)
    encoder = image.build()
    h = encoder(batch(*image.shape))
    assert h.shape == (3, encoder.width)
    h.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert 0.3e6 < sum(p.numel() for p in encoder.parameters()) < 1e6


def test_small_keeps_left_and_right_apart():
    torch.manual_seed(0)
    encoder = Image(size=(16, 48)).build().eval()
    pixels = torch.zeros(2, 3, 16, 48)
    pixels[0, :, 4:12, 4:12] = 1
    pixels[1, :, 4:12, 36:44] = 1
    a, b = encoder(Batch({"pixels": pixels})).detach()
    assert float((a - b).norm() / a.norm()) > 0.1


def test_small_with_more_fields_knows_places_better():
    encoder = Image(fields=4).build().eval()
    pixels = torch.zeros(2, 3, 32, 32)
    pixels[0, :, :8, :8] = 1
    pixels[1, :, 8:16, 8:16] = 1  # within one of 2 x 2 fields, in two of 4 x 4
    a, b = encoder.net.out[:2](encoder.net.trunk(pixels)).detach()
    assert a.shape == (128 * 16,)
    pooled = [x.reshape(128, 2, 2, 2, 2).mean((2, 4)).flatten() for x in (a, b)]
    assert float((a - b).norm() / a.norm()) > 2 * float((pooled[0] - pooled[1]).norm() / pooled[0].norm())
    assert Image(size=(16, 64), fields=4).build().net.out[0].output_size == (4, 12)


def test_small_refuses_what_is_too_small():
    with pytest.raises(InputError, match="at least 8 x 8"):
        Image(size=(7, 30)).build()
    with pytest.raises(InputError, match="at least 16 x 16 pixels, as it has 4 x 4 fields"):
        Image(size=(15, 30), fields=4).build()


@pytest.mark.parametrize(("name", "options"), [("small", {}), ("resnet18", {"stem": "cifar", "pretrained": False})])
def test_small_views_go_through_the_same_encoder(name, options):
    image = Image(name, size=32, **options)
    encoder = image.build()
    whole, parts = (image.view(batch(32, 32), torch.arange(3), kind) for kind in ("strong", "local"))
    assert parts.get("pixels").shape == (3, 3, 16, 16)
    assert encoder(whole).shape == encoder(parts).shape == (3, encoder.width)
    assert encoder.training
    assert encoder.net.training


def test_small_views_that_an_encoder_cannot_take_are_refused():
    encoder = Image(Seen(), size=8).build()
    with pytest.raises(InputError, match=r"Seen .* gives 48 features for pictures of 4 x 4 pixels, and 192 for others"):
        encoder(batch(4, 4))
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    with pytest.raises(InputError, match=r"cannot take pictures of 3 x 4 x 4.*local_size="):
        Image(fixed, size=8).build()(batch(4, 4))


class Seen(nn.Module):
    """Gives its input, pixel by pixel."""

    def forward(self, x):
        return x.flatten(1)


@pytest.mark.parametrize("channels", ["rgb", "L", "ab"])
def test_what_the_net_sees(channels):
    images = batch(4, 6)
    pixels = images.get("pixels") / 255
    encoder = Image(Seen(), size=(4, 6), channels=channels).build()
    which = {"rgb": slice(0, 3), "L": slice(0, 1), "ab": slice(1, 3)}[channels]
    values = pixels if channels == "rgb" else rgb_to_lab(pixels)
    mean, std = (torch.tensor(s).view(3, 1, 1) for s in (IMAGENET if channels == "rgb" else LAB))
    want = ((values - mean) / std)[:, which].flatten(1)
    torch.testing.assert_close(encoder(images), want)
    torch.testing.assert_close(encoder(Batch({"pixels": pixels})), want)
    assert encoder.width == want.shape[1]
    assert not encoder.state_dict()


def test_modules_of_ones_own():
    spatial = nn.Conv2d(3, 7, 3)
    encoder = Image(spatial, size=(10, 12)).build()
    assert encoder.width == 7
    assert encoder(batch(10, 12)).shape == (3, 7)
    assert encoder.net is spatial
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(5))
    assert Image(lazy, size=4).build().width == 5


def test_measuring_leaves_modes_and_statistics_alone():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout())
    net[1].eval()
    Image(net, size=8).build()
    assert [m.training for m in net] == [True, False, True]
    assert net[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (nn.Linear(5, 5), r"cannot take pictures of 3 x 8 x 8"),
        (nn.Conv2d(1, 4, 3), r"cannot take pictures"),
        (nn.Flatten(0), r"it returned \[384\]"),
        (nn.AdaptiveMaxPool2d(1, return_indices=True), "it returned tuple"),
    ],
)
def test_modules_that_do_not_fit_are_named(net, reason):
    with pytest.raises(InputError, match=f"{type(net).__name__}.*{reason}"):
        Image(net, size=8).build()


@pytest.mark.parametrize(
    ("name", "size", "width"),
    [
        ("resnet18", 32, 512),
        ("squeezenet1_1", 32, 512),
        ("mobilenet_v3_small", 32, 1024),
        ("shufflenet_v2_x0_5", 32, 1024),
    ],
)
def test_torchvision_without_its_classifier(name, size, width):
    encoder = Image(name, pretrained=False, size=size, channels="ab").build().eval()
    assert encoder.width == width
    assert encoder(batch(size, size)).shape == (3, width)


def test_cifar_stem_keeps_the_resolution():
    encoder = Image("resnet18", pretrained=False, stem="cifar").build().eval()
    seen = []
    encoder.net.layer1.register_forward_hook(lambda _m, _i, out: seen.append(out.shape[2:]))
    encoder(batch(32, 32))
    assert seen == [(32, 32)]
    with pytest.raises(InputError, match="ResNets"):
        Image("squeezenet1_1", pretrained=False, stem="cifar").build()
    for other in ("small", "timm/no-such-net", "hf/no/such-net"):  # told before any is looked for
        with pytest.raises(InputError, match="ResNets"):
            Image(other, stem="cifar").build()


def test_weights_are_asked_for_only_where_they_are_wanted(monkeypatch, tmp_path):
    asked = []
    monkeypatch.setattr(
        models._api.WeightsEnum,
        "get_state_dict",
        lambda self, **_: asked.append(self) or models.resnet18().state_dict(),
    )
    Image("resnet18").build(weights=False)
    Image("resnet18").restored(tmp_path).build()
    assert not asked
    Image("resnet18").build()
    assert asked == [models.ResNet18_Weights.DEFAULT]

    def unreachable(self, **_):
        raise OSError("no route")

    monkeypatch.setattr(models._api.WeightsEnum, "get_state_dict", unreachable)
    with pytest.raises(InputError, match=r"resnet18.*no route.*pretrained=False"):
        Image("resnet18").build()


def test_an_adapted_input_answers_grey_pictures_as_before():
    grey = torch.rand(2, 1, 8, 8)
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    before = net(grey.expand(-1, 3, -1, -1))
    adapt_input(net, 1)
    torch.testing.assert_close(net(grey), before)
    net = nn.Sequential(nn.Conv2d(3, 4, 3))
    weight = net[0].weight.clone()
    adapt_input(net, 2)
    assert torch.equal(net[0].weight, weight[:, :2] * 1.5)
    with pytest.raises(InputError, match="no convolution"):
        adapt_input(nn.Linear(3, 3), 1)


def test_unknown_names_are_met_with_near_ones(tmp_path):
    with pytest.raises(InputError, match=r"'resnet19'.*timm/NAME.*'resnet18'"):
        Image("resnet19").build()
    with pytest.raises(InputError, match=r"no such folder with a config\.json"):
        Image(str(tmp_path / "nothing")).build()
    with pytest.raises(InputError, match=r"vit_b_16 cannot take pictures of 3 x 32 x 32.*224"):
        Image("vit_b_16", pretrained=False).build()


def test_timm():
    pytest.importorskip("timm")
    encoder = Image("timm/resnet10t", pretrained=False, channels="L").build().eval()
    assert encoder(batch(32, 32)).shape == (3, encoder.width)
    with pytest.raises(InputError, match=r"timm has no model 'resnet10q'.*resnet10t"):
        Image("timm/resnet10q").build()


def test_timm_missing_is_told_with_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(InputError, match=r"pip install 'multicl\[timm\]'"):
        Image("timm/resnet10t").build()


TINY = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}


def vit(**more):
    return transformers.ViTConfig(**TINY, image_size=16, patch_size=8, **more)


def resnet():
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], num_labels=2)


def clip():
    text = {**TINY, "vocab_size": 20, "max_position_embeddings": 8}
    return transformers.CLIPConfig(text_config=text, vision_config={**TINY, "image_size": 16, "patch_size": 8})


def test_a_masked_autoencoder_sees_every_patch(tmp_path):
    config = transformers.ViTMAEConfig(
        **TINY, image_size=16, patch_size=4, decoder_hidden_size=16, decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2, decoder_intermediate_size=32, mask_ratio=0.75,
    )  # fmt: skip
    transformers.AutoModel.from_config(config).save_pretrained(tmp_path)
    encoder = Image(str(tmp_path), size=16).build().eval()
    torch.testing.assert_close(encoder(batch(16, 16)), encoder(batch(16, 16)), atol=1e-5, rtol=1e-5)


@pytest.fixture(params=[(vit, 16), (resnet, 12), (clip, 16)], ids=["vit", "resnet", "clip"])
def saved(request, tmp_path):
    """A folder with a tiny model of Hugging Face and its processor; the model, and its width."""
    make, width = request.param
    model = transformers.AutoModel.from_config(make())
    folder = tmp_path / "its model"
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text('{"image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6]}')
    return folder, model.eval(), width


def test_hugging_face_weights_and_the_way_through_a_folder(saved, tmp_path):
    folder, model, width = saved
    image = Image(str(folder), size=16)
    encoder = image.build().eval()
    images = batch(16, 16)
    h = encoder(images)
    assert h.shape == (3, width)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]))
    own = getattr(model, "vision_model", model)
    own = own(pixel_values=(images.get("pixels") / 255 - mean) / std).pooler_output.flatten(1)
    torch.testing.assert_close(h, own)

    kept = tmp_path / "run" / "image"
    kept.mkdir(parents=True)
    image.save(kept)
    assert {p.name for p in kept.iterdir()} == {"config.json", "preprocessor_config.json"}
    for p in folder.iterdir():
        p.unlink()
    again = image.restored(kept)
    assert not again.pretrained
    rebuilt = again.build().eval()
    rebuilt.load_state_dict(encoder.state_dict())
    assert torch.equal(rebuilt(images), h)
    again.save(tmp_path)
    assert (tmp_path / "config.json").is_file()


def test_hugging_face_with_another_size_and_channels(saved):
    folder, _, width = saved
    encoder = Image(str(folder), size=(16, 32), channels="ab").build().eval()
    assert encoder(batch(16, 32)).shape == (3, width)


def test_a_checkpoint_that_begins_at_random_is_told(saved, caplog):
    folder = str(saved[0])
    for quiet in (
        lambda: Image(folder, size=16).build(),
        lambda: Image(folder, size=16, pretrained=False).build(weights=False),  # as loading does
        lambda: Image("resnet18", pretrained=False).build(),
    ):
        quiet()
        assert "random" not in caplog.text
    Image(folder, size=16, pretrained=False).build()
    assert f"image encoder '{folder}' begins with random weights: pretrained is False" in caplog.text


def test_hugging_face_folders_that_will_not_do(tmp_path):
    vit().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="cannot be loaded"):
        Image(str(tmp_path), size=16).build()
    assert Image(str(tmp_path), size=16, pretrained=False).build().width == 16
    transformers.BertConfig(**TINY, vocab_size=10).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="BertModel, which takes no pictures"):
        Image(str(tmp_path), pretrained=False).build()
    (tmp_path / "config.json").write_text('{"model_type": "of nobody"}')
    with pytest.raises(InputError, match="cannot be loaded"):
        Image(str(tmp_path)).build()


def test_other_encoders_save_nothing(tmp_path):
    for image in (Image(), Image("resnet18"), Image("timm/resnet10t"), Image(nn.Flatten())):
        image.save(tmp_path)
    assert not list(tmp_path.iterdir())
    own = {"crop_pct": 0.875, "interpolation": "bilinear", "crop_mode": "center"}  # as its weights' are looked at
    assert Image("resnet18").restored(tmp_path) == Image("resnet18", pretrained=False, **own)
    assert Image("small").restored(tmp_path) == Image("small", pretrained=False)
    with pytest.raises(InputError, match=r"module of your own \(Flatten\).*modalities="):
        Image(nn.Flatten()).restored(tmp_path)


def test_evaluation_is_deterministic():
    encoder = Image().build().eval()
    images = batch(32, 32)
    assert torch.equal(encoder(images), encoder(images))
