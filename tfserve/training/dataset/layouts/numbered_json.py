"""JSON whose classes are numbers, with their names in the same file, as records with names.

Datumaro    {"categories": {"label": {"labels": [{"name": "cup"}]}}, "items": [{"annotations": [{"label_id": 0}]}]}
FiftyOne    {"classes": ["cup", …], "labels": {"a": 0, "b": [{"label": 0, "bounding_box": [x, y, w, h]}]}}
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfserve.training.dataset import coco
from tfserve.training.dataset.box_files import Sides, around, around_bits
from tfserve.training.dataset.layouts.polygons import BadShape, check_size, run_lengths

FILE, LABEL, BOXES = "file", "label", "boxes"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_OF_IMAGES = ("label", "caption")
"""Datumaro's types of annotations that are not of an object."""

Record = dict[str, Any]


def records(content: Mapping[str, Any]) -> list[Record] | None:
    """A record for each image of Datumaro or FiftyOne, with its label or the boxes in it. None for other JSON."""
    items, categories = content.get("items"), content.get("categories")
    if isinstance(items, list) and isinstance(categories, dict):
        names = [str(_of(each, "name")) for each in _list(_of(categories.get("label"), "labels"))]
        return [_datumaro(each, names) for each in items if isinstance(each, dict)]
    classes, labels = content.get("classes"), content.get("labels")
    if not (labels and isinstance(labels, dict) and isinstance(classes, list)):
        return None
    is_fiftyone = all(isinstance(each, str) for each in classes) and all(
        _is_of_fiftyone(value, classes) for value in labels.values()
    )
    return [_fiftyone(file, value, classes) for file, value in labels.items()] if is_fiftyone else None


def _datumaro(item: Record, names: Sequence[str]) -> Record:
    path = _of(item.get("image"), "path")
    found: Record = {FILE: path if isinstance(path, str) and path else item.get("id")}
    given = [each for each in _list(item.get("annotations")) if isinstance(each, dict)]
    labels = [_named(each.get("label_id"), names) for each in given if each.get("type") == "label"]
    if labels:
        found[LABEL] = labels if len(labels) > 1 else labels[0]
    objects: dict[object, list[Record]] = {}
    for number, each in enumerate(given):
        if each.get("type") not in _OF_IMAGES:
            group = each.get("group")
            objects.setdefault((str(group), str(each.get("label_id"))) if group else number, []).append(each)
    return found | {BOXES: [box for group in objects.values() for box in _boxes_of(group, names)]}


def _boxes_of(group: Sequence[Record], names: Sequence[str]) -> Iterator[Record]:
    """The boxes of an object, or the one around its polygons and masks. Others become a text, which is reported."""
    label = {LABEL: _named(group[0].get("label_id"), names)}
    boxes = [each for each in group if each.get("type") == "bbox"]
    for each in boxes:
        yield label | {"bbox": each.get("bbox")}
    if boxes:
        return
    sides = [found for each in group if (found := _sides(each)) is not None]
    if sides:
        corners = [side for x, y, width, height in sides for side in (x, y, x + width, y + height)]
        yield label | {"bbox": list(around(corners))}
    else:
        yield label | {"bbox": f"{str(group[0].get('type'))[:20]} instead of a box"}


def _sides(shape: Record) -> Sides | None:
    """Of the box around a polygon, an ellipse (the corners around it) or a mask as run lengths."""
    points, rle = shape.get("points"), shape.get("rle")
    if shape.get("type") in ("polygon", "ellipse") and isinstance(points, list):
        is_whole = len(points) >= 4 and len(points) % 2 == 0 and all(map(coco.is_number, points))
        return around([float(point) for point in points]) if is_whole else None
    if shape.get("type") == "mask" and isinstance(rle, dict):
        with contextlib.suppress(BadShape, KeyError, TypeError, ValueError):
            height, width = rle["size"]
            return around_bits(run_lengths(rle, check_size(width, height)))
    return None


def _is_of_fiftyone(value: Any, classes: Sequence[str]) -> bool:
    """Nothing, the number of a class, or objects with boxes. Other JSON with these two names has names of classes."""
    if isinstance(value, list):
        has_boxes = not value or any("bounding_box" in each for each in value if isinstance(each, dict))
        return has_boxes and all(isinstance(each, dict) for each in value)
    if isinstance(value, str) and value in classes:
        return False
    number = _whole(value)
    return value is None or (number is not None and number < len(classes))


def _fiftyone(file: str, value: Any, names: Sequence[str]) -> Record:
    """Sides are shares of the image."""
    if not isinstance(value, list):
        return {FILE: file, LABEL: _named(value, names)}
    return {FILE: file, BOXES: list(_corners(value, names))}


def _corners(given: list[Any], names: Sequence[str]) -> Iterator[Record]:
    for each in given:
        sides = _of(each, "bounding_box")
        label = {LABEL: _named(_of(each, "label"), names)}
        if isinstance(sides, list) and len(sides) == 4 and all(map(coco.is_number, sides)):
            x, y, width, height = sides
            yield label | dict(zip(_CORNERS, (x, y, x + width, y + height), strict=True))
        else:
            yield label | dict.fromkeys(_CORNERS, str(sides)[:40])


def _named(number: Any, names: Sequence[str]) -> str:
    """The name of a class; empty for a number without a name, so that it is reported."""
    whole = _whole(number)
    return names[whole] if whole is not None and whole < len(names) else ""


def _whole(value: Any) -> int | None:
    """0 or more, also as text or as 1.0."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 9 else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
        return None
    return int(value) if value == value // 1 else None


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
