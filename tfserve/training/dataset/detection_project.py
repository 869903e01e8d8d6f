"""Examines a detection project: images, annotations in one of five formats, and whether they fit together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from tfserve.training.dataset import box_checks, image_reading, labels
from tfserve.training.dataset.box_files import Annotations
from tfserve.training.dataset.layouts import (
    archives,
    attempts,
    box_tables,
    coco_boxes,
    foreign,
    groups,
    job_remarks,
    labelme_boxes,
    program_folders,
    recognise,
    voc_boxes,
    yolo_boxes,
)
from tfserve.training.dataset.layouts.attempts import LayoutAttempt, LayoutReader
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import in_split, own_split
from tfserve.training.dataset.search import Labelled, Search

MIN_IMAGES = 4
MAX_MISSING_SHARE = 0.2
MAX_EXAMPLES = 5
LAYOUTS = (
    "images/ and annotations.json in COCO format; images/ and labels/*.txt in YOLO format; images and XML files of"
    " Pascal VOC; images and labelme JSON files; a CSV or JSON file with the fields filename, xmin, ymin, xmax, ymax,"
    " class; any of these also in train/, valid/ and test/; a zip or tar file with one of these"
)


def examine(search: Search, parameters: Mapping[str, Any]) -> None:
    """Fills `search`."""
    is_unpacked = not archives.has_images(search) and archives.unpack(search)
    found = _read(search)
    if found is None and not is_unpacked and archives.unpack(search):
        search.hint = ""  # it was about the folder of the archives
        found = _read(search)
    if found is None:
        there = recognise.what_is_there(search)
        advice = search.hint + foreign.hint(search) + program_folders.hint(search)
        search.problems.append(f"No boxes found in {search.project}. Found: {there}.{advice} Accepted: {LAYOUTS}.")
        return
    search.layout = found.layout
    _check_missing(found)
    if not found.problems:
        _take_boxes(search, found)
        groups.apply(search, str(parameters.get("groups", "auto")), [])
    search.problems += found.problems
    search.remarks += found.remarks


def _read(search: Search) -> Annotations | None:
    if not search.root.is_dir():
        return None
    program_folders.leave_out(search, are_classes=False)
    files = search.below(search.root, image_reading.SUFFIXES)
    index = ImageIndex(search.root, files)
    readers: list[Callable[[], Annotations | None]] = [
        partial(coco_boxes.read, search, index), partial(yolo_boxes.read, search, files, index),
        partial(voc_boxes.read, search, files, index), partial(labelme_boxes.read, search, index),
        partial(box_tables.read, search, index),
    ]  # fmt: skip
    attempted = [attempts.attempted(search, LayoutReader(read, _usable)) for read in readers]
    given = [each for each in attempted if each is not None]
    if not given:
        return None
    most = max(each.usable for each in given)
    chosen = next((each for each in given if _is_sound(each, most)), None) or max(given, key=lambda each: each.usable)
    found = attempts.take(search, chosen, [])
    if found.layout.startswith("a table of boxes"):
        job_remarks.report(search, has_boxes=True)
    found.remarks += [about for each in given if each is not chosen and (about := _about(each, found))]
    unlisted = sorted({*files} - {each.file for each in found.marked})
    for file in unlisted:
        search.skip(file, "not listed in the annotations")
    if unlisted:
        found.remarks.append(
            f"{len(unlisted)} of {len(files)} images were left out because the annotations do not list them."
        )
    return found


def _usable(found: Annotations) -> int:
    return sum(bool(each.boxes) for each in found.marked)


def _is_sound(attempt: LayoutAttempt[Annotations], most: int) -> bool:
    """Whether most of its images are there and most of its boxes readable, and no other has twice as many images."""
    found, usable = attempt.found, attempt.usable
    boxes = sum(len(each.boxes) for each in found.marked)
    return bool(
        usable
        and usable >= attempts.MOST * max(attempt.total, most)
        and boxes >= attempts.MOST * found.entries
        and len(found.marked) >= attempts.MOST * (len(found.marked) + len(found.missing))
    )


def _about(other: LayoutAttempt[Annotations], chosen: Annotations) -> str:
    """A remark about annotations that are not used; empty if they have no boxes and nothing else to report."""
    found = other.found
    if other.usable:
        return f"Boxes in {found.layout} were ignored in favour of {chosen.layout}."
    wrong = [f"{len(where)} {what}, such as {where[0]}" for what, where in found.wrong.items()]
    missing = [f"{len(found.missing)} images are missing, such as {found.missing[0]}"] if found.missing else []
    reasons = found.problems + missing + wrong
    return f"{found.layout} have no usable boxes ({reasons[0]}), so {chosen.layout} were used." if reasons else ""


def _take_boxes(search: Search, found: Annotations) -> None:
    """Images with boxes, and the classes that have any."""
    files = [Labelled(each.file, "", each.part) for each in found.marked]
    if found.without_part:
        files = in_split(search, files, found.without_part)
        in_parts = {file.path for file in files}
        found.marked = [each for each in found.marked if each.file in in_parts]
    used = {box.category for each in found.marked for box in each.boxes}
    if unused := [name for name in found.classes if name not in used]:
        found.remarks.append(f"Categories without boxes were left out: {', '.join(unused[:20])}.")
    names = sorted((name for name in found.classes if name in used), key=lambda name: _order(found.classes[name], name))
    search.display[:], search.numbers[:] = names, _numbers([found.classes[name] for name in names])
    label_of, remarks = labels.distinct(names)
    search.labels = [label_of[name].strip() for name in names]
    search.remarks += remarks
    files = own_split(files)
    images_of = {file.path: image for file, image in search.examine(files, [-1] * len(files))}
    kept = box_checks.examine(found, images_of, {name: number for number, name in enumerate(names)})
    if found.problems:
        return
    search.images[:] = kept
    if not any(image.boxes for image in kept):
        found.problems.append(f"No image has a box ({found.layout}). Annotate objects first.")
    elif len(kept) < MIN_IMAGES:
        found.problems.append(
            f"Found {len(kept)} usable images with annotations, but at least {MIN_IMAGES} are needed."
        )
    box_checks.check_counts(found, kept, search.labels)


def _check_missing(found: Annotations) -> None:
    """Images that are listed and not there."""
    if not found.missing:
        return
    total = len(found.missing) + len(found.marked)
    more = f" and {len(found.missing) - MAX_EXAMPLES} more" if len(found.missing) > MAX_EXAMPLES else ""
    sentence = (
        f"{len(found.missing)} of {total} annotated images were not found in the project:"
        f" {', '.join(found.missing[:MAX_EXAMPLES])}{more}. Put them into images/ with the same folders and names."
    )
    few = len(found.missing) <= MAX_MISSING_SHARE * total
    (found.remarks if few else found.problems).append(sentence)


def _order(number: int | None, name: str) -> tuple[bool, int, str]:
    return number is None, number or 0, name


def _numbers(given: Sequence[int | None]) -> list[int]:
    """As given; from 0 on if some have none, or if files gave one number to different classes."""
    known = [number for number in given if number is not None]
    return known if len({*known}) == len(given) else list(range(len(given)))
