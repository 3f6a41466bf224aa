"""A cell with a picture -> a PIL image -> uint8 [3, H, W] of the size that is kept."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from multicl.modalities.image import jpeg
from multicl.modalities.image.presets import SMALL
from multicl.modalities.image.quiet import quiet
from multicl.modalities.paths import refuse_long
from multicl.types import BadSample

MAX_PIXELS = 100_000_000
"""Pictures of more pixels are refused before they are decoded: 300 MB of memory, and probably an attack."""
PREVIEW = 64
"""Greatest pixels a side of a picture on a page."""
_ORIENTATION = 0x0112  # the EXIF tag
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


def load(
    raw: Any, height: int, width: int, kept: float = 1.0, squash: bool = False, interpolation: str = "bicubic"
) -> Tensor:
    """One cell -> uint8 [3, height, width]: scaled to cover the size (antialiased), the centre cut out.

    The file is decoded at its full size, and the centre is that of transformers' processors, to the pixel: a checkpoint
    sees what it saw in training. Large pictures are channels last in memory, which is the fastest to crop.

    Args:
        raw: what `read` takes.
        kept: share of that centre's height and width, in (0, 1], that is scaled to the size.
        squash: scale height and width independently, whatever the picture's proportions.
        interpolation: Pillow's name, as in `Image`.

    Raises:
        BadSample: as `read`.
    """
    pixels = _plain_jpeg(raw, height, width) if kept == 1 else None
    if pixels is not None and pixels.shape[1:] == (height, width):
        return _laid_out(pixels)
    return _pixels(fit(read(raw), height, width, kept, squash, interpolation))


def load_whole(raw: Any, least: tuple[int, int], most: tuple[int, int]) -> tuple[Tensor, tuple[int, int]]:
    """One cell -> (uint8 [3, h, w], the whole picture with each side scaled into its bounds; its (height, width)
    before scaling).

    The latter may be a half, a quarter or an eighth of the file's, as JPEGs may be decoded smaller.

    Args:
        raw: what `read` takes. least, most: bounds of (h, w); a picture within them is left as it is.

    Raises:
        BadSample: as `read`.
    """
    pixels = _plain_jpeg(raw, *most)
    if pixels is not None and pixels.shape[1] >= least[0] and pixels.shape[2] >= least[1]:
        return _laid_out(pixels), (pixels.shape[1], pixels.shape[2])
    picture = read(raw, hint=2 * max(most))
    own = picture.height, picture.width
    height, width = (min(max(n, low), high) for n, low, high in zip(own, least, most, strict=True))
    return _pixels(picture.resize((width, height), Image.Resampling.BICUBIC, reducing_gap=3.0)), own


def _plain_jpeg(raw: Any, height: int, width: int) -> Tensor | None:
    """The pixels of a plain JPEG of at most this size; None: anything else."""
    data = raw.get("bytes") if isinstance(raw, Mapping) else raw
    if not isinstance(data, bytes | bytearray):
        return None
    size = jpeg.plain_size(data)
    return jpeg.decode(data) if size is not None and size[0] <= height and size[1] <= width else None


def _pixels(picture: Image.Image) -> Tensor:
    return _laid_out(torch.from_numpy(np.array(picture)).permute(2, 0, 1))


def _laid_out(pixels: Tensor) -> Tensor:
    return pixels.contiguous() if max(pixels.shape[1:]) <= SMALL else pixels


def read(raw: Any, hint: int | None = None) -> Image.Image:
    """One cell -> an RGB picture with its EXIF orientation applied; transparent parts are put on white.

    Args:
        raw: encoded bytes, a path, a dict with "bytes" or "path", a PIL image, or an array: [H, W] or [H, W, C] of
            numpy or nested lists, [H, W] or [C, H, W] of torch, C of 1, 3 or 4, integers in [0, 255], uint16 in
            [0, 65535] or floats in [0, 1]. If only the other end can be channels, the array is read that way.
        hint: a JPEG of more than twice this many pixels a side may be decoded at a half, a quarter or an eighth.

    Raises:
        BadSample: not a picture, corrupt, empty, too large, or an array of another shape or range.
    """
    if isinstance(raw, Mapping):
        given = [raw[key] for key in ("bytes", "path") if raw.get(key) is not None]
        if not given:
            raise BadSample(f"a dict without 'bytes' or 'path'; it has {sorted(map(str, raw))}")
        raw = given[0]
    if isinstance(raw, bytes | bytearray | memoryview):
        if not len(raw):
            raise BadSample("empty bytes instead of a picture")
        return _open(io.BytesIO(raw), hint)
    if isinstance(raw, str | Path):
        if not os.path.isfile(raw):  # noqa: PTH113 - Path's own raises if a text is too long for a name
            refuse_long(raw)
            raise BadSample(f"no such file: {str(raw)!r}")
        return _open(raw, hint)
    if isinstance(raw, Image.Image):
        return _convert(raw)
    if isinstance(raw, list | tuple) and any(isinstance(part, str | bytes | Mapping) for part in raw):
        raise BadSample(f"a list of {len(raw)} files; a cell holds one picture")
    if isinstance(raw, np.ndarray | Tensor | list | tuple):
        return _from_array(raw)
    raise BadSample(f"expected a picture (bytes, a path, a PIL image or an array), got {type(raw).__name__}")


def is_single(values: Any) -> bool:
    """Whether these are one picture rather than several: of arrays, [H, W] and [H, W, C] are one, C of 1, 3 or 4.

    Raises:
        BadSample: an array [3 or 4, H, W].
    """
    if isinstance(values, np.ndarray | Tensor):
        shape, numbers = list(values.shape), isinstance(values, Tensor) or values.dtype.kind in "biuf"
        if len(shape) == 3 and shape[0] in (3, 4) and numbers and shape[2] not in (1, 3, 4):
            raise BadSample(
                f"an array of shape {shape} may be one picture of {shape[0]} channels or {shape[0]} grey pictures: "
                "give [array] for one picture, list(array) for several"
            )
        return numbers and (len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)))
    if hasattr(values, "read"):  # an open file, which would be iterated over by lines
        return True
    return isinstance(values, str | Path | bytes | bytearray | memoryview | Mapping | Image.Image)


def fit(
    picture: Image.Image, height: int, width: int, kept: float = 1.0, squash: bool = False,
    interpolation: str = "bicubic",
) -> Image.Image:  # fmt: skip
    """Scale to cover width x height and cut out the centre, in one resampling; the picture itself if it fits.

    The result is as if the picture were first scaled to whole pixels, its longer side rounded down, and then cropped by
    whole pixels, as transformers' processors do.

    Args:
        kept, squash, interpolation: as in `load`.
    """
    if picture.size == (width, height) and kept == 1:
        return picture
    across, down = scaled(width, kept), scaled(height, kept)
    if not squash and across * picture.height >= down * picture.width:
        down = across * picture.height // picture.width
    elif not squash:
        across = down * picture.width // picture.height
    w, h = picture.width / across, picture.height / down  # of a pixel
    left, top = (across - width) // 2 * w, (down - height) // 2 * h
    box = (left, top, min(left + width * w, picture.width), min(top + height * h, picture.height))
    return picture.resize((width, height), Image.Resampling[interpolation.upper()], box=box)


def scaled(side: int, kept: float) -> int:
    """Pixels of a side whose share `kept` is `side` pixels, rounded down as in timm: 232 for a share 224/232 of 224."""
    return math.floor(side / kept + 1e-6)


def preview(raw: Any) -> tuple[str, bytes]:
    """One cell -> (MIME type, bytes), at most `PREVIEW` pixels on its longer side: JPEG for a JPEG, else PNG.

    Raises:
        BadSample: as `read`.
    """
    picture = read(raw, hint=2 * PREVIEW)
    lossy = picture.info.get("lossy", False)
    picture.thumbnail((PREVIEW, PREVIEW), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    clean = Image.frombytes("RGB", picture.size, picture.tobytes())  # without the source's metadata
    clean.save(out, "JPEG" if lossy else "PNG", **({"quality": 85} if lossy else {"optimize": True}))
    return ("image/jpeg" if lossy else "image/png"), out.getvalue()


def to_png(pixels: Tensor) -> tuple[str, bytes]:
    """[3, H, W] uint8, or float in [0, 1] -> (MIME type, bytes)."""
    if pixels.is_floating_point():
        pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().cpu().numpy()).save(out, "PNG", optimize=True)
    return "image/png", out.getvalue()


def _open(file: io.BytesIO | str | Path, hint: int | None) -> Image.Image:
    try:
        with (
            quiet(),
            Image.open(file) as picture,
        ):  # Pillow warns of corrupt metadata and of sizes; sizes are checked below
            _check_size(picture)
            if hint is not None and min(picture.size) > 2 * hint:
                picture.draft(None, (hint, hint))
            converted = _convert(picture)
            converted.info["lossy"] = picture.format == "JPEG"
            return converted
    except UnidentifiedImageError:
        size = file.getbuffer().nbytes if isinstance(file, io.BytesIO) else Path(file).stat().st_size
        raise BadSample(f"not a picture that can be read ({size} bytes)") from None
    except Image.DecompressionBombError as error:
        raise BadSample(f"the picture is too large: {error}") from None
    except BadSample:
        raise
    except MemoryError:
        raise BadSample("the picture does not fit in memory") from None
    except Exception as error:  # decoders raise OSError, ValueError, SyntaxError, struct.error, ...
        raise BadSample(f"a corrupt picture: {error or type(error).__name__}") from None


def _check_size(picture: Image.Image) -> None:
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise BadSample(f"the picture is too large: {width} x {height} pixels, more than {MAX_PIXELS}")
    if not width or not height:
        raise BadSample(f"an empty picture: {width} x {height} pixels")


def _convert(picture: Image.Image) -> Image.Image:
    """Any mode -> RGB with the orientation applied; the caller's picture is not changed."""
    _check_size(picture)
    try:
        if picture.mode != "RGB" or "exif" in picture.info or picture.format not in (None, "JPEG"):
            if picture.getexif().get(_ORIENTATION, 1) != 1:
                picture = ImageOps.exif_transpose(picture)
            if picture.mode in _ALPHA or "transparency" in picture.info:
                over = picture.convert("RGBA")
                return Image.alpha_composite(Image.new("RGBA", over.size, "white"), over).convert("RGB")
            if picture.mode.startswith(("I", "F")):
                return _from_array(np.asarray(picture).astype(np.float64 if picture.mode == "F" else np.int64), 65535)
        return picture.convert("RGB")
    except BadSample:
        raise
    except Exception as error:
        raise BadSample(f"a corrupt picture: {error or type(error).__name__}") from None


