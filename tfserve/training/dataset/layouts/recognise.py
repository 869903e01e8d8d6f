"""Which layout a project has. Layouts are tried in a fixed order; archives are unpacked when nothing else is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.layouts import (
    archives,
    class_folders,
    coco_masks,
    file_names,
    labelme,
    mask_pairs,
    tables,
    via_masks,
    yolo_masks,
)
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import own_split
from tfserve.training.dataset.layouts.polygons import Annotated
from tfserve.training.dataset.search import Labelled, Search

MAX_TYPES = 6

CLASSIFICATION_LAYOUTS = (
    "images/<class>/<image>; <class>/<image>; train|validation|test/<class>/<image>; a CSV or JSON file with the"
    " columns file and label; the class in the names of files (cat_001.jpg); a zip or tar file with one of these"
)
SEGMENTATION_LAYOUTS = (
    "images/ and labels/ (or masks/, annotations/) with files of the same name; JPEGImages/ and SegmentationClass/"
    " (VOC); leftImg8bit/ and gtFine/ (Cityscapes); train/ and trainannot/ (CamVid); <name>.jpg and <name>_mask.png;"
    " images with labelme JSON files; images and a JSON file of COCO or the VGG Image Annotator; images and YOLO text"
    " files with outlines; a zip or tar file with one of these"
)

T = TypeVar("T")


@dataclass
class Classified:
    """The images of a classification, and the columns of the tables that were found."""

    files: list[Labelled]
    columns: list[str] = field(default_factory=list)


@dataclass
class Segmented:
    """The images of a segmentation, each with a mask or with what is to be drawn into one."""

    files: list[Labelled]
    masks: dict[Path, Path] = field(default_factory=dict)
    annotated: dict[Path, Annotated] = field(default_factory=dict)
    #: numbers of the classes in the user's own numbering, 0 for those without
    numbers: dict[str, int] = field(default_factory=dict)


def classification(search: Search, groups: str) -> Classified | None:
    """None, with a problem, for an unknown layout."""
    return _found(search, lambda: _classified(search, groups), CLASSIFICATION_LAYOUTS)


def segmentation(search: Search) -> Segmented | None:
    """None, with a problem, for an unknown layout."""
    return _found(search, lambda: _segmented(search), SEGMENTATION_LAYOUTS)


def _found(search: Search, find: Callable[[], T | None], accepted: str) -> T | None:
    found = find()
    if found is None and archives.unpack(search):
        found = find()
        search.layout += f", unpacked from a {archives.format_of(search)} file"
    if found is None:
        search.layout = ""
        search.problems.append(
            f"The layout of {search.project} was not recognised. Found: {what_is_there(search)}.{search.hint} Accepted:"
            f" {accepted}."
        )
    return found


def _classified(search: Search, groups: str) -> Classified | None:
    if not search.root.is_dir():
        return None
    index = ImageIndex(search.root, search.below(search.root, image_reading.SUFFIXES))
    found = tables.read_all(search, index, groups)
    columns = [name for table in found for name in table.header]
    labelled = [table for table in found if table.has_labels]
    if class_folders.in_images(search):
        files = class_folders.find(search, search.images_folder) or []
        _mention_unused(search, labelled)
        return Classified(tables.attach(search, files, found, index), columns)
    if labelled:
        return Classified(tables.labelled(search, labelled, index), columns)
    base = class_folders.wrapped(search)
    if not class_folders.looks_like_classes(search, base):
        named = file_names.find(search, index) if not found else None
        search.hint = tables.hint(search, found)
        return Classified(named) if named else None
    files = class_folders.find(search, base) or []
    return Classified(tables.attach(search, files, found, index), columns)


def _mention_unused(search: Search, labelled: list[tables.Table]) -> None:
    for table in labelled:
        search.remarks.append(
            f"The labels in {search.name(table.path)} were ignored, because images/ has one folder per class. To use"
            " them, put the images into one folder."
        )


def _segmented(search: Search) -> Segmented | None:
    if not search.root.is_dir():
        return None
    index = ImageIndex(search.root, search.below(search.root, image_reading.SUFFIXES))
    if drawn := coco_masks.find(search, index):
        return _drawn(drawn.annotated, drawn.numbers)
    if annotated := labelme.find(search, index):
        return _drawn(annotated, {})
    if annotated := via_masks.find(search, index):
        return _drawn(annotated, {})
    if outlined := yolo_masks.find(search, index):
        return _drawn(outlined.annotated, outlined.numbers)
    pairs = mask_pairs.find(search)
    if pairs is None:
        return None
    return Segmented([Labelled(pair.image, "", pair.part) for pair in pairs], {each.image: each.mask for each in pairs})


def _drawn(annotated: dict[Path, Annotated], numbers: dict[str, int]) -> Segmented:
    files = own_split([Labelled(path, "", each.part) for path, each in sorted(annotated.items())])
    return Segmented(files, annotated=annotated, numbers=numbers)


def what_is_there(search: Search) -> str:
    """`3 folders (a/, b/, c/), 20 files (12 .png, 8 .txt)`."""
    if not search.project.exists():
        return "no such folder"
    if not search.root.is_dir():
        return "a file that is not an archive (.zip, .tar, .tar.gz, .tgz)"
    folders = search.data_folders(search.root)
    names = ", ".join(f"{path.name}/" for path in folders[:5]) + (", …" if len(folders) > 5 else "")
    types = Counter(path.suffix.lower() or "no suffix" for path in search.below(search.root, ()))
    counts = ", ".join(f"{count} {suffix}" for suffix, count in types.most_common(MAX_TYPES))
    files = f"{types.total()} files ({counts})" if types else "no files"
    return f"{len(folders)} folders" + (f" ({names})" if names else "") + f", {files}"
