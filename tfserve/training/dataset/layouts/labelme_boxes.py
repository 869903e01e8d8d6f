"""Boxes from labelme: around the rectangles, polygons, circles and masks in the JSON file of each image."""

from __future__ import annotations

from tfserve.training.dataset import mask_values
from tfserve.training.dataset.box_files import Annotations, Marked, RawBox, Sides, around, around_bits
from tfserve.training.dataset.layouts import labelme
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.polygons import Annotated, Shape
from tfserve.training.dataset.search import Search

BACKGROUND = "background"


def read(search: Search, index: ImageIndex) -> Annotations | None:
    """None if there are no files of labelme. `__ignore__` and `_background_` are left out."""
    drawn = labelme.find(search, index)
    if drawn is None:
        return None
    found = Annotations(f"labelme: {len(drawn)} images with a JSON file of shapes each", is_relative=False)
    for file, annotated in sorted(drawn.items()):
        boxes = _boxes(annotated, search.name(file))
        found.marked.append(Marked(file, boxes, (annotated.width, annotated.height), annotated.part))
        found.classes.update(dict.fromkeys(box.category for box in boxes))
    return found


def _boxes(annotated: Annotated, name: str) -> list[RawBox]:
    sides = [(shape, _sides(shape)) for shape in annotated.shapes if not _is_no_object(shape.name)]
    return [RawBox(shape.name, box, f"{name}, shape {shape.number}") for shape, box in sides if box is not None]


def _is_no_object(name: str) -> bool:
    return mask_values.is_ignored(name) or name.strip("_").lower() == BACKGROUND


def _sides(shape: Shape) -> Sides | None:
    """None for an empty mask."""
    if shape.bits is None:
        return around([side for points in shape.outlines for point in points for side in point])
    box = around_bits(shape.bits)
    return box and (box[0] + shape.corner[0], box[1] + shape.corner[1], box[2], box[3])
