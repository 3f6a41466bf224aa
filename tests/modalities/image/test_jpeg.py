"""Plain JPEGs, decoded by torchvision, beside what Pillow gives."""

import contextlib
import io

import numpy as np
import pytest
import torch
from PIL import Image as Pil

from multicl.modalities.image import Image, decode, jpeg
from multicl.modalities.image.resample import SMALL
from multicl.types import BadSample

SHAPES = [(8, 8), (32, 32), (31, 45), (1, 3), (100, 17)]


def photo(height, width):
    """Smooth colours with a little noise."""
    g = np.random.default_rng(height * 1000 + width)
    small = g.integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    smooth = np.asarray(Pil.fromarray(small).resize((width, height), Pil.Resampling.BICUBIC)).astype(float)
    return Pil.fromarray((smooth + g.normal(0, 5, smooth.shape)).clip(0, 255).astype(np.uint8))


def encoded(picture, **options):
    out = io.BytesIO()
    picture.save(out, "JPEG", **options)
    return out.getvalue()


def by_pillow(data):
    return torch.from_numpy(np.asarray(Pil.open(io.BytesIO(data)).convert("RGB")).copy()).permute(2, 0, 1)


def other_than_pillow(*args, **kwargs):
    raise AssertionError("asked Pillow")


@pytest.mark.parametrize("size", SHAPES)
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"quality": 20}, {"comment": b"hello", "icc_profile": bytes(999)}]
)
def test_gives_the_pixels_of_pillow(size, subsampling, options, monkeypatch):
    data = encoded(photo(*size), subsampling=subsampling, **options)
    assert jpeg.plain_size(data) == size
    monkeypatch.setattr(decode, "read", other_than_pillow)
    for raw in (data, bytearray(data), {"bytes": data, "path": None}):
        sample = Image(size=size).load(raw)
        assert sample.dtype == torch.uint8
        side = sample if max(size) <= SMALL else sample.permute(1, 2, 0)  # large ones: channels last
        assert side.is_contiguous()
        assert torch.equal(sample, by_pillow(data))


def exif(orientation):
    found = Pil.Exif()
    found[0x0112] = orientation
    return found


ODD = {
    "grey": encoded(photo(16, 16).convert("L")),
    "CMYK": encoded(photo(16, 16).convert("CMYK")),
    "turned": encoded(photo(16, 16), exif=exif(6)),
    "XMP": encoded(photo(16, 16), xmp=b'<x xmlns:tiff="" tiff:Orientation="3"/>'),
    "RGB": encoded(photo(16, 16), keep_rgb=True),
}


@pytest.mark.parametrize("name", ODD)
def test_others_are_pillows(name, monkeypatch):
    data = ODD[name]
    assert jpeg.plain_size(data) is None
    want = decode.read(data)
    sample = Image(size=16).load(data)
    assert torch.equal(sample, torch.from_numpy(np.asarray(want).copy()).permute(2, 0, 1))
    monkeypatch.setattr(decode, "read", other_than_pillow)
    with pytest.raises(AssertionError, match="asked Pillow"):
        Image(size=16).load(data)


def test_what_is_to_be_scaled_is_pillows():
    data = encoded(photo(40, 30))
    want = decode.fit(decode.read(data), 16, 16)
    assert torch.equal(Image(size=16).load(data), torch.from_numpy(np.asarray(want).copy()).permute(2, 0, 1))


def test_damaged_files_are_refused_as_ever():
    data = encoded(photo(64, 64))
    for end in range(0, len(data) - 2, 7):
        with pytest.raises(BadSample):
            Image(size=64).load(data[:end])
        jpeg.plain_size(data[:end])
    g = np.random.default_rng(0)
    for _ in range(200):  # whatever is broken: a picture or BadSample
        broken = bytearray(data)
        for at in g.integers(0, len(data), 4):
            broken[at] = g.integers(256)
        with contextlib.suppress(BadSample):
            assert Image(size=64).load(bytes(broken)).shape == (3, 64, 64)
