"""Boxes from Label Studio's JSON, whose sides are per cent of the image: its full export, and JSON-MIN.

[{"data": {"image": url}, "annotations": [{"result": [{"value": {"x", "y", "width", "height", "rectanglelabels"}}]}]}]
[{"image": url, "label": [{"x", "y", "width", "height", "rectanglelabels"}]}]
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from tfserve.training.dataset import coco
from tfserve.training.dataset.box_files import Sides, around
from tfserve.training.dataset.layouts.json_records import FILE, Record

LABELS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels")


def rows(record: Record) -> list[Record] | None:
    """A row for each box, with sides as shares of the image, or one without a box. None for another format."""
    found = _objects(record)
    if found is None:
        return None
    data = record.get("data")
    file = _file(data if isinstance(data, dict) else record)
    boxes = [row for each in found if (row := _row(each)) is not None]
    return [{FILE: file} | row for row in boxes or [{}]]


def _file(data: Mapping[str, Any]) -> str:
    """The first text that looks like a path."""
    texts = [value for value in data.values() if isinstance(value, str)]
    return next((text for text in texts if re.search(r"[/\\.]\w", text)), "")


def _objects(record: Record) -> list[tuple[Mapping[str, Any], Mapping[str, Any]]] | None:
    """Each object's value, and what has the size of its image."""
    annotations = record.get("annotations")
    if isinstance(annotations, list) and any(isinstance(each, dict) and "result" in each for each in annotations):
        first = next((each for each in annotations if isinstance(each, dict) and not each.get("was_cancelled")), {})
        given = first.get("result")
        results = [each for each in given if isinstance(each, dict)] if isinstance(given, list) else []
        return [(each["value"], each) for each in results if isinstance(each.get("value"), dict)]
    for value in record.values():
        if isinstance(value, list) and value and all(isinstance(each, dict) and _label(each) for each in value):
            return [(each, each) for each in value]
    return None


def _label(value: Mapping[str, Any]) -> str:
    for name in LABELS:
        given = value.get(name)
        if isinstance(given, list) and given and isinstance(given[0], str):
            return str(given[0])
    return ""


def _row(found: tuple[Mapping[str, Any], Mapping[str, Any]]) -> Record | None:
    """None for anything but a box or an outline, such as the class of the whole image."""
    value, size = found
    label, sides = _label(value), _sides(value, size)
    if not label or sides is None:
        return None
    x, y, width, height = sides
    return {"label": label, "xmin": x, "ymin": y, "xmax": x + width, "ymax": y + height}


def _sides(value: Mapping[str, Any], size: Mapping[str, Any]) -> Sides | None:
    points = value.get("points")
    if isinstance(points, list):
        flat = [side for point in points if isinstance(point, list) for side in point[:2]]
        return _shares(flat) if len(flat) >= 6 and all(map(coco.is_number, flat)) else None
    sides = [value.get(name) for name in ("x", "y", "width", "height")]
    if not all(map(coco.is_number, sides)):
        return None
    x, y, width, height = (float(side) for side in sides if side is not None)
    return _shares(_rotated(x, y, width, height, value.get("rotation"), size))


def _rotated(
    x: float, y: float, width: float, height: float, rotation: Any, size: Mapping[str, Any]
) -> list[float]:  # fmt: skip
    """The corners, turned clockwise around the first by this angle, in degrees."""
    angle = math.radians(rotation) if coco.is_number(rotation) else 0.0
    across, down = size.get("original_width"), size.get("original_height")
    aspect = across / down if coco.is_number(across) and coco.is_number(down) and across > 0 < down else 1.0
    cos, sin = math.cos(angle), math.sin(angle)
    corners = ((0.0, 0.0), (width * aspect, 0.0), (width * aspect, height), (0.0, height))
    return [side for a, b in corners for side in (x + (a * cos - b * sin) / aspect, y + a * sin + b * cos)]


def _shares(percent: list[float]) -> Sides:
    x, y, width, height = around([side / 100 for side in percent])
    return x, y, width, height
