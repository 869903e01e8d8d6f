"""Masks from YOLO's text files for segmentation: `class x1 y1 x2 y2 x3 y3 …`, as fractions of the upright image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tfserve import written_numbers
from tfserve.training.dataset import number_text, text_reading
from tfserve.training.dataset.layouts import upright, yolo_boxes, yolo_names
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of_path
from tfserve.training.dataset.layouts.polygons import Annotated, Shape, rectangle
from tfserve.training.dataset.layouts.yolo_names import YoloNames
from tfserve.training.dataset.search import Search, sentence

MAX_BOXES_SHARE = 0.2
"""Of the objects, up to this share may have a box without an outline."""
UNKNOWN = "ignore"
"""The name of pixels that belong to no class."""
_BOX, _TRIANGLE = 4, 6
"""Numbers of a box, and at least of an outline."""


@dataclass
class YoloDrawings:
    """What is drawn on each image, and the number of each class: that of YOLO plus 1, because 0 is the background."""

    annotated: dict[Path, Annotated] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    outlines: int = 0
    boxes: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)


def find(search: Search, index: ImageIndex) -> YoloDrawings | None:
    """None without outlines. Images without a text file have no objects."""
    names = yolo_names.read(search, index)
    texts = [file for file in search.below(search.root, (".txt",)) if file not in names.files]
    files = yolo_boxes.text_files(search.root, index.files, texts)
    found = YoloDrawings()
    for image in index.files if files else []:
        if size := upright.upright_size(image):
            part = names.parts.get(image) or part_of_path(index.relative(image))
            found.annotated[image] = Annotated(*size, part=part)
            if image in files:
                _read(search, files[image], names, found.annotated[image], found)
    if not found.outlines:
        if found.boxes:
            search.hint = " The text files of YOLO have boxes without outlines: use trainType detection."
        return None
    _report(search, names, found, len(index.files) - len(files))
    return found


def _report(search: Search, names: YoloNames, found: YoloDrawings, without: int) -> None:
    search.layout = f"YOLO text files with outlines: {len(found.annotated)} images"
    search.problems += names.problems
    objects = found.outlines + len(found.boxes)
    if len(found.boxes) > MAX_BOXES_SHARE * objects:
        search.problems.append(
            f"{len(found.boxes)} of {objects} objects in the text files of YOLO have a box but no outline, which a"
            " segmentation needs. Draw outlines, or use trainType detection."
        )
    else:
        search.remarks += sentence("The pixels in boxes without an outline are ignored", found.boxes)
    search.remarks += sentence("Lines that are not 'class x1 y1 x2 y2 x3 y3 …' were left out", found.wrong)
    if without:
        search.remarks.append(f"{without} images have no text file. They are used as images without objects.")
    if not names.names:
        search.remarks.append("The classes have no names. Add classes.txt (one name per line) or data.yaml (names).")


def _read(search: Search, file: Path, names: YoloNames, annotated: Annotated, found: YoloDrawings) -> None:
    try:
        lines = text_reading.read(file).splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
        found.wrong.append(search.name(file))
    for number, line in enumerate(lines, start=1):
        if line.strip():
            _add(line, f"{search.name(file)}, line {number}", names, annotated, found)


def _add(line: str, where: str, names: YoloNames, annotated: Annotated, found: YoloDrawings) -> None:
    numbers = _numbers(line)
    if numbers is None:
        found.wrong.append(where)
        return
    category, sides = int(numbers[0]), numbers[1:]
    if len(sides) < _TRIANGLE:
        x, y, width, height = sides[:_BOX]
        corners = rectangle((x - width / 2, y - height / 2), (x + width / 2, y + height / 2))
        annotated.shapes.append(Shape(UNKNOWN, [_in_pixels(corners, annotated)]))
        found.boxes.append(where)
        return
    name = names.name(category)
    found.numbers[name] = category + 1
    annotated.shapes.append(Shape(name, [_in_pixels(list(zip(sides[::2], sides[1::2], strict=True)), annotated)]))
    found.outlines += 1


def _in_pixels(points: list[tuple[float, float]], annotated: Annotated) -> list[tuple[float, float]]:
    return [(x * annotated.width, y * annotated.height) for x, y in points]


def _numbers(line: str) -> list[float] | None:
    """Of a box, with a confidence or not, or of an outline; None for others."""
    words = number_text.with_points([line.split()])[0]
    numbers = [number for word in words if (number := written_numbers.finite(word)) is not None]
    count = len(numbers) - 1
    is_usual = count in (_BOX, _BOX + 1) or (count >= _TRIANGLE and count % 2 == 0)
    if len(numbers) < len(words) or not is_usual or not yolo_boxes.is_class(numbers[0]) or numbers[0] < 0:
        return None
    return numbers if max(map(abs, numbers[1:])) <= 2 else None
