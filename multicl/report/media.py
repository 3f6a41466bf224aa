"""Media on a page: which kinds it can show, how they are embedded in it, and how they are made small enough."""

from __future__ import annotations

import base64
import io
import re

from PIL import Image

from multicl.types import InputError

MEDIA = re.compile(r"(image|audio)/[a-z0-9.+-]+(;\s*codecs=[\w.,-]+)?", re.IGNORECASE)
Medium = tuple[str, bytes]
"""(MIME type, bytes): `image/*` is drawn, `audio/*` is played, `text/plain` (UTF-8) is written."""


def kind_of(owner: str, medium: Medium) -> str:
    """The kind of a medium: "text", "image" or "audio".

    Args:
        owner: whose medium it is, for the error.

    Raises:
        InputError: a page cannot show it.
    """
    mime, content = medium
    if mime.split(";")[0] == "text/plain":
        return "text"
    if MEDIA.fullmatch(mime) and content:
        return mime.split("/")[0].lower()
    raise InputError(f"{owner}: a page shows image/*, audio/* and text/plain, got {mime}, {len(content)} bytes")


def shown(medium: Medium) -> str:
    """A medium as a page embeds it: a text as it is, anything else as a `data:` URI."""
    mime, content = medium
    if mime.split(";")[0] == "text/plain":
        return content.decode("utf-8", errors="replace")
    return f"data:{mime};base64,{base64.b64encode(content).decode()}"


def thumbnail(mime: str, content: bytes, most: int) -> Medium:
    """A picture of at most `most` bytes unchanged, a larger one as WebP, ever smaller and coarser until it fits.

    The last try (32 pixels, quality 40) is taken whatever its size. Other media are returned unchanged.
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


def within(media: list[Medium | None], room: int) -> list[Medium | None]:
    """Media in order, with None for those that no longer fit into `room` bytes of a page; equal ones count once."""
    kept: list[Medium | None] = []
    seen: set[Medium] = set()
    for medium in media:
        if medium is not None and medium not in seen and not medium[0].startswith("text/"):
            size = -(-len(medium[1]) // 3) * 4  # as base64
            if size > room:
                medium = None
            else:
                room -= size
                seen.add(medium)
        kept.append(medium)
    return kept
