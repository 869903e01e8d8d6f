"""Masks from the VGG Image Annotator: polygons, rectangles, circles and ellipses in one JSON file for all images."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfserve.training.dataset import coco
from tfserve.training.dataset.layouts import json_records, upright
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of_path
from tfserve.training.dataset.layouts.polygons import Annotated, BadShape, Shape, ellipse, outline, rectangle
from tfserve.training.dataset.search import Search, same_form, sentence

REGIONS, FILE = "regions", "filename"
OBJECT = "object"
"""The class of regions without an attribute."""


def find(search: Search, index: ImageIndex) -> dict[Path, Annotated] | None:
    """What is drawn on each image; None without a file of this program that names one of them."""
    found: dict[Path, Annotated] = {}
    left_out: list[str] = []
    missing: list[tuple[Path, str]] = []
    for path in search.below(search.root, (".json",), depth=3):
        records = [record for record in json_records.read(path) if FILE in record and REGIONS in record]
        for record in records:
            image = index.find(str(record[FILE]), path.parent)
            if image is None:
                named = search.root / (str(record[FILE])[:200] or "(no name)")
                missing.append((named, f"missing: named in {search.name(path)}"))
            elif size := upright.upright_size(image):
                found[image] = Annotated(*size, part=part_of_path(index.relative(image)))
                left_out += _draw(record, found[image], f"{search.name(path)}: {record[FILE]}")
    if not found:
        return None
    for named, reason in missing:
        search.skip(named, reason, bad=True)
    search.layout = f"VGG Image Annotator: {len(found)} images with outlines"
    search.remarks += sentence("Regions without an area were left out", left_out)
    return found


def _draw(record: Mapping[str, Any], annotated: Annotated, where: str) -> list[str]:
    """Adds the regions of an image, and returns where one has no area."""
    given = record[REGIONS]
    regions = list(given.values()) if isinstance(given, dict) else given if isinstance(given, list) else []
    without: list[str] = []
    for number, region in enumerate(regions, start=1):
        try:
            annotated.shapes.append(_shape(region))
        except BadShape:
            without.append(f"{where}, region {number}")
    return without


def _shape(region: Any) -> Shape:
    shape = region.get("shape_attributes") if isinstance(region, dict) else None
    if not isinstance(shape, dict):
        raise BadShape("a region without a shape")
    return Shape(same_form(class_of(region)), [outline_of(shape)])


def class_of(region: Mapping[str, Any]) -> str:
    """The value of its first attribute; of a group of checkboxes the first that is set."""
    attributes = region.get("region_attributes")
    for value in attributes.values() if isinstance(attributes, dict) else ():
        chosen = next((name for name, is_set in value.items() if is_set), "") if isinstance(value, dict) else value
        if isinstance(chosen, str) and chosen.strip():
            return chosen.strip()
    return OBJECT


def outline_of(shape: Mapping[str, Any]) -> list[tuple[float, float]]:
    """The points of a shape. Raises `BadShape` for one without an area."""
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if shape.get("name") == "polygon" and isinstance(xs, list) and isinstance(ys, list) and len(xs) == len(ys) > 2:
        return outline([list(point) for point in zip(xs, ys, strict=True)])
    if shape.get("name") == "rect":
        x, y, width, height = numbers(shape, "x", "y", "width", "height")
        return outline(rectangle((x, y), (x + width, y + height)))
    radii = ("r", "r") if shape.get("name") == "circle" else ("rx", "ry")
    x, y, across, down = numbers(shape, "cx", "cy", *radii)
    angle = shape.get("theta")
    return outline(ellipse((x, y), across, down, float(angle) if coco.is_number(angle) else 0.0))


def numbers(shape: Mapping[str, Any], *names: str) -> list[float]:
    """The fields with these names. Raises `BadShape` unless all are numbers."""
    found = [float(shape[name]) for name in names if coco.is_number(shape.get(name))]
    if len(found) != len(names):
        raise BadShape("a shape without an area")
    return found
