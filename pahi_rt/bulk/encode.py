"""Pictures as files: the same picture and settings give the same bytes, with the same version of Pillow."""

from __future__ import annotations

import io
from typing import Any

from PIL import Image

from pahi_rt.bulk.settings import EncodeFormat
from pahi_rt.drawing import Drawing, encode_png

ENDINGS: dict[EncodeFormat, str] = {"png": "png", "webp": "webp", "jpeg": "jpg"}
"""Format -> the ending of its files."""
_JPEG_QUALITY = 95


def is_lossless(kind: EncodeFormat, quality: int | None) -> bool:
    """Whether a file holds exactly what was drawn: PNG, and WebP without a quality."""
    return kind == "png" or (kind == "webp" and quality is None)


def encode(image: Image.Image, drawing: Drawing, kind: EncodeFormat, quality: int | None) -> bytes:
    """The file of a picture. A PNG is what `pahi-rt generate` writes, with its drawing in the text chunks."""
    if kind == "png":
        return encode_png(image, drawing)
    buffer = io.BytesIO()
    image.save(buffer, kind, **_options(kind, quality))
    return buffer.getvalue()


def _options(kind: EncodeFormat, quality: int | None) -> dict[str, Any]:
    if kind == "jpeg":
        return {"quality": _JPEG_QUALITY if quality is None else quality, "subsampling": 0}
    return {"lossless": True} if quality is None else {"quality": quality}
