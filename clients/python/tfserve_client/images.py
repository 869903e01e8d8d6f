"""Images as files: from a path, from the bytes of a file, from an image of Pillow, or from an array."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from tfserve_client.errors import Invalid
from tfserve_client.tensors import is_array

SIGNATURES = {
    b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png", b"GIF8": "image/gif", b"BM": "image/bmp",
    b"RIFF": "image/webp",
}  # fmt: skip


def image_file(image: Any) -> tuple[bytes, str]:
    """The bytes of an image file, and its media type. Raises `Invalid`, `OSError`."""
    if isinstance(image, (str, Path)):
        data = Path(image).read_bytes()
    elif isinstance(image, (bytes, bytearray, memoryview)):
        data = bytes(image)
    else:
        data = _png(image)
    known = [media for start, media in SIGNATURES.items() if data.startswith(start)]
    return data, known[0] if known else "application/octet-stream"


def _png(image: Any) -> bytes:
    if is_array(image) and not hasattr(image, "save"):
        image = _from_array(image)
    if not hasattr(image, "save"):
        raise Invalid(
            f"A {type(image).__name__} is not an image. Give a path, bytes, a PIL image or an array of uint8."
        )
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def _from_array(array: Any) -> Any:
    try:
        from PIL import Image
    except ImportError:
        raise Invalid("An array becomes an image file with Pillow. Install it, or send a file.") from None
    if str(array.dtype) != "uint8":
        raise Invalid(f"An array of pixels must be uint8 (0 to 255), got {array.dtype}.")
    return Image.fromarray(array)
