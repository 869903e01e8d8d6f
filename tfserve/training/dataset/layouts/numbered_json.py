"""JSON whose classes are numbers, with their names in the same file, as records with names.

Datumaro    {"categories": {"label": {"labels": [{"name": "cup"}]}}, "items": [{"annotations": [{"label_id": 0}]}]}
FiftyOne    {"classes": ["cup", …], "labels": {"a": 0, "b": [{"label": 0, "bounding_box": [x, y, w, h]}]}}
SageMaker   {"source-ref": "s3://…/a.jpg", "job": {"annotations": […]}, "job-metadata": {"class-map": {"0": "cup"}}}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

FILE, LABEL, BOXES = "file", "label", "boxes"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")

Record = dict[str, Any]


def records(content: Mapping[str, Any]) -> list[Record] | None:
    """A record for each image of Datumaro or FiftyOne, with its label or the boxes in it. None for other JSON."""
    items, categories = content.get("items"), content.get("categories")
    if isinstance(items, list) and isinstance(categories, dict):
        names = [str(_of(each, "name")) for each in _list(_of(categories.get("label"), "labels"))]
        return [_datumaro(each, names) for each in items if isinstance(each, dict)]
    classes, labels = content.get("classes"), content.get("labels")
    if isinstance(labels, dict) and isinstance(classes, list) and all(isinstance(each, str) for each in classes):
        return [_fiftyone(file, value, classes) for file, value in labels.items()]
    return None


def ground_truth(record: Record) -> list[Record] | None:
    """A row for each box in a line of SageMaker's manifest. None for another format."""
    if not isinstance(file := record.get("source-ref"), str):
        return None
    for name, value in record.items():
        names = _of(record.get(f"{name}-metadata"), "class-map")
        if isinstance(_of(value, "annotations"), list) and isinstance(names, dict):
            boxes = [each for each in value["annotations"] if isinstance(each, dict)]
            named = [each | {LABEL: names.get(str(each.get("class_id")), "")} for each in boxes]
            return [{FILE: file} | each for each in named or [{}]]
    return None


def _datumaro(item: Record, names: list[str]) -> Record:
    path = _of(item.get("image"), "path")
    found: Record = {FILE: path if isinstance(path, str) and path else item.get("id")}
    boxes = []
    for each in _list(item.get("annotations")):
        label = {LABEL: _named(_of(each, "label_id"), names)}
        if _of(each, "type") == "label":
            found |= label
        elif _of(each, "type") == "bbox":
            boxes.append(label | {"bbox": _of(each, "bbox")})
    return found | {BOXES: boxes}


def _fiftyone(file: str, value: Any, names: list[str]) -> Record:
    """Sides are shares of the image."""
    if not isinstance(value, list):
        return {FILE: file, LABEL: _named(value, names)}
    return {FILE: file, BOXES: list(_corners(value, names))}


def _corners(given: list[Any], names: list[str]) -> Iterator[Record]:
    for each in given:
        sides = _of(each, "bounding_box")
        label = {LABEL: _named(_of(each, "label"), names)}
        if isinstance(sides, list) and len(sides) == 4 and all(isinstance(side, (int, float)) for side in sides):
            x, y, width, height = sides
            yield label | dict(zip(_CORNERS, (x, y, x + width, y + height), strict=True))
        else:
            yield label | dict.fromkeys(_CORNERS, str(sides)[:40])


def _named(number: Any, names: list[str]) -> str:
    """The name of a class, or its number if it has no name."""
    if isinstance(number, int) and 0 <= number < len(names):
        return names[number]
    return "" if number is None else str(number)


def _of(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, dict) else None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