def _from_array(raw: Any, top: int = 255) -> Image.Image:
    """An array -> an RGB picture; `top`: the integer that is white (in uint16 arrays always 65535)."""
    channels_first = isinstance(raw, Tensor)
    try:
        array = raw.detach().cpu().numpy() if isinstance(raw, Tensor) else np.asarray(raw)
    except (TypeError, ValueError) as error:
        raise BadSample(f"an array that is not a picture: {error}") from None
    shape = list(array.shape)
    if array.ndim == 2:
        array = array[..., None]
    elif array.ndim == 3:
        first, last = (n in (1, 3, 4) for n in (shape[0], shape[2]))
        if first and (channels_first or not last):
            array = array.transpose(1, 2, 0)
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        raise BadSample(f"an array of shape {shape}; a picture is [H, W] or [H, W, C] with C of 1, 3 or 4")
    if not array.size:
        raise BadSample(f"an empty picture: an array of shape {shape}")
    if array.shape[0] * array.shape[1] > MAX_PIXELS:
        raise BadSample(f"the picture is too large: an array of shape {shape}")
    pixels = _to_uint8(array, top)
    if pixels.shape[2] == 1:
        pixels = pixels.repeat(3, axis=2)
    if pixels.shape[2] == 4:
        alpha = pixels[..., 3:].astype(np.float32) / 255
        pixels = (pixels[..., :3] * alpha + 255 * (1 - alpha) + 0.5).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(pixels))


def _to_uint8(array: Any, top: int) -> Any:
    kind = array.dtype
    if kind == np.uint8:
        return array
    if kind == np.bool_:
        return array.astype(np.uint8) * 255
    if kind.kind not in "iuf":
        raise BadSample(f"an array of {kind}; a picture holds integers or floats")
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadSample("an array with NaN or infinite values")
    if kind.kind == "f":
        top = 1
    elif kind == np.uint16:
        top = 65535
    slack = 1e-3 * top if kind.kind == "f" else 0  # rounding of an earlier resize
    if low < -slack or high > top + slack:
        normalised = kind.kind == "f" and low < 0 and max(-low, high) < 10
        hint = ": leave Normalize out of its transforms, as encoders normalise" if normalised else ""
        raise BadSample(f"an array of {kind} with values from {low} to {high}; a picture's are in [0, {top}]{hint}")
    return (array.clip(0, top).astype(np.float64) * (255 / top) + 0.5).astype(np.uint8)
