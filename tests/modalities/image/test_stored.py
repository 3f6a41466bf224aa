"""Training pictures are kept whole and larger than views, and crops are cut from them as from the originals."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from multicl.modalities import seeded
from multicl.modalities.image import Augment, Image, draws
from multicl.modalities.image.dense import dense_view
from multicl.modalities.image.views import random_view
from multicl.types import Batch, InputError

RATIO = (3 / 4, 4 / 3)
CROPS = Augment(crop=(0.1, 0.6))


def placed(height, width):
    """A picture whose red tells how far right a pixel is, in [0, 1], and whose green how far down."""
    y, x = (np.arange(n) + 0.5 for n in (height, width))
    red, green = np.broadcast_to(x / width, (height, width)), np.broadcast_to(y[:, None] / height, (height, width))
    pixels = np.stack((red, green, np.zeros((height, width))), 2)
    return Pil.fromarray((pixels * 255).round().astype(np.uint8))


def trained(image, *pictures):
    """A batch as the training's loader makes it."""
    return image.collate([image.load(picture, random.Random(0)) for picture in pictures])


def spans(view):
    """What part of the picture a view shows: [B] left, top, width and height, in [0, 1]."""
    across, down = view[:, 0].mean(1), view[:, 1].mean(2)  # [B, w], [B, h]
    steps = across.shape[1] - 1, down.shape[1] - 1
    wide, tall = (across[:, -1] - across[:, 0]) * (1 + 1 / steps[0]), (down[:, -1] - down[:, 0]) * (1 + 1 / steps[1])
    middle = torch.stack((across.mean(1), down.mean(1)), 1)
    return middle[:, 0] - wide / 2, middle[:, 1] - tall / 2, wide, tall


@pytest.mark.parametrize("size", [(1, 1), (40, 90), (90, 40), (30, 31), (64, 64), (10, 200)], ids=str)
@pytest.mark.parametrize("scale", [(0.2, 1.0), (0.85, 1.0)], ids=str)
def test_boxes_are_those_of_torchvision_in_the_original(size, scale):
    from torchvision.transforms import v2

    torch.manual_seed(0)
    height, width = (32 * n for n in size)  # so that its rounding to pixels does not count
    crop, picture = v2.RandomResizedCrop(64, scale), [torch.empty(3, height, width, device="meta")]
    drawn = [crop.make_params(picture) for _ in range(3000)]
    theirs = torch.tensor([[float(d[k]) for k in ("top", "left", "height", "width")] for d in drawn])
    uniform = seeded.uniform(torch.arange(3000), 2 * draws.TRIES + 2)
    extent = torch.tensor([[1024.0, 2048.0, width / height]]).expand(3000, 3)
    ours = draws.random_boxes(uniform, extent, scale, RATIO)
    unit = torch.tensor([1024.0, 2048.0] * 2), torch.tensor([height, width] * 2)
    torch.testing.assert_close((ours / unit[0]).mean(0), (theirs / unit[1]).mean(0), atol=0.012, rtol=0)
    torch.testing.assert_close((ours / unit[0]).std(0), (theirs / unit[1]).std(0), atol=0.012, rtol=0)


@pytest.mark.parametrize(("height", "width"), [(200, 300), (300, 200), (100, 400)])
@pytest.mark.parametrize("size", [(32, 32), (24, 48), (128, 128)], ids=str)
def test_views_show_things_in_their_proportions_and_the_sides_too(height, width, size):
    image = Image(size=size, strong=CROPS, stored=(160, 144))
    batch = trained(image, placed(height, width))
    batch = Batch({name: t.expand(300, *t.shape[1:]) for name, t in batch.tensors.items()})
    left, top, wide, tall = spans(image.view(batch, torch.arange(300)).get("pixels"))
    shape = (wide * width) / (tall * height) * size[0] / size[1]  # relative to the view's
    assert 0.71 < float(shape.quantile(0.02)) < 0.9
    assert 1.1 < float(shape.quantile(0.98)) < 1.41
    area = wide * tall
    assert 0.08 < float(area.min()) < 0.15
    assert 0.3 < float(area.max()) < 0.63
    assert float(left.min()) < 0.03
    assert float((left + wide).max()) > 0.97
    assert float(top.min()) < 0.03
    assert float((top + tall).max()) > 0.97


