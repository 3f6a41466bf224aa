"""What people have as pictures, good and bad."""

import io
import random
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image as Pil
from transformers import CLIPImageProcessor, SiglipImageProcessor

from multicl.modalities.image import Image, decode
from multicl.types import BadSample, Batch

IMAGE = Image(size=8)


def colours(height=8, width=8):
    """[H, W, 3] uint8: four quarters of red, green, blue and white."""
    array = np.zeros((height, width, 3), np.uint8)
    array[: height // 2, : width // 2, 0] = 255
    array[: height // 2, width // 2 :, 1] = 255
    array[height // 2 :, : width // 2, 2] = 255
    array[height // 2 :, width // 2 :] = 255
    return array


def encoded(picture, kind="PNG", **options):
    if isinstance(picture, np.ndarray):
        picture = Pil.fromarray(picture)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


EXPECTED = torch.from_numpy(colours().transpose(2, 0, 1).copy())


def test_one_picture_is_told_from_several(tmp_path):
    array = colours()
    ones = "a.png", tmp_path, encoded(array), {"path": "a.png"}, Pil.fromarray(array), io.BytesIO(encoded(array))
    grey = array[..., 0]
    for values in (*ones, array, torch.from_numpy(array), grey, torch.from_numpy(grey), array[..., :1], array / 255):
        assert IMAGE.single(values)
    many = [array], (array, array), array[None], torch.zeros(5, 8, 8), np.zeros((1, 8, 8)), torch.zeros(3, 3, 8, 8)
    for values in (*many, np.array(["a.png"]), np.array([["a.png"]], object), (x for x in [array])):
        assert not IMAGE.single(values)
    for values in (array.transpose(2, 0, 1), torch.zeros(4, 8, 8)):  # as torch has one, and as several grey ones are
        with pytest.raises(
            BadSample, match=r"shape \[., 8, 8\] may be one picture of . channels or . grey pictures: give"
        ):
            IMAGE.single(values)


@pytest.mark.parametrize(
    "raw",
    [
        encoded(colours()),
        bytearray(encoded(colours())),
        encoded(colours(), "BMP"),
        encoded(colours(), "TIFF"),
        encoded(colours(), "WEBP", lossless=True),
        encoded(Pil.fromarray(colours()).quantize(4)),
        encoded(Pil.fromarray(colours()).quantize(4), "GIF"),
        {"bytes": encoded(colours()), "path": "not/there.png"},
        Pil.fromarray(colours()),
        Pil.fromarray(colours()).quantize(4),
        colours(),
        colours().astype(np.float32) / 255,
        colours().astype(np.int64),
        colours().astype(np.uint16) * 257,
        colours() > 0,
        colours().tolist(),
        colours().transpose(2, 0, 1),
        torch.from_numpy(colours().transpose(2, 0, 1).copy()),
        torch.from_numpy(colours()),
        torch.from_numpy(colours()).permute(2, 0, 1).float() / 255,
    ],
)
def test_every_form_gives_the_same_pixels(raw):
    sample = IMAGE.load(raw)
    assert sample.dtype == torch.uint8
    assert sample.is_contiguous()
    assert torch.equal(sample, EXPECTED)


def test_paths_and_dicts_of_paths(tmp_path):
    path = tmp_path / "a picture.png"
    path.write_bytes(encoded(colours()))
    for raw in (path, str(path), {"path": str(path)}, {"bytes": None, "path": path}):
        assert torch.equal(IMAGE.load(raw), EXPECTED)


def test_jpeg_is_close():
    smooth = np.asarray(Pil.fromarray(colours()).resize((64, 64)))
    sample = Image(size=64).load(encoded(smooth, "JPEG", quality=95, subsampling=0))
    assert float((sample.float() - torch.from_numpy(smooth.copy()).permute(2, 0, 1)).abs().mean()) < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_exif_orientation_is_undone(orientation, kind):
    upright = np.asarray(Pil.fromarray(colours()).resize((32, 32), Pil.Resampling.NEAREST))
    turn = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # what the camera did; EXIF says how to undo it
    stored = Pil.fromarray(upright)
    if orientation != 1:
        stored = stored.transpose(Pil.Transpose(turn[orientation]))
    exif = Pil.Exif()
    exif[0x0112] = orientation
    sample = Image(size=32).load(encoded(stored, kind, exif=exif))
    assert float((sample.float() - torch.from_numpy(upright.copy()).permute(2, 0, 1)).abs().mean()) < 15


def test_transparent_parts_are_white():
    rgba = np.dstack((colours(), np.zeros((8, 8), np.uint8)))
    rgba[:4, :, 3] = 255
    want = EXPECTED.clone()
    want[:, 4:] = 255
    for raw in (encoded(rgba), rgba, torch.from_numpy(rgba).permute(2, 0, 1), Pil.fromarray(rgba)):
        assert torch.equal(IMAGE.load(raw), want)
    palette = Pil.fromarray(colours()).quantize(4)
    red = palette.getpixel((0, 0))
    sample = IMAGE.load(encoded(palette, transparency=red))
    assert sample[:, 0, 0].tolist() == [255, 255, 255]
    assert sample[:, 7, 0].tolist() == [0, 0, 255]


def test_grey_pictures_of_8_and_16_bits_and_floats():
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    want = torch.from_numpy(grey).expand(3, -1, -1)
    deep = grey.astype(np.uint16) * 257
    floats = grey.astype(np.float32) / 255
    for raw in (
        encoded(grey),
        encoded(deep),
        encoded(deep, "TIFF"),
        grey,
        deep,
        grey[..., None],
        torch.from_numpy(grey)[None],
    ):
        assert torch.equal(IMAGE.load(raw), want)
    with_alpha = Pil.merge("LA", (Pil.fromarray(grey), Pil.new("L", (8, 8), 255)))
    assert torch.equal(IMAGE.load(encoded(with_alpha)), want)
    assert torch.equal(IMAGE.load(floats), want)


def test_cmyk():
    sample = IMAGE.load(encoded(Pil.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG", quality=95))
    red = sample.float().mean((1, 2))
    assert red[0] > 240
    assert red[1:].max() < 15


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animated_file_the_first_picture_is_taken(kind):
    frames = [Pil.fromarray(colours()), Pil.new("RGB", (8, 8), "black"), Pil.new("RGB", (8, 8), "white")]
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert Pil.open(io.BytesIO(raw)).n_frames == 3
    assert torch.equal(IMAGE.load(raw), EXPECTED)


def test_show_writes_what_an_encoder_sees():
    pixels = torch.stack([EXPECTED, 255 - EXPECTED])
    for batch in (pixels, pixels / 255):
        for (mime, data), want in zip(IMAGE.show(Batch({"pixels": batch})), pixels, strict=True):
            assert mime == "image/png"
            assert torch.equal(IMAGE.load(data), want)


def test_other_sizes_are_covered_and_the_centre_cut_out():
    wide = np.concatenate([np.zeros((8, 8, 3), np.uint8), colours(), np.zeros((8, 8, 3), np.uint8)], 1)
    assert torch.equal(IMAGE.load(wide), EXPECTED)
    assert torch.equal(IMAGE.load(wide.transpose(1, 0, 2)), EXPECTED.transpose(1, 2))
    assert Image(size=(16, 48)).load(colours()).shape == (3, 16, 48)
    assert Image(size=(5, 7)).load(np.zeros((1, 1, 3), np.uint8)).shape == (3, 5, 7)
    checks = np.indices((64, 64)).sum(0) % 2 * np.uint8(255)  # without antialiasing: stripes
    assert float((IMAGE.load(checks).float() - 127.5).abs().max()) < 2


def test_a_large_jpeg_decoded_at_a_fraction_looks_the_same():
    g = np.random.default_rng(0)
    photo = np.asarray(Pil.fromarray(g.integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((1600, 1200)))
    data = encoded(photo, "JPEG", quality=95)
    exact = np.asarray(decode.read(data).resize((48, 48), Pil.Resampling.BICUBIC)).astype(float)
    quick, before = Image(size=32).load(data, random.Random(0))
    assert before == pytest.approx(4 / 3)
    assert np.abs(exact - quick.permute(1, 2, 0).numpy()).mean() < 1


@pytest.mark.parametrize("sides", [(130, 180), (180, 131), (97, 40), (64, 64), (1203, 1600), (20, 31)])
@pytest.mark.parametrize(
    ("processor", "options", "how"),
    [
        (CLIPImageProcessor, {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}, {}),
        (
            CLIPImageProcessor,
            {"size": {"shortest_edge": 37}, "crop_size": {"height": 32, "width": 32}},
            {"kept": 32 / 37},
        ),
        (SiglipImageProcessor, {"size": {"height": 32, "width": 32}}, {"squash": True}),
        (
            SiglipImageProcessor,
            {"size": {"height": 32, "width": 32}, "resample": 2},
            {"squash": True, "interpolation": "bilinear"},
        ),
    ],
    ids=["clip", "a share of the centre", "siglip", "siglip 2"],
)
def test_evaluation_sees_what_transformers_processors_give(sides, processor, options, how):
    """They scale tensors, and round some numbers otherwise: by 1 of 255."""
    g = np.random.default_rng(0)
    photo = Pil.fromarray(g.integers(0, 256, (9, 12, 3), dtype=np.uint8)).resize(sides[::-1])
    data = encoded(photo, "JPEG", quality=95)
    raw = {"do_rescale": False, "do_normalize": False, "return_tensors": "pt"}
    wanted = processor(**options)(Pil.open(io.BytesIO(data)).convert("RGB"), **raw)["pixel_values"][0]
    apart = (decode.load(data, 32, 32, **how).float() - wanted.float()).abs()
    assert apart.max() <= 1
    assert apart.mean() < 0.05


def bomb(width=30_000, height=30_000):
    """A PNG of some hundred bytes that says it is huge."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


GOOD_JPEG = encoded(np.asarray(Pil.fromarray(colours()).resize((64, 64))), "JPEG")
NAN = np.full((8, 8), np.nan)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "empty bytes"),
        (b"this is no picture", "not a picture"),
        (GOOD_JPEG[: len(GOOD_JPEG) // 2], "corrupt"),
        (encoded(colours(64, 64))[:60], "corrupt"),
        (bomb(), "too large"),
        (bomb(11_000, 10_000), "too large"),
        ("", "no such file"),
        ("nowhere/at all.png", "no such file"),
        ("a text that is too long for a file's name " * 9, "no such file"),
        (
            "iVBORw0KGgo" * 100,
            r"^a text of 1100 characters is no path, 'iVBORw0KGgo.{0,40} \.\.\.; decode base64 to bytes$",
        ),
        (["a.png", None], "a list of 2 files; a cell holds one picture"),
        ([{"path": "a.png"}], "a list of 1 files"),
        (3, "int"),
        (None, "NoneType"),
        ({}, "without 'bytes' or 'path'"),
        ({"bytes": None, "path": None}, "without 'bytes' or 'path'"),
        (np.zeros((0, 4, 3), np.uint8), "empty"),
        (np.zeros((5, 5, 2), np.uint8), "shape"),
        (np.zeros((2, 3, 4, 4), np.uint8), "shape"),
        (np.zeros(7), "shape"),
        (NAN, "NaN"),
        (torch.full((3, 4, 4), float("inf")), "NaN or infinite"),
        (np.full((4, 4), 200.0), r"\[0, 1\]$"),
        (np.full((4, 4), -1), r"\[0, 255\]$"),
        (torch.linspace(-2.1, 2.6, 48).view(3, 4, 4), r"\[0, 1\]: leave Normalize out of its transforms"),
        (np.full((4, 4), 1j), "complex"),
        ([[1, 2], [3]], "array"),
        (np.array([["a"]]), "integers or floats"),
        (Pil.new("RGB", (0, 5)), "empty"),
    ],
)
def test_what_cannot_be_read_says_why(raw, reason):
    with pytest.raises(BadSample, match=reason):
        IMAGE.load(raw)
    with pytest.raises(BadSample, match=reason):
        IMAGE.preview(raw)


def test_a_folder_is_no_picture(tmp_path):
    with pytest.raises(BadSample, match="no such file"):
        IMAGE.load(tmp_path)


def test_the_callers_picture_is_left_as_it_is():
    picture = Pil.fromarray(colours(200, 300))
    IMAGE.preview(picture)
    IMAGE.load(picture)
    assert picture.size == (300, 200)


@pytest.mark.parametrize(("kind", "mime"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_preview(kind, mime):
    found, data = IMAGE.preview(encoded(colours(100, 200), kind))
    assert found == mime
    assert Pil.open(io.BytesIO(data)).size == (64, 32)
    assert len(data) < 3000
    assert Pil.open(io.BytesIO(IMAGE.preview(colours())[1])).size == (8, 8)


def test_a_share_of_the_centre_is_scaled_to_the_size():
    picture = Pil.fromarray(np.arange(40 * 80 * 3, dtype=np.uint8).reshape(40, 80, 3))
    cut = decode.load(picture, 20, 20, 0.5)
    assert cut.equal(decode.load(picture.crop((30, 10, 50, 30)), 20, 20))  # half of the 40 x 40 centre
    larger, same = decode.load(picture, 40, 80, 0.5), decode.load(picture.crop((20, 10, 60, 30)), 40, 80)
    assert larger[:, 4:-4, 4:-4].equal(same[:, 4:-4, 4:-4])  # edges are made of what is beyond them, too


def test_crop_pct_is_of_evaluation_alone():
    picture, image = Pil.fromarray(colours(16, 16)), Image(size=8, crop_pct=0.5)
    assert image.load(picture).equal(decode.load(picture.crop((4, 4, 12, 12)), 8, 8))
    assert image.load(picture, random.Random(0))[0].equal(IMAGE.load(picture, random.Random(0))[0])
