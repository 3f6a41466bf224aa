"""Pictures small enough that two thousand of them fit a page."""

from __future__ import annotations

import io

from PIL import Image


def thumbnail(mime: str, content: bytes, most: int) -> tuple[str, bytes]:
    """A picture as it is, or, where it has more than `most` bytes, as WebP, smaller and coarser until it fits.

    The last try (32 pixels, quality 40) is taken however large it is. What is no picture comes back as it is.
    """
    if not mime.startswith("image/") or len(content) <= most:
        return mime, content
    opened = Image.open(io.BytesIO(content))
    picture = opened.convert("RGBA" if "A" in opened.getbands() or opened.mode == "P" else "RGB")
    for side, quality in ((64, 80), (64, 55), (48, 50), (32, 40)):
        small, out = picture.copy(), io.BytesIO()
        small.thumbnail((side, side))
        small.save(out, "WEBP", quality=quality, method=4)
        content = out.getvalue()
        if len(content) <= most:
            break
    return "image/webp", content


def within(media: list[tuple[str, bytes] | None], room: int) -> list[tuple[str, bytes] | None]:
    """The first media that fit into `room` bytes of a page (base64: four thirds); equal ones count once."""
    kept: list[tuple[str, bytes] | None] = []
    seen: set[tuple[str, bytes]] = set()
    for medium in media:
        if medium is not None and medium not in seen and not medium[0].startswith("text/"):
            room -= -(-len(medium[1]) // 3) * 4
            if room < 0:
                room += -(-len(medium[1]) // 3) * 4
                medium = None
            else:
                seen.add(medium)
        kept.append(medium)
    return kept
