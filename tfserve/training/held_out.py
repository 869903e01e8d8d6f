"""A few held-out images, kept with a SavedModel: the server compares other runtimes with TensorFlow by them."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from tfserve.runtimes import image_metadata

MOST = 12
LARGEST_SIDE = 512
MAX_FILE_BYTES = 512 * 1024


def write(files: Sequence[Path], saved_model: Path) -> None:
    """Writes the first of the image files into the SavedModel's folder, large ones made smaller."""
    place = saved_model / image_metadata.HELD_OUT
    place.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(place, "w") as archive:
        for number, file in enumerate(files[:MOST]):
            name, content = _small(file)
            archive.writestr(f"{number:02}{name}", content)


def _small(file: Path) -> tuple[str, bytes]:
    """The suffix and the bytes of an image that is at most 512 pixels wide and high."""
    from PIL import Image

    with Image.open(file) as image:
        if max(image.size) <= LARGEST_SIDE and file.stat().st_size <= MAX_FILE_BYTES:
            return file.suffix.lower(), file.read_bytes()
        image.draft("RGB", (LARGEST_SIDE, LARGEST_SIDE))
        small = image.convert("RGB")
        small.thumbnail((LARGEST_SIDE, LARGEST_SIDE))
        buffer = io.BytesIO()
        small.save(buffer, "JPEG", quality=95)
        return ".jpg", buffer.getvalue()
