"""Boxes from Pascal VOC: an XML file for each image, in `Annotations/` or next to the image.

`ImageSets/Main/train.txt` and `val.txt` are the split, unless folders are. Objects marked `difficult` are used
neither in training nor in measuring, as in VOC's own metric.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tfserve import written_numbers
from tfserve.training.dataset import number_text, text_reading
from tfserve.training.dataset.box_files import Annotations, Marked, RawBox, size_of
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of, part_of_path
from tfserve.training.dataset.search import Search, same_form

MAX_BYTES = 16 * 2**20
FIRST_PIXEL = 1
"""VOC counts pixels from 1, and both ends belong to the box."""
SIDES = ("xmin", "ymin", "xmax", "ymax")


def read(search: Search, images: Sequence[Path], index: ImageIndex) -> Annotations | None:
    """None if there are no such files."""
    found = Annotations("Pascal VOC, XML files", is_relative=False)
    parts = _parts(search)
    marked: dict[Path, Marked] = {}
    for file in search.below(search.root, (".xml",)):
        root = _parsed(file, search, found)
        if root is None:
            continue
        image = _image(file, root, index)
        if image is None:
            found.missing.append(f"{(root.findtext('filename') or file.stem).strip()} ({search.name(file)})")
        elif image in marked:
            found.add_wrong("XML files of an image that already has one", search.name(file))
        else:
            part = part_of_path(image.relative_to(search.root)) or parts.get(file.stem, "")
            size = size_of(
                *(written_numbers.finite(root.findtext(f"size/{side}") or "") for side in ("width", "height"))
            )
            marked[image] = Marked(image, size=size, part=part)
            _add_boxes(root, search.name(file), marked[image], found)
    if not marked and not found.missing and not found.wrong:
        return None
    found.marked = [marked[image] for image in images if image in marked]
    if difficult := sum(box.crowd for each in found.marked for box in each.boxes):
        found.remarks.append(
            f"{difficult} objects are marked difficult. They are used neither for training nor for measuring."
        )
    for name in sorted({box.category for each in found.marked for box in each.boxes}):
        found.classes[name] = None
    return found


def _parsed(file: Path, search: Search, found: Annotations) -> Any:
    """The element `annotation`; None for XML files of something else. Those that are broken are listed."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return None
        root = ElementTree.parse(file).getroot()  # noqa: S314 (expat limits entities, and external ones are not read)
    except (OSError, ElementTree.ParseError, ValueError, LookupError) as error:  # the last for unknown encodings
        found.add_wrong("XML files that can't be read", f"{search.name(file)}: {error}")
        return None
    return root if root.tag == "annotation" else None


def _image(file: Path, root: Any, index: ImageIndex) -> Path | None:
    """The image with the name of the XML file, since images are renamed along with it; else the one that it names."""
    named = (root.findtext("filename") or "").strip()
    return index.find(file.stem, file.parent) or (index.find(named, file.parent) if named else None)


def _add_boxes(root: Any, name: str, marked: Marked, found: Annotations) -> None:
    for number, entry in enumerate(root.iterfind("object"), start=1):
        where = f"{name}, object {number}"
        label = same_form((entry.findtext("name") or "").strip())
        texts = number_text.with_points([[entry.findtext(f"bndbox/{side}") or "" for side in SIDES]])[0]
        sides = [written_numbers.finite(text) for text in texts]
        if not label:
            found.add_wrong("objects without a name", where)
        elif any(side is None for side in sides):
            found.add_wrong(f"objects without four finite numbers {', '.join(SIDES)} in bndbox", where)
        else:
            left, top, right, bottom = (side or 0.0 for side in sides)
            x, y = left - FIRST_PIXEL, top - FIRST_PIXEL
            is_difficult = (entry.findtext("difficult") or "").strip().lower() in ("1", "true")
            marked.boxes.append(RawBox(label, (x, y, right - x, bottom - y), where, is_difficult))


def _parts(search: Search) -> dict[str, str]:
    """The part of each image by its name without a suffix."""
    parts: dict[str, str] = {}
    for file in search.below(search.root, (".txt",)):
        if file.parent.name != "Main" or not (part := part_of(file.stem)):
            continue
        try:
            lines = text_reading.read(file).splitlines()
        except (OSError, UnicodeDecodeError):
            continue
        parts |= {line.split()[0]: part for line in lines if line.strip()}
    return parts
