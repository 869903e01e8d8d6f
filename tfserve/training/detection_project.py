"""Examines a detection project: images, annotations in one of two formats, and whether they fit together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tfserve.training import box_checks, box_files, images, labels
from tfserve.training.box_files import Annotations
from tfserve.training.layouts import archives, recognise
from tfserve.training.layouts.image_index import ImageIndex
from tfserve.training.layouts.parts import own_split
from tfserve.training.search import Labelled, Search

MIN_IMAGES = 4
MAX_MISSING_SHARE = 0.2
MAX_EXAMPLES = 5
LAYOUTS = (
    "images/ and annotations.json in COCO format; images/ and labels/*.txt in YOLO format; both also in train/, valid/"
    " and test/; a zip file with one of these"
)


def examine(search: Search, _: dict[str, Any]) -> None:
    """Fills `search`."""
    found = _read(search)
    if found is None and archives.unpack(search):
        found = _read(search)
    if found is None:
        there = recognise.what_is_there(search)
        search.problems.append(f"No boxes were found in {search.project}. Found: {there}. Accepted: {LAYOUTS}.")
        return
    search.layout = found.layout
    _check_missing(found)
    if not found.problems:
        _take_boxes(search, found)
    search.problems += found.problems
    search.remarks += found.remarks


def _read(search: Search) -> Annotations | None:
    if not search.root.is_dir():
        return None
    files = search.below(search.root, images.SUFFIXES)
    coco = box_files.coco_files(search.root, search.below(search.root, (".json",), depth=3))
    has_yolo = bool(box_files.label_files(search.root, files))
    if not coco:
        return box_files.read_yolo(search.root, files) if has_yolo else None
    found = box_files.read_coco(search.root, coco, ImageIndex(search.root, files))
    if has_yolo:
        found.remarks.append(f"There are YOLO text files too. They were not used: {coco[0].name} was.")
    for file in sorted({*files} - {each.file for each in found.marked}):
        search.skip(file, "not listed in the annotations")
    return found


def _take_boxes(search: Search, found: Annotations) -> None:
    """Images with boxes, and the classes that have any."""
    used = {box.category for each in found.marked for box in each.boxes}
    categories = sorted((each for each in found.names if each in used), key=_order)
    if unused := [found.names[each] for each in found.names if each not in used]:
        found.remarks.append(f"Categories without any box were left out: {', '.join(unused[:20])}.")
    _name_classes(search, [found.names[each] for each in categories])
    search.numbers = [_number(each, place) for place, each in enumerate(categories)]
    files = own_split([Labelled(each.file, "", each.part) for each in found.marked])
    images_of = {file.path: image for file, image in search.examine(files, [-1] * len(files))}
    numbers = {category: place for place, category in enumerate(categories)}
    kept = box_checks.examine(found, images_of, numbers)
    if found.problems:
        return
    search.images[:] = kept
    if not any(image.boxes for image in kept):
        found.problems.append(f"There is no box in any image ({found.layout}). Mark objects first.")
    elif len(kept) < MIN_IMAGES:
        found.problems.append(f"There are {len(kept)} good images with annotations, at least {MIN_IMAGES} are needed.")
    box_checks.check_counts(found, kept, search.labels)


def _name_classes(search: Search, names: Sequence[str]) -> None:
    """Names that two categories share are told apart by a number."""
    search.display = [name if name not in names[:place] else f"{name} {place}" for place, name in enumerate(names)]
    label_of, remarks = labels.distinct(search.display)
    search.labels = [label_of[name].strip() for name in search.display]
    search.remarks += remarks


def _check_missing(found: Annotations) -> None:
    """Images that are listed and not there."""
    if not found.missing:
        return
    total = len(found.missing) + len(found.marked)
    more = f" and {len(found.missing) - MAX_EXAMPLES} more" if len(found.missing) > MAX_EXAMPLES else ""
    sentence = (
        f"{len(found.missing)} of {total} images of the annotations were not found in the project:"
        f" {', '.join(found.missing[:MAX_EXAMPLES])}{more}. Put them into images/, with the same folders and names."
    )
    few = len(found.missing) <= MAX_MISSING_SHARE * total
    (found.remarks if few else found.problems).append(sentence)


def _order(category: Any) -> tuple[int, str]:
    return (int(category), "") if str(category).lstrip("-").isdigit() else (0, str(category))


def _number(category: Any, place: int) -> int:
    return int(category) if str(category).lstrip("-").isdigit() else place
