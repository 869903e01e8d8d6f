"""Boxes from COCO's JSON: any file with the lists images, categories and annotations, whatever its name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tfserve.training.dataset import coco
from tfserve.training.dataset.box_files import Annotations, Marked, RawBox, around, around_bits, size_of
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of, part_of_path
from tfserve.training.dataset.layouts.polygons import BadShape, check_size, outline, run_lengths
from tfserve.training.dataset.search import Search, same_form

NAMES = ("annotations.json", "_annotations.coco.json")
"""Files with these names are meant to be COCO; others are passed over when they are not."""
INSTANCES = "instances"
"""COCO's own download has the same boxes again in `person_keypoints_train2017.json`."""
CORNERS = 4
NO_BOX = "boxes that are not four finite numbers [x, y, width, height]"


def read(search: Search, index: ImageIndex) -> Annotations | None:
    """None if there are no COCO files. `index` has all image files of the project."""
    found = Annotations("", is_relative=False)
    contents: list[tuple[Path, coco.Coco]] = []
    for file in search.below(search.root, (".json",), depth=3):
        try:
            content = coco.read(file, search.name(file))
        except (coco.NotCoco, OSError) as error:
            if file.name in NAMES:
                found.problems.append(f"{file} {error}")
            continue
        if file.name in NAMES or (content.images and _has_boxes(content)):
            contents.append((file, content))
    if not contents and not found.problems:
        return None
    contents = [each for each in contents if each[0].name.startswith(INSTANCES)] or contents
    for file, content in contents:
        _File(search, file, content, found, index).add()
    found.layout = f"COCO annotations in {', '.join(search.name(file) for file, _ in contents[:5]) or NAMES[0]}"
    return found


def _has_boxes(content: coco.Coco) -> bool:
    """Files of captions and of whole scenes have annotations without boxes."""
    return not content.annotations or any(each.bbox or each.segmentation for each in content.annotations)


class _File:
    """One file, which is added to what was found in others."""

    def __init__(
        self, search: Search, file: Path, content: coco.Coco, found: Annotations, index: ImageIndex
    ) -> None:  # fmt: skip
        self._name, self._file = search.name(file), file
        self._content, self._found, self._index = content, found, index
        self._part = _part_of(file.relative_to(search.root))
        self._names: dict[str, str] = {}
        self._images: dict[str, Marked | None] = {}

    def add(self) -> None:
        self._found.problems += self._content.problems
        for what, where in self._content.wrong.items():
            self._found.wrong.setdefault(what, []).extend(where)
        self._add_classes()
        self._add_images()
        for annotation in self._content.annotations:
            self._add_box(annotation)

    def _add_classes(self) -> None:
        numbers: dict[str, set[int | None]] = {}
        for category in self._content.categories:
            name = self._names[category.id] = same_form(category.name)
            numbers.setdefault(name, set()).add(category.number)
            self._found.classes.setdefault(name, category.number)
        used = {each.category_id for each in self._content.annotations}
        for name, several in numbers.items():
            if len(several) > 1 and len([id_ for id_ in self._names if self._names[id_] == name and id_ in used]) > 1:
                self._found.remarks.append(
                    f"{self._name}: the categories {', '.join(sorted(map(str, several)))} are all called {name!r}, so"
                    " they were merged into one class."
                )

    def _add_images(self) -> None:
        known = {each.file: each for each in self._found.marked}
        for image in self._content.images:
            file = self._index.find(image.file_name, self._file.parent)
            if file is None:
                self._found.missing.append(image.file_name)
                self._images[image.id] = None
                continue
            if file not in known:
                width, height = (side if coco.is_number(side) else None for side in (image.width, image.height))
                part = self._part or part_of_path(self._index.relative(file))
                known[file] = Marked(file, size=size_of(width, height), part=part)
                self._found.marked.append(known[file])
            self._images[image.id] = known[file]

    def _add_box(self, annotation: coco.Annotation) -> None:
        found, where = self._found, annotation.where
        if annotation.image_id is None or annotation.image_id not in self._images:
            return found.add_wrong(
                "boxes of an image that is not listed (image_id)", f"{where}: image_id {annotation.image_id}"
            )
        if annotation.category_id is None or annotation.category_id not in self._names:
            return found.add_wrong(
                "boxes of a category that is not listed (category_id)", f"{where}: category_id {annotation.category_id}"
            )
        sides = _sides(annotation)
        if sides is None:
            return found.add_wrong(NO_BOX, f"{where}: {coco.short(annotation.bbox)}")
        marked = self._images[annotation.image_id]
        if marked is not None:
            name = self._names[annotation.category_id]
            marked.boxes.append(RawBox(name, sides, where, annotation.crowd, annotation.area))
        return None


def _sides(annotation: coco.Annotation) -> tuple[float, float, float, float] | None:
    """`bbox`, or the box around `segmentation` if there is no `bbox`."""
    given = annotation.bbox
    if given is None or given == []:
        return _around(annotation.segmentation)
    if not isinstance(given, list) or len(given) != CORNERS or not all(map(coco.is_number, given)):
        return None
    x, y, width, height = map(float, given)
    return x, y, width, height


def _around(segmentation: Any) -> tuple[float, float, float, float] | None:
    """The box around outlines or run lengths."""
    try:
        if isinstance(segmentation, dict):
            height, width = segmentation["size"]
            return around_bits(run_lengths(segmentation, check_size(width, height)))
        points = [point for numbers in segmentation for point in outline(numbers)]
        return around([side for point in points for side in point]) if points else None
    except (BadShape, KeyError, TypeError, ValueError):
        return None


def _part_of(path: Path) -> str:
    """The part of a split that a folder above the file names, or its own name: `instances_val2017.json`."""
    words: Sequence[str] = path.stem.replace("-", "_").split("_")
    return part_of_path(path) or next((part for word in words if (part := part_of(word))), "")