@pytest.mark.parametrize("size", [(32, 32), (24, 48), (128, 128), (200, 100)], ids=str)
def test_what_is_not_cropped_is_what_evaluation_sees(size):
    image, pictures = (
        Image(size=size, stored=256, strong=Augment()),
        [placed(300, 200), placed(200, 300), placed(64, 64)],
    )
    batch, wanted = trained(image, *pictures), torch.stack([image.load(p) for p in pictures]) / 255
    for view in (image.view(batch, torch.arange(3)), image.view(batch, None)):
        assert list(view) == ["pixels"]
        torch.testing.assert_close(view.get("pixels"), wanted, atol=0.02, rtol=0)  # boxes are of whole pixels
    flipped = Image(size=size, stored=256, strong=Augment(flip=1.0)).view(batch, torch.arange(3)).get("pixels")
    torch.testing.assert_close(flipped.flip(3), image.view(batch, torch.arange(3)).get("pixels"), atol=1e-6, rtol=0)


def test_local_views_of_another_shape_keep_proportions():
    image = Image(size=(32, 32), stored=96, local=Augment(crop=(0.2, 0.5), ratio=(1.0, 1.0)), local_size=(16, 48))
    batch = trained(image, placed(200, 300))
    batch = Batch({name: t.expand(100, *t.shape[1:]) for name, t in batch.tensors.items()})
    _, _, wide, tall = spans(image.view(batch, torch.arange(100), "local").get("pixels"))
    torch.testing.assert_close(wide * 300 / (tall * 200), torch.full((100,), 3.0), atol=0.25, rtol=0)


def test_a_crop_has_the_detail_of_the_picture():
    rng = np.random.default_rng(0)
    picture = Pil.fromarray(np.kron(rng.integers(0, 2, (112, 112, 1)), np.ones((4, 4, 3))).astype(np.uint8) * 255)
    settings = {"size": 112, "strong": Augment(crop=(0.06, 0.07), ratio=(1.0, 1.0))}  # 112 pixels of 448, or 28 of 112
    stored, small = (Image(stored=n, **settings) for n in (448, 112))
    sharp, blurred = (
        float(image.view(trained(image, picture), torch.arange(1)).get("pixels").std()) for image in (stored, small)
    )
    assert sharp > 0.45  # of black and white it is 0.5
    assert blurred < 0.4


def test_the_forms_for_a_gpu_and_a_cpu_agree_and_a_row_is_as_it_is_alone():
    image = Image(size=(24, 32), stored=40)
    batch, seeds = trained(image, *(placed(30 + 7 * n, 90 - 5 * n) for n in range(12))), torch.arange(12) + 5
    pixels, extent = batch.get("pixels"), batch.get("extent")
    whole = random_view(pixels, seeds, image.strong, (24, 32), extent)
    torch.testing.assert_close(dense_view(pixels, seeds, extent, image.strong, (24, 32)), whole, atol=1e-6, rtol=0)
    for row in range(12):
        alone = image.view(trained(image, placed(30 + 7 * row, 90 - 5 * row)), seeds[row : row + 1]).get("pixels")
        torch.testing.assert_close(alone, whole[row : row + 1], atol=1e-5, rtol=0)


@pytest.mark.parametrize(("size", "stored", "kind"), [(32, 64, "strong"), (64, None, "local")])
def test_a_row_is_as_it_is_alone_where_some_pictures_are_small_and_others_large(size, stored, kind):
    image, seeds = Image(size=size, stored=stored), torch.arange(6)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (n, n, 3), dtype=np.uint8) for n in (20, 20, 48, 48, 60, 90)]
    whole = image.view(trained(image, *pictures), seeds, kind).get("pixels")
    for part in ([0, 1], [2, 3], [3, 4], [5], [1]):
        alone = image.view(trained(image, *(pictures[i] for i in part)), seeds[part], kind).get("pixels")
        torch.testing.assert_close(alone, whole[part], atol=1e-5, rtol=0)


