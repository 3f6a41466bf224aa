"""Pictures of one size lie in memory as one tensor, and a batch is as if they had been put together for it."""

import io
import random

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from multicl import Pair
from multicl.data.loading import Data, Reader, slices
from multicl.data.rows import open_rows
from multicl.modalities.audio import Audio
from multicl.modalities.image import Image
from multicl.modalities.text import Text
from multicl.types import Alike

KINDS = {
    "of the views' size": (Image(size=32), (32, 32)),
    "small": (Image(size=32), (40, 44)),
    "small where others may be large": (Image(size=32, stored=64), (36, 32)),
    "large": (Image(size=50, stored=90), (80, 70)),
    "large and square": (Image(size=50, stored=90), (80, 80)),
}


def noise(height, width, seed=0, form="PNG"):
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Pil.fromarray(pixels).save(out, form)
    return out.getvalue()


def batches(image, cells, cache_gb):
    made = Reader(open_rows([{"image": cell} for cell in cells]), {"image": image}, [Pair("image", "image")])
    parts = slices(made, Data(workers=0, cache_gb=cache_gb), 4, 0, 1, 0, 9, pin=False)
    return made, [part.batches["image"] for part in parts]


@pytest.mark.parametrize(("image", "size"), KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_batches_from_a_store_are_those_that_are_put_together(image, size, form):
    cells = [noise(*size, seed, form) for seed in range(12)]
    made, found = batches(image, cells, 1.0)
    _, wanted = batches(image, cells, 0.0)
    assert set(made.cache.stores) == {"image"}
    for ours, theirs in zip(found, wanted, strict=True):
        assert list(ours) == list(theirs)
        assert torch.equal(ours.row, theirs.row)
        for name in theirs:
            assert torch.equal(ours.get(name), theirs.get(name))
            assert ours.get(name).stride() == theirs.get(name).stride()  # views on a CPU go by how they lie


@pytest.mark.parametrize("odd", [noise(32, 33), noise(64, 64)])
def test_one_picture_of_another_size_and_all_are_kept_one_by_one(odd):
    cells = [noise(32, 32, seed) for seed in range(11)] + [odd]
    made, found = batches(Image(size=32), cells, 1.0)
    _, wanted = batches(Image(size=32), cells, 0.0)
    assert not made.cache.stores
    assert len(made.cache) == 12
    for ours, theirs in zip(found, wanted, strict=True):
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours.get(name), theirs.get(name)) for name in theirs)


def test_what_is_alike_is_what_is_put_together_alike():
    image = Image(size=50, stored=90)
    cells = {"wide": noise(80, 120), "square": noise(120, 120), "also square": noise(90, 90), "other": noise(60, 60)}
    kinds = {name: image.alike(image.load(cell, random.Random(0))) for name, cell in cells.items()}
    assert kinds["square"] == kinds["also square"]
    assert len(set(kinds.values())) == 3  # the wide one has its proportions beside it


def test_texts_and_sounds_differ_in_length():
    assert isinstance(Image(), Alike)
    assert not isinstance(Text(), Alike)
    assert not isinstance(Audio(), Alike)
