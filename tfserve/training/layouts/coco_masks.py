"""Masks from annotation files of COCO: outlines and run lengths of each object, the largest drawn first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from tfserve.training import coco
from tfserve.training.layouts.image_index import ImageIndex
from tfserve.training.layouts.parts import part_of, part_of_path
from tfserve.training.layouts.polygons import Annotated, BadShape, Shape, check_size, outline, run_lengths
from tfserve.training.search import Search, same_form


class Found:
    """What is drawn on each image, and the number of each class, from all annotation files together."""

    def __init__(self) -> None:
        self.annotated: dict[Path, Annotated] = {}
        self.numbers: dict[str, int] = {}
        self.files: list[Path] = []
        self.boxes_only = 0


def find(search: Search, index: ImageIndex) -> Found | None:
    """None when there are no annotation files of COCO. Images and objects that are wrong are skipped and listed."""
    found = Found()
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
    if found.boxes_only:
        search.problems.append(
            f"{found.boxes_only} objects in {files} have a box but no outline, so there is no mask to learn from. Draw"
            " outlines, or use trainType detection."
        )
    search.layout = f"COCO: {files}, {len(found.annotated)} images with outlines"
    return found


def _add(search: Search, index: ImageIndex, path: Path, content: coco.Coco, found: Found) -> None:
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


def _annotated(image: coco.Image, objects: list[coco.Annotation], names: Mapping[str, str], found: Found) -> Annotated:
    annotated = Annotated(*check_size(image.width, image.height))
    for each in sorted(objects, key=_area, reverse=True):
        if each.category_id is None or each.category_id not in names:
            raise BadShape(f"an object of the category {each.category_id}, which is not listed")
        if not each.segmentation:
            found.boxes_only += each.bbox is not None
            continue
        annotated.shapes.append(_shape(each, names[each.category_id], annotated))
    return annotated


def _shape(each: coco.Annotation, name: str, annotated: Annotated) -> Shape:
    if isinstance(each.segmentation, dict):
        return Shape(name, bits=run_lengths(each.segmentation, (annotated.width, annotated.height)))
    if not isinstance(each.segmentation, list):
        raise BadShape("a segmentation is neither outlines nor run lengths")
    return Shape(name, [outline(numbers) for numbers in each.segmentation])


def _area(each: coco.Annotation) -> float:
    """As the file says; by the box when it does not."""
    if each.area is not None:
        return each.area
    try:
        _, _, width, height = each.bbox
        return float(width) * float(height)
    except (TypeError, ValueError):
        return 0.0