def test_pictures_of_one_size_and_the_views_shape_are_pixels_alone():
    image = Image(size=(16, 48))
    sample, (wide, aspect) = image.load(placed(32, 96), random.Random(0)), image.load(placed(32, 128), random.Random(0))
    assert aspect == pytest.approx(4 / 3)
    assert sample[0].shape == wide.shape == (3, 16, 48)
    assert sample[1] == 1
    assert list(image.collate([sample, sample])) == ["pixels"]
    squashed = Image(size=(16, 48), crop_mode="squash").load(placed(32, 128), random.Random(0))
    assert torch.equal(squashed[0], wide)
    assert squashed[1] == 1
    assert image.load(placed(32, 128)).shape == (3, 16, 48)


def test_pictures_of_several_sizes_lie_at_the_top_left_of_the_largest_there_may_be():
    for stored, layout in ((20, torch.contiguous_format), (60, torch.channels_last)):
        image = Image(size=16, stored=stored)
        batch = trained(image, placed(10, 17), placed(18, 90))
        pixels = batch.get("pixels")
        assert pixels.shape == (2, 3, stored, stored)
        assert pixels.is_contiguous(memory_format=layout)
        wide = min(90, stored)
        assert torch.equal(batch.get("extent"), torch.tensor([[16, 17, 1.7], [18, wide, 5]]))  # float32, for Apple's
        assert torch.equal(pixels[0, :, :16, :17], image.load(placed(10, 17), random.Random(0))[0])
        assert torch.equal(pixels[1, :, :18, :wide], image.load(placed(18, 90), random.Random(0))[0])
        assert int(pixels[0, :, 16:].max()) == int(pixels[0, :, :, 17:].max()) == 0


def test_what_lies_beside_a_picture_is_never_seen():
    image = Image(size=16, stored=40)
    batch = trained(image, *(Pil.new("RGB", size, "white") for size in ((9, 30), (40, 12), (100, 100), (1, 1))))
    for settings in (Augment(crop=(0.05, 1.0), flip=0.5), Augment()):
        for stored in (40, 80):
            image = Image(size=16, stored=stored, strong=settings)
            for draw in range(20):
                view = image.view(batch, torch.arange(4) + 4 * draw).get("pixels")
                torch.testing.assert_close(view, torch.ones_like(view), atol=1e-5, rtol=0)  # a level is 4e-3


def test_pictures_of_one_size_that_is_not_the_views_are_brought_to_it():
    image = Image(size=16, stored=24, strong=Augment())
    batch = trained(image, placed(24, 24), placed(60, 60))
    assert list(batch) == ["pixels"]
    for view in (image.view(batch, torch.arange(2)), image.view(batch, None)):
        wanted = torch.stack([image.load(placed(n, n)) for n in (24, 60)]) / 255
        torch.testing.assert_close(view.get("pixels"), wanted, atol=0.02, rtol=0)


def test_a_picture_is_no_more_enlarged_than_evaluation_does():
    for picture in (placed(64, 70), placed(128, 90)):
        pixels, _ = Image(size=64).load(picture, random.Random(0))
        assert torch.equal(pixels, torch.from_numpy(np.array(picture)).permute(2, 0, 1))
    for size in ((16, 48), (64, 192)):
        image, small = Image(size=size), placed(8, 24)
        assert torch.equal(image.load(small, random.Random(0))[0], image.load(small))
        assert image.load(placed(8, 500), random.Random(0))[0].shape == (3, size[0], image.stored_shape[1])


def test_a_jpeg_keeps_its_proportions_where_it_is_decoded_smaller():
    out = io.BytesIO()
    placed(2000, 3000).save(out, "JPEG")
    pixels, aspect = Image(size=20).load(out.getvalue(), random.Random(0))
    assert pixels.shape == (3, 40, 40)
    assert aspect == pytest.approx(1.5, rel=0.01)


def test_how_large_pictures_are_kept():
    assert Image(size=20).stored_shape == (40, 40)
    assert Image(size=32).stored_shape == (48, 48)
    assert Image(size=(16, 48)).stored_shape == (16, 48)
    assert Image(size=(16, 128)).stored_shape == (32, 256)
    assert Image(size=224).stored_shape == (448, 448)
    assert Image(size=224, stored=256).stored_shape == (256, 256)
    assert Image(stored=(20, 30)).source != Image().source
    assert Image(stored=48).source == Image().source
    with pytest.raises(InputError, match="stored=0: it must be one or two of 1 to 4096 pixels"):
        Image(stored=0)
