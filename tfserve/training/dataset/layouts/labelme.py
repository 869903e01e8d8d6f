"""Files of labelme: one JSON for each image, with the outlines of what is in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from tfserve.tensors.specs import Array
from tfserve.training.dataset import image_reading, json_reading, text_reading
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of_path
from tfserve.training.dataset.layouts.polygons import Annotated, BadShape, Shape, check_size, circle, outline, rectangle
from tfserve.training.dataset.search import Search, same_form

MAX_BYTES = 256 * 1024 * 1024
NOT_DRAWN = ("point", "points", "line", "linestrip")


class _File(msgspec.Struct):
    """The fields that are read."""

    shapes: list[dict[str, Any]]
    imagePath: str = ""  # noqa: N815
    imageWidth: Any = None  # noqa: N815
    imageHeight: Any = None  # noqa: N815
    imageData: Any = None  # noqa: N815


def find(search: Search, index: ImageIndex) -> dict[Path, Annotated] | None:
    """What is drawn on each image; None without a usable file of labelme, since others may be left from earlier."""
    found: dict[Path, Annotated] = {}
    left_out: dict[str, int] = {}
    skipped: list[tuple[Path, str]] = []
    for path in search.below(search.root, (".json",)):
        file = _read(path)
        if file is None:
            continue
        there = index.find(file.imagePath, path.parent) or index.find(path.stem, path.parent)
        image = there or _embedded(search, path, file)
        if image is None:
            skipped.append((path, f"missing: image {file.imagePath!r} not found"))
            continue
        try:
            annotated = _annotated(file, left_out)
        except BadShape as bad:
            skipped.append((image, f"bad annotations: {search.name(path)}: {bad}"))
            continue
        annotated.part = part_of_path(index.relative(there) if there else path.relative_to(search.root))
        found[image] = annotated
    if not found:
        search.hint = search.hint or _hint(search, skipped)
        return None
    for path, reason in skipped:
        search.skip(path, reason, bad=True)
    search.layout = f"labelme: {len(found)} images with a JSON file of outlines each"
    for kind, count in left_out.items():
        search.remarks.append(f"{count} shapes of type {kind!r} have no area and were left out.")
    return found


def _hint(search: Search, skipped: Sequence[tuple[Path, str]]) -> str:
    """Why files of labelme can't be used: a sentence, empty without such files."""
    if not skipped:
        return ""
    path, reason = skipped[0]
    return f" No file of labelme can be used ({len(skipped)} found, such as {search.name(path)}: {reason})."


def _read(path: Path) -> _File | None:
    """None for JSON of other things."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        return msgspec.convert(json_reading.parsed(text_reading.read(path)), type=_File)
    except (OSError, ValueError):
        return None


def _embedded(search: Search, path: Path, file: _File) -> Path | None:
    """The image that the file of labelme itself contains, written to a file in the task's folder."""
    if not isinstance(file.imageData, str) or not file.imageData:
        return None
    try:
        data = base64.b64decode(file.imageData, validate=True)
    except ValueError:
        return None
    if len(data) > image_reading.MAX_FILE_BYTES:
        return None
    image = search.work("embedded") / path.relative_to(search.root).with_suffix(".image")
    image.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    image.write_bytes(data)
    return image


def _annotated(file: _File, left_out: dict[str, int]) -> Annotated:
    annotated = Annotated(*check_size(file.imageWidth, file.imageHeight))
    for number, shape in enumerate(file.shapes, start=1):
        kind = str(shape.get("shape_type") or "polygon")
        name = same_form(str(shape.get("label", "")).strip())
        if not name:
            raise BadShape("a shape has no label")
        if kind in NOT_DRAWN:
            left_out[kind] = left_out.get(kind, 0) + 1
        else:
            annotated.shapes.append(_shape(kind, name, shape)._replace(number=number))
    return annotated


def _shape(kind: str, name: str, shape: dict[str, Any]) -> Shape:
    points = outline(shape.get("points"))
    if kind == "mask":
        left, top = points[0]
        return Shape(name, bits=_bits(shape.get("mask")), corner=(round(left), round(top)))
    if kind == "rectangle" and len(points) == 2:
        return Shape(name, [rectangle(points[0], points[1])])
    if kind == "circle" and len(points) == 2:
        return Shape(name, [circle(points[0], points[1])])
    if len(points) < 3:
        raise BadShape(f"a {kind} of {len(points)} points")
    return Shape(name, [points])


def _bits(packed: Any) -> Array:
    """A mask as PNG in Base64."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(base64.b64decode(packed)), formats=["PNG"]) as image:
            check_size(*image.size)
            return np.asarray(image.convert("L")) > 0
    except BadShape:
        raise
    except Exception as error:  # a broken file can raise anything
        raise BadShape(f"a mask that can't be read ({error})") from None
