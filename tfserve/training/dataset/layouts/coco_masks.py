"""Masks from annotation files of COCO: outlines and run lengths of each object, the largest drawn first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tfserve.training.dataset import coco
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of, part_of_path
from tfserve.training.dataset.layouts.polygons import (
    Annotated,
    BadShape,
    Shape,
    check_size,
    outline,
    rectangle,
    run_lengths,
)
from tfserve.training.dataset.search import Search, same_form, sentence

MAX_BOXES_SHARE = 0.2
"""Of the objects, up to this share may have a box without an outline."""
MAX_SIDE = 1e6
UNKNOWN = "ignore"
"""The name of pixels that belong to no class."""


class CocoDrawings:
    """What is drawn on each image, and the number of each class, from all annotation files together."""

    def __init__(self) -> None:
        self.annotated: dict[Path, Annotated] = {}
        self.numbers: dict[str, int] = {}
        self.files: list[Path] = []
        self.objects = 0
        #: objects that have a box and no outline
        self.boxes_only: list[str] = []

    def problem_of_boxes(self, files: str) -> str | None:
        """For too many boxes without outlines: the data set is one for detection."""
        count = len(self.boxes_only)
        if count <= MAX_BOXES_SHARE * self.objects:
            return None
        return (
            f"{count} of {self.objects} objects in {files} have a box but no outline, which a segmentation needs. Draw"
            " outlines, or use trainType detection."
        )


def find(search: Search, index: ImageIndex) -> CocoDrawings | None:
    """None when there are no annotation files of COCO. Images and objects that are wrong are skipped and listed."""
    found = CocoDrawings()
    for path in search.below(search.root, (".json",), depth=3):
        try:
            content = coco.read(path, search.name(path))
        except (coco.NotCoco, OSError):
            continue
        if content.images and content.categories:
            found.files.append(path)
            _add(search, index, path, content, found)
    if not found.files:
        return None
    files = ", ".join(search.name(path) for path in found.files[:5])
    if problem := found.problem_of_boxes(files):
        search.problems.append(problem)
    else:
        search.remarks += sentence("The pixels in boxes without an outline are ignored", found.boxes_only)
    search.layout = f"COCO: {files}, {len(found.annotated)} images with outlines"
    return found


def _add(search: Search, index: ImageIndex, path: Path, content: coco.Coco, found: CocoDrawings) -> None:
    search.problems += content.problems
    for what, where in content.wrong.items():
        search.remarks.append(f"{len(where)} {what} were left out: {', '.join(where[:3])}.")
    names = {each.id: same_form(each.name) for each in content.categories}
    for each in content.categories:
        found.numbers.setdefault(names[each.id], each.number or 0)
    objects: dict[str | None, list[coco.Annotation]] = defaultdict(list)
    for annotation in content.annotations:
        objects[annotation.image_id].append(annotation)
    for image in content.images:
        file = index.find(image.file_name, path.parent)
        if file is None:
            missing = search.root / (same_form(image.file_name)[:200] or "(no name)")
            search.skip(missing, f"missing: named in {search.name(path)}", bad=True)
            continue
        try:
            annotated = _annotated(image, objects[image.id], names, found)
        except BadShape as bad:
            search.skip(file, f"bad annotations: {search.name(path)}: {bad}", bad=True)
            continue
        annotated.part = part_of_path(index.relative(file)) or part_of(path.stem.rpartition("_")[2])
        found.annotated[file] = annotated


def _annotated(
    image: coco.Image, objects: list[coco.Annotation], names: Mapping[str, str], found: CocoDrawings
) -> Annotated:
    annotated = Annotated(*check_size(image.width, image.height))
    for each in sorted(objects, key=_area, reverse=True):
        if each.category_id is None or each.category_id not in names:
            raise BadShape(f"an object of the category {each.category_id}, which is not listed")
        found.objects += 1
        if not each.segmentation:
            if each.bbox is not None:
                found.boxes_only.append(each.where)
                annotated.shapes += _unknown(each.bbox)
            continue
        annotated.shapes.append(_shape(each, names[each.category_id], annotated))
    return annotated


def _shape(each: coco.Annotation, name: str, annotated: Annotated) -> Shape:
    if isinstance(each.segmentation, dict):
        return Shape(name, bits=run_lengths(each.segmentation, (annotated.width, annotated.height)))
    if not isinstance(each.segmentation, list):
        raise BadShape("a segmentation is neither polygons nor run lengths")
    return Shape(name, [outline(numbers) for numbers in each.segmentation])


def _unknown(box: Any) -> list[Shape]:
    """Where an object may be that has a box only; nowhere if that is empty or none."""
    try:
        left, top, width, height = map(float, box)
    except (TypeError, ValueError):
        return []
    if not (width > 0 and height > 0 and max(map(abs, (left, top, width, height))) < MAX_SIDE):
        return []
    return [Shape(UNKNOWN, [rectangle((left, top), (left + width, top + height))])]


def _area(each: coco.Annotation) -> float:
    """As the file says; by the box when it does not."""
    if each.area is not None:
        return each.area
    try:
        _, _, width, height = each.bbox
        return float(width) * float(height)
    except (TypeError, ValueError):
        return 0.0
