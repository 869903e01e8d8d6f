"""Boxes in JSON other than COCO's, as rows of a table: a record for each image, with the boxes in it.

{"file_name": "a.jpg", "objects": {"bbox": [[x, y, w, h], …], "categories": ["cup", …]}}     HuggingFace's ImageFolder
[{"image": "a.jpg", "annotations": [{"label": "cup", "coordinates": {"x", "y", "width", "height"}}]}]     CreateML
{"a.jpg123": {"filename": "a.jpg", "regions": [{"shape_attributes", "region_attributes"}]}}     VGG Image Annotator
[{"image": "a.jpg", "boxes": [{"label": "cup", "xmin": 1, …}]}]     and others whose boxes are objects in a list
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import NoneType
from typing import Any

from tfserve.training.dataset.box_files import Sides, around
from tfserve.training.dataset.layouts import cloud_records, json_records, label_studio, via_masks
from tfserve.training.dataset.layouts.json_records import Record
from tfserve.training.dataset.layouts.polygons import BadShape

CORNERS = ("xmin", "ymin", "xmax", "ymax")
LABEL = "label"
RESOURCES = "dataItemResourceLabels"
"""Where Vertex AI has the part of the split."""
_LISTS = (
    "boundingBoxAnnotations",
    "annotations",
    "objects",
    "boxes",
    "bboxes",
    "labels",
    "regions",
    "detections",
    "shapes",
)
_OF_IMAGE = {"width": "image_width", "height": "image_height"}
"""The size that a record with a list of boxes has is that of its image."""


def rows(path: Path) -> list[list[str]]:
    """Cells with a header in the first row; empty for JSON of something else."""
    return json_records.table(path, (row for record in json_records.read(path) for row in _rows_of(record)))


def _rows_of(record: Record) -> Iterator[Record]:
    """One for each box, or one without a box."""
    given_boxes = label_studio.rows(record)
    if given_boxes is None:
        given_boxes = cloud_records.boxes(record)
    if given_boxes is not None:
        yield from given_boxes
        return
    resources = record.get(RESOURCES)
    fields = record | resources if isinstance(resources, dict) else record
    given = ((name, value) for name, value in fields.items() if isinstance(value, (str, int, float)))
    own = dict(islice(given, json_records.MAX_COLUMNS + 1))
    if any(isinstance(record.get(name, ""), (list, dict, NoneType)) for name in _LISTS):
        own = {_OF_IMAGE.get(name, name): value for name, value in own.items()}
    objects = _objects(record)
    yield own | next(objects, {})
    yield from (own | each for each in objects)


def _objects(record: Record) -> Iterator[Record]:
    for name in _LISTS:
        given = record.get(name)
        if isinstance(given, dict):
            given = _unzipped(given)
        if isinstance(given, list) and given and all(isinstance(each, dict) for each in given):
            yield from map(_object, given)
            return


def _unzipped(columns: Mapping[str, Any]) -> list[Record]:
    """Lists of equal lengths by their name as a list of objects. VIA's first version numbers its objects."""
    if columns and all(isinstance(value, dict) for value in columns.values()):
        return list(columns.values())
    lists = {name: value for name, value in columns.items() if isinstance(value, list)}
    count = min(map(len, lists.values()), default=0)
    return [{name.removesuffix("s"): value[number] for name, value in lists.items()} for number in range(count)]


def _object(given: Record) -> Record:
    """The fields of a box, with its corners if they are in an inner object."""
    if isinstance(shape := given.get("shape_attributes"), dict):
        return {LABEL: via_masks.class_of(given)} | _corners(_around_shape(shape))
    if isinstance(place := given.get("coordinates"), dict):
        return given | {"coordinates": None} | _corners(_around_centre(place))
    if "categorie" in given:
        return given | {LABEL: given["categorie"]}
    return given


def _corners(sides: Sides | None) -> Record:
    """Without sides an empty text for each corner but one, so that the row is reported."""
    if sides is None:
        return dict.fromkeys(CORNERS[1:], "") | {CORNERS[0]: "a shape without an area"}
    x, y, width, height = sides
    return dict(zip(CORNERS, (x, y, x + width, y + height), strict=True))


def _around_centre(place: Mapping[str, Any]) -> Sides | None:
    try:
        x, y, width, height = via_masks.numbers(place, "x", "y", "width", "height")
    except BadShape:
        return None
    return x - width / 2, y - height / 2, width, height


def _around_shape(shape: Mapping[str, Any]) -> Sides | None:
    """VIA's rectangles, polygons, circles and ellipses."""
    try:
        return around([side for point in via_masks.outline_of(shape) for side in point])
    except BadShape:
        return None
