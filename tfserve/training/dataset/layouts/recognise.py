"""Which layout a project has. Layouts are tried in a fixed order; archives are unpacked when nothing else is found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.layouts import (
    archives,
    attempts,
    class_folders,
    coco_masks,
    file_names,
    foreign,
    job_remarks,
    labelled_tables,
    labelme,
    mask_pairs,
    mask_tables,
    program_folders,
    tables,
    via_masks,
    yolo_masks,
)
from tfserve.training.dataset.layouts.attempts import LayoutReader
from tfserve.training.dataset.layouts.coco_masks import UNKNOWN
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
    " a CSV file with the columns image and mask;"
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
    is_unpacked = not archives.has_images(search) and archives.unpack(search)
    found = find()
    if found is None and not is_unpacked and archives.unpack(search):
        search.hint = ""  # it was about the folder of the archives
        is_unpacked, found = True, find()
    if found is not None and is_unpacked:
        search.layout += f", unpacked from a {archives.format_of(search)} file"
    if found is None:
        search.layout = ""
        search.problems.append(
            f"The layout of {search.project} was not recognised. Found: {what_is_there(search)}."
            f"{search.hint}{foreign.hint(search)}{program_folders.hint(search)} Accepted: {accepted}."
        )
    return found


def _classified(search: Search, groups: str) -> Classified | None:
    if not search.root.is_dir():
        return None
    program_folders.leave_out(search, are_classes=True)
    index = ImageIndex(search.root, search.below(search.root, image_reading.SUFFIXES))
    found = tables.read_all(search, index, groups)
    columns = [name for table in found for name in table.header]
    readers = (
        lambda: _in_images(search, index, found),
        lambda: _in_tables(search, index, found),
        lambda: _at_the_top(search, index, found),
        lambda: _by_names(search, index, found),
    )
    files = attempts.first_usable(search, [LayoutReader(read, _usable_files) for read in readers])
    if files is not None and any(table.has_labels for table in found):
        job_remarks.report(search, has_boxes=False)
    return None if files is None else Classified(files, columns)


def _usable_files(files: Sequence[Labelled]) -> int:
    """The number of images; none if they are all of one class."""
    return len(files) if len({file.name for file in files}) > 1 else 0


def _in_images(search: Search, index: ImageIndex, found: Sequence[tables.LabelTable]) -> list[Labelled] | None:
    if not class_folders.in_images(search):
        return None
    files = class_folders.find(search, search.images_folder)
    if files is None:
        return [] if search.empty_classes else None
    for table in (table for table in found if table.has_labels):
        search.remarks.append(
            f"The labels in {search.name(table.path)} were ignored, because images/ has one folder per class. To use"
            " them, put the images into one folder."
        )
    return labelled_tables.attach(search, files, found, index)


def _in_tables(search: Search, index: ImageIndex, found: Sequence[tables.LabelTable]) -> list[Labelled] | None:
    with_labels = [table for table in found if table.has_labels]
    return labelled_tables.find(search, found, index) if with_labels else None


def _at_the_top(search: Search, index: ImageIndex, found: Sequence[tables.LabelTable]) -> list[Labelled] | None:
    base = class_folders.wrapped(search)
    if inner := program_folders.only_described(search, base):
        search.remarks.append(f"The classes are the folders in {search.name(inner)}/. Those next to it were ignored.")
        base = inner
    if not class_folders.looks_like_classes(search, base):
        search.hint = labelled_tables.hint(search, found) or class_folders.hint(search, base)
        return None
    return labelled_tables.attach(search, class_folders.find(search, base) or [], found, index)


def _by_names(search: Search, index: ImageIndex, found: Sequence[tables.LabelTable]) -> list[Labelled] | None:
    return None if found else file_names.find(search, index)


def _segmented(search: Search) -> Segmented | None:
    if not search.root.is_dir():
        return None
    program_folders.leave_out(search, are_classes=False)
    index = ImageIndex(search.root, search.below(search.root, image_reading.SUFFIXES))
    readers = (_from_coco, _from_labelme, _from_via, _from_yolo, _from_masks, _from_table)
    return attempts.most_usable(search, [LayoutReader(partial(read, search, index), _usable_masks) for read in readers])


def _usable_masks(found: Segmented) -> int:
    """The number of images; none if nothing is drawn on any of them."""
    if found.annotated and not any(shape.name != UNKNOWN for each in found.annotated.values() for shape in each.shapes):
        return 0
    return len(found.files)


def _from_coco(search: Search, index: ImageIndex) -> Segmented | None:
    drawn = coco_masks.find(search, index)
    return None if drawn is None else _drawn(drawn.annotated, drawn.numbers)


def _from_labelme(search: Search, index: ImageIndex) -> Segmented | None:
    annotated = labelme.find(search, index)
    return None if annotated is None else _drawn(annotated, {})


def _from_via(search: Search, index: ImageIndex) -> Segmented | None:
    annotated = via_masks.find(search, index)
    return None if annotated is None else _drawn(annotated, {})


def _from_yolo(search: Search, index: ImageIndex) -> Segmented | None:
    outlined = yolo_masks.find(search, index)
    return None if outlined is None else _drawn(outlined.annotated, outlined.numbers)


def _from_masks(search: Search, _: ImageIndex) -> Segmented | None:
    return _paired(mask_pairs.find(search))


def _from_table(search: Search, index: ImageIndex) -> Segmented | None:
    return _paired(mask_tables.find(search, index))


def _paired(pairs: Sequence[mask_pairs.MaskPair] | None) -> Segmented | None:
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
