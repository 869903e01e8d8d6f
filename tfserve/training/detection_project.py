"""Examines a detection project: images, annotations in one of two formats, and whether they fit together."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from tfserve.training import box_checks, box_files, images, labels
from tfserve.training.box_files import Annotations
from tfserve.training.findings import ImageFile
from tfserve.training.project_folders import MODELS, Bounds

MIN_IMAGES = 4
MAX_MISSING_SHARE = 0.2
MAX_EXAMPLES = 5


class Search(Protocol):
    """What an examination has found so far (`examine`)."""

    project: Path
    bounds: Bounds
    labels: list[str]
    numbers: list[int]
    images: list[ImageFile]
    problems: list[str]
    remarks: list[str]
    display: list[str]
    layout: str

    def look_at(self, paths: Iterable[Path], label: int) -> None: ...

    def skip(self, path: Path, reason: str, *, bad: bool = False) -> None: ...


def examine(search: Search) -> None:
    """Fills `search`."""
    files = list(_image_files(search))
    found = _read(search, files)
    if found is None:
        search.problems.append(_no_annotations(search.project, files))
        return
    search.layout = found.layout
    _check_missing(found)
    marked = [each.file for each in found.marked]
    for file in sorted({*files} - {*marked}):
        search.skip(file, "not listed in the annotations")
    if not found.problems:
        search.look_at(dict.fromkeys(marked), -1)
        _take_boxes(search, found)
    search.problems += found.problems
    search.remarks += found.remarks


def _read(search: Search, files: Sequence[Path]) -> Annotations | None:
    coco = [file for file in box_files.coco_files(search.project) if search.bounds.contain(file)]
    has_yolo = bool(box_files.label_files(search.project, files))
    if coco:
        found = box_files.read_coco(search.project, coco, files)
        if has_yolo:
            found.remarks.append(f"There are YOLO text files too. They were not used: {coco[0].name} was.")
        return found
    return box_files.read_yolo(search.project, files) if has_yolo else None


def _take_boxes(search: Search, found: Annotations) -> None:
    """Images with boxes, and the classes that have any."""
    used = {box.category for each in found.marked for box in each.boxes}
    categories = sorted((each for each in found.names if each in used), key=_order)
    if unused := [found.names[each] for each in found.names if each not in used]:
        found.remarks.append(f"Categories without any box were left out: {', '.join(unused[:20])}.")
    search.display = [found.names[each] for each in categories]
    search.labels = _labels(search.display)
    search.numbers = [_number(each, place) for place, each in enumerate(categories)]
    paths = [search.project / image.path for image in search.images]
    numbers = {category: place for place, category in enumerate(categories)}
    kept = box_checks.examine(found, search.images, paths, numbers)
    search.images[:] = kept or search.images
    if found.problems:
        return
    if not any(image.boxes for image in kept):
        found.problems.append(f"There is no box in any image ({found.layout}). Mark objects first.")
    elif len(kept) < MIN_IMAGES:
        found.problems.append(f"There are {len(kept)} good images with annotations, at least {MIN_IMAGES} are needed.")
    box_checks.check_counts(found, kept, search.labels)


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


def _image_files(search: Search) -> Iterator[Path]:
    """All image files of the project but those of results, in the order of their paths."""
    for folder, folders, names in os.walk(search.project):
        here = Path(folder)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if here == search.project and MODELS in folders:
            folders.remove(MODELS)
        for name in sorted(names):
            path = here / name
            if name.startswith(".") or path.suffix.lower() not in images.SUFFIXES:
                continue
            if not _is_utf8(name):
                search.skip(path, "its name is not UTF-8: rename it")
            elif path.is_symlink() and not search.bounds.contain(path):
                search.skip(path, "a link that leads outside of the folders that this server may use")
            else:
                yield path


def _is_utf8(name: str) -> bool:
    return name.isascii() or os.fsencode(name).decode(errors="backslashreplace") == name


def _labels(names: Sequence[str]) -> list[str]:
    """One for each name, all different."""
    found: list[str] = []
    for number, name in enumerate(names):
        label = labels.from_folder(name).strip() or f"class {number}"
        while label in found:
            label = f"{label} {number}"
        found.append(label)
    return found


def _order(category: Any) -> tuple[int, str]:
    return (int(category), "") if str(category).lstrip("-").isdigit() else (0, str(category))


def _number(category: Any, place: int) -> int:
    return int(category) if str(category).lstrip("-").isdigit() else place


def _no_annotations(project: Path, files: Sequence[Path]) -> str:
    there = sorted(each.name + ("/" if each.is_dir() else "") for each in project.iterdir()) if project.is_dir() else []
    return (
        f"{project} has no annotations: expected annotations.json in COCO format, or YOLO text files (labels/*.txt"
        f" next to images/). Found: {', '.join(there[:12]) or 'nothing'}, with {len(files)} images."
    )
