"""Boxes from YOLO's text files, one for each image: in `labels/` where the image is in `images/`, or next to it.

A line is `class x y width height` (centre and size as fractions of the image), with a confidence after it or not, or
`class x1 y1 x2 y2 x3 y3 …` (a polygon). Names are in data.yaml, classes.txt or obj.names.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from tfserve import written_numbers
from tfserve.training.dataset import number_text, text_reading
from tfserve.training.dataset.box_files import Annotations, Marked, RawBox, around
from tfserve.training.dataset.labels import MAX_DIGITS
from tfserve.training.dataset.layouts import yolo_names
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of_path
from tfserve.training.dataset.layouts.yolo_names import YoloNames
from tfserve.training.dataset.search import Search

CORNERS, MIN_POLYGON = 4, 6
ALIKE = frozenset({"images", "labels", "jpegimages"})
"""Folders that differ between the path of an image and that of its text file."""
WRONG_LINE = "lines that are not 'class x y width height' or a polygon"
MAX_BYTES = 16 * 2**20


def read(search: Search, images: Sequence[Path], index: ImageIndex) -> Annotations | None:
    """None if no image has a text file."""
    names = yolo_names.read(search, index)
    texts = [file for file in search.below(search.root, (".txt",)) if file not in names.files]
    files = text_files(search.root, images, texts)
    if not files:
        return None
    found = Annotations("YOLO text files", is_relative=True, problems=names.problems)
    reader = _Reader(search, names, found)
    for image in images:
        part = names.parts.get(image) or part_of_path(image.relative_to(search.root))
        marked = Marked(image, part=part)
        if image in files:
            reader.read(files[image], marked)
        found.marked.append(marked)
    reader.report()
    _report_lonely(search, found, {*texts} - {*files.values()})
    if without := len(images) - len(files):
        found.remarks.append(
            f"{without} of {len(images)} images have no text file. They are used as images without objects."
        )
    return found


def text_files(root: Path, images: Iterable[Path], texts: Iterable[Path]) -> dict[Path, Path]:
    """For the images that have one, the text file with their boxes."""
    by_key: dict[tuple[str, ...], Path] = {}
    for text in texts:
        by_key.setdefault(_key(root, text), text)
    pairs = ((image, by_key.get(_key(root, image))) for image in images)
    return {image: text for image, text in pairs if text is not None}


def _key(root: Path, file: Path) -> tuple[str, ...]:
    """The same for an image and its text file."""
    *folders, _ = (part.lower() for part in file.relative_to(root).parts)
    return (*(folder for folder in folders if folder not in ALIKE), file.stem)


def _report_lonely(search: Search, found: Annotations, texts: Iterable[Path]) -> None:
    """Text files with boxes whose image is missing."""
    for text in sorted(texts):
        lines = _lines(text)
        if lines and isinstance(_box(lines[0], 0), tuple):
            found.missing.append(f"an image for {search.name(text)}")


class _Reader:
    """Reads text files into `found`."""

    def __init__(self, search: Search, names: YoloNames, found: Annotations) -> None:
        self._search, self._names, self._found = search, names, found
        self._with_confidence = 0
        self._used: set[int] = set()

    def read(self, file: Path, marked: Marked) -> None:
        lines = _lines(file)
        if lines is None:
            self._found.add_wrong("text files that can't be read", self._search.name(file))
            return
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            where = f"{self._search.name(file)}, line {number}"
            box = _box(line, self._names.keypoints)
            if isinstance(box, str):
                self._found.add_wrong(box, f"{where}: {line[:60]!r}")
                continue
            category, sides, has_confidence = box
            self._with_confidence += has_confidence
            self._used.add(category)
            marked.boxes.append(RawBox(self._names.name(category), sides, where))

    def report(self) -> None:
        """The classes, and what is missing or not used."""
        found, names = self._found, self._names
        if self._with_confidence:
            found.remarks.append(
                f"{self._with_confidence} boxes have a sixth number, which was ignored as a confidence."
            )
        if not names.names:
            found.remarks.append("The classes have no names. Add classes.txt (one name per line) or data.yaml (names).")
        for number in sorted(self._used - names.names.keys()) if names.names else []:
            found.problems.append(
                f"The text files have class {number}, but {names.source} lists only {len(names.names)} classes"
                f" ({min(names.names)} to {max(names.names)}). Add its name, or correct the text files."
            )
        for number in sorted(self._used | names.names.keys()):
            first = found.classes.setdefault(names.name(number), number)
            if first != number and number in self._used:
                found.remarks.append(
                    f"Classes {first} and {number} are both called {names.name(number)!r}, so they were merged into one"
                    " class."
                )


def _box(line: str, keypoints: int) -> tuple[int, tuple[float, float, float, float], bool] | str:
    """Class, sides, and whether there was a confidence; or what is wrong with the line."""
    words = number_text.with_points([line.split()])[0]
    values = [number for word in words if (number := written_numbers.finite(word)) is not None]
    if len(values) < len(words) or len(values) <= CORNERS or not is_class(values[0]):
        return WRONG_LINE
    if values[0] < 0:
        return "lines with a negative class number"
    number, rest = int(values[0]), values[1:]
    has_confidence = len(rest) == CORNERS + 1 and 0 <= rest[-1] <= 1
    if len(rest) == CORNERS or has_confidence or (keypoints and len(rest) == CORNERS + keypoints):
        x, y, width, height = rest[:CORNERS]
        return number, (x - width / 2, y - height / 2, width, height), has_confidence
    if len(rest) >= MIN_POLYGON and len(rest) % 2 == 0 and not keypoints:
        return number, around(rest), False
    return WRONG_LINE


def is_class(number: float) -> bool:
    return number == int(number) and number < 10**MAX_DIGITS


def _lines(file: Path) -> list[str] | None:
    """None if the file is not text."""
    try:
        if file.stat().st_size > MAX_BYTES:
            return None
        return text_reading.read(file).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
