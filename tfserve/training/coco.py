"""Annotation files in the format of COCO: images, categories, and for each object a box, outlines or run lengths."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

MAX_BYTES = 1024 * 1024 * 1024


class Image(msgspec.Struct):
    id: int | str
    file_name: str
    width: Any = None
    height: Any = None


class Category(msgspec.Struct):
    id: int | str
    name: str
    supercategory: Any = None


class Annotation(msgspec.Struct):
    """`bbox` is [left, top, width, height] in pixels; it is not checked here, and neither is `segmentation`."""

    image_id: int | str
    category_id: int | str
    bbox: Any = None
    segmentation: Any = None
    area: Any = None
    iscrowd: Any = 0


class Coco(msgspec.Struct):
    """The parts of an annotation file that are read. Images may be missing objects, not the other way round."""

    images: list[Image]
    categories: list[Category]
    annotations: list[Annotation]


class NotCoco(Exception):
    """The file is JSON of something else, or none; the message says where it differs."""


def read(file: Path) -> Coco:
    """Raises `NotCoco`, `OSError`."""
    if file.stat().st_size > MAX_BYTES:
        raise NotCoco(f"it has more than {MAX_BYTES // 2**20} MiB")
    try:
        return msgspec.json.decode(file.read_bytes(), type=Coco)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise NotCoco(str(error)) from None
