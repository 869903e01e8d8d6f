"""Checks the boxes of a detection project against its images, and adds them to the index of images.

A few wrong boxes are left out and reported as remarks; if more than a fifth are wrong, that is a problem.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from tfserve.training.dataset.box_files import Annotations, Marked, RawBox
from tfserve.training.dataset.dataset_index import Box, ImageFile
from tfserve.training.dataset.layouts import upright

MAX_WRONG_SHARE = 0.2
MAX_EXAMPLES = 3
FEW_OBJECTS = 10
MAX_OBJECTS = 120
"""The largest boxes of an image are learnt from. Where the others are, nothing is learnt, as in crowds."""
MIN_SIDE = 0.99
"""Pixels of the smallest box, but for rounding."""
SLACK = 2.0
"""Pixels by which a box may exceed the image without a remark, because programs round."""
SIGN_OF_CORNERS = 0.1
"""With corners instead of width and height, at least this share of the boxes would leave the image."""
EXIF_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".webp")
"""Formats whose stored orientation may differ from the displayed one."""


def examine(found: Annotations, images: Mapping[Path, ImageFile], numbers: dict[str, int]) -> list[ImageFile]:
    """The images with their boxes. `numbers` has the class number of each category.

    Adds to `found.problems`, `found.remarks` and `found.wrong`.
    """
    marked = [(each, images[each.file]) for each in found.marked if each.file in images]
    if problem := _wrong_format(found, marked):
        found.problems.append(problem)
        return []
    check = _Check(found, numbers, _orientations(found, marked))
    kept = [check.image(each, image) for each, image in marked]
    check.report()
    return kept


def check_counts(found: Annotations, images: Sequence[ImageFile], labels: Sequence[str]) -> None:
    """Reports classes with few objects, and images without any."""
    objects = Counter(box.label for image in images for box in image.boxes if not box.crowd)
    shown_in = Counter(label for image in images for label in {box.label for box in image.boxes})
    few = [
        f"{name} ({objects[number]} in {shown_in[number]} images)"
        for number, name in enumerate(labels) if objects[number] < FEW_OBJECTS
    ]  # fmt: skip
    if few:
        found.remarks.append(
            f"These classes have fewer than {FEW_OBJECTS} objects, too few to train or measure reliably:"
            f" {', '.join(few[:20])}. Annotate more objects, or remove the class."
        )
    if crowded := [len(image.boxes) for image in images if len(image.boxes) > MAX_OBJECTS]:
        found.remarks.append(
            f"{len(crowded)} images have more than {MAX_OBJECTS} boxes (up to {max(crowded)}). Of each, only the"
            f" {MAX_OBJECTS} largest are learnt from; around the others, nothing is learnt. Cut these images into"
            " parts to learn from all boxes."
        )
    if empty := sum(not image.boxes for image in images):
        found.remarks.append(f"{empty} of {len(images)} images have no boxes. They are used as images without objects.")


class _Check:
    """Checks single boxes and collects the results."""

    def __init__(self, found: Annotations, numbers: dict[str, int], orientations: Mapping[Path, int]) -> None:
        self._orientations = orientations
        self._found = found
        self._numbers = numbers
        self._entries = found.entries
        self._remarks: dict[str, list[str]] = {}

    def image(self, marked: Marked, image: ImageFile) -> ImageFile:
        boxes: list[Box] = []
        for raw in marked.boxes:
            box = self._box(raw, marked, image)
            if box is None:
                continue
            if any(_same(box, other) for other in boxes):
                self._remark("boxes are duplicates; one of each is used", raw.where)
            else:
                boxes.append(box)
        return msgspec.structs.replace(image, boxes=tuple(boxes))

    def report(self) -> None:
        found = self._found
        for what, where in self._remarks.items():
            found.remarks.append(f"{len(where)} {what}: {_examples(where)}.")
        count = sum(map(len, found.wrong.values()))
        if not count:
            return
        listed = "; ".join(f"{len(where)} {what} ({_examples(where)})" for what, where in found.wrong.items())
        if count > MAX_WRONG_SHARE * self._entries:
            found.problems.append(
                f"{count} of {self._entries} annotations can't be used: {listed}. Correct them, or export them again."
            )
        else:
            found.remarks.append(f"{count} of {self._entries} annotations were left out: {listed}.")

    def _box(self, raw: RawBox, marked: Marked, image: ImageFile) -> Box | None:
        width, height = raw.sides[2:]
        if raw.category not in self._numbers:
            self._found.add_wrong("of an unknown class", raw.where)
            return None
        if width <= 0 or height <= 0:
            self._found.add_wrong("with zero or negative width or height", f"{raw.where}: {_written(raw)}")
            return None
        left, top, right, bottom = self._in_pixels(raw, marked, image)
        inside = max(left, 0.0), max(top, 0.0), min(right, image.width), min(bottom, image.height)
        if inside[2] - inside[0] <= 0 or inside[3] - inside[1] <= 0:
            self._found.add_wrong(
                "outside of their image",
                f"{raw.where}: {_written(raw)} in {marked.file.name} with {image.width}x{image.height} pixels",
            )
            return None
        if min(inside[2] - inside[0], inside[3] - inside[1]) < MIN_SIDE:
            self._found.add_wrong("narrower or lower than a pixel", f"{raw.where}: {_written(raw)}")
            return None
        if max(-left, -top, right - image.width, bottom - image.height) > SLACK:
            self._remark("boxes were clipped at the edge of their image", f"{raw.where}: {_written(raw)}")
        sides = [float(side) for side in inside]
        return Box(self._numbers[raw.category], sides[0], sides[1], sides[2], sides[3], raw.crowd)

    def _in_pixels(self, raw: RawBox, marked: Marked, image: ImageFile) -> tuple[float, float, float, float]:
        """The corners in the upright image, from fractions or from pixels of the annotated size."""
        x, y, width, height = raw.sides
        corners = left, top, right, bottom = x, y, x + width, y + height
        if self._found.is_relative or raw.has_shares:
            return left * image.width, top * image.height, right * image.width, bottom * image.height
        if orientation := self._orientations.get(marked.file):
            return _turned(corners, (image.width, image.height), orientation)
        if marked.size is None or marked.size == (image.width, image.height):
            return corners
        annotated_width, annotated_height = marked.size
        self._remark(
            "images have another size than their annotations say; their boxes were scaled",
            f"{marked.file.name} ({image.width}x{image.height}, annotated {annotated_width}x{annotated_height})",
        )
        across, down = image.width / annotated_width, image.height / annotated_height
        return left * across, top * down, right * across, bottom * down

    def _remark(self, what: str, where: str) -> None:
        paths = self._remarks.setdefault(what, [])
        if where not in paths[-1:]:
            paths.append(where)


def _wrong_format(found: Annotations, marked: Sequence[tuple[Marked, ImageFile]]) -> str | None:
    """A problem when all boxes are in fractions instead of pixels, the other way round, or corners instead of sizes."""
    boxes = [(raw, marked_, image) for marked_, image in marked for raw in marked_.boxes if not raw.has_shares]
    if not boxes:
        return None
    where = _examples([f"{raw.where}: {_written(raw)}" for raw, _, _ in boxes])
    if found.is_relative:
        too_large = [raw for raw, _, _ in boxes if max(raw.sides) > SLACK]
        if len(too_large) > MAX_WRONG_SHARE * len(boxes):
            return (
                f"{len(too_large)} of {len(boxes)} boxes in the text files are in pixels ({where}). YOLO files have the"
                " centre, width and height as fractions from 0 to 1: divide x and width by the image's width, y and"
                " height by its height."
            )
        return None
    if all(max(raw.sides) <= 1.0 < min(image.width, image.height) for raw, _, image in boxes):
        return (
            f"All boxes are between 0 and 1 ({where}), but COCO boxes are in pixels: multiply x and width by the"
            " image's width, y and height by its height."
        )
    if _are_corners(boxes):
        return (
            f"The boxes are corners [x1, y1, x2, y2] ({where}): as COCO's [x, y, width, height] many would leave their"
            " image. Write x2 - x1 and y2 - y1 instead of x2 and y2."
        )
    return None


def _are_corners(boxes: Sequence[tuple[RawBox, Marked, ImageFile]]) -> bool:
    """Whether all make sense as corners, and many make none as width and height."""
    leaving = 0
    for raw, marked, image in boxes:
        x, y, third, fourth = raw.sides
        width, height = marked.size or (image.width, image.height)
        if not (x < third <= width + SLACK and y < fourth <= height + SLACK):
            return False
        if raw.area and abs(raw.area - third * fourth) < 0.01 * raw.area:
            return False
        leaving += x + third > width + SLACK or y + fourth > height + SLACK
    return leaving >= max(1, SIGN_OF_CORNERS * len(boxes))


def _orientations(found: Annotations, marked: Sequence[tuple[Marked, ImageFile]]) -> dict[Path, int]:
    """EXIF's number for the images whose boxes were drawn on the image as it is stored, by the size that they state.

    Where the size does not show it (a square image, one upside down, or none is stated), the boxes are taken as drawn
    on the upright image, or as those of the other rotated images were.
    """
    in_pixels = [pair for pair in marked if any(not raw.has_shares for raw in pair[0].boxes)]
    may_be_rotated = [pair for pair in in_pixels if pair[0].file.suffix.lower() in EXIF_SUFFIXES]
    sizes = {each.file: (image.width, image.height) for each, image in may_be_rotated}
    stated = {each.file: each.size or sizes[each.file] for each, _ in may_be_rotated if not found.is_relative}
    turned, _ = upright.orientations(stated, {file: (file, sizes[file]) for file in stated})
    return turned


def _turned(
    corners: tuple[float, float, float, float], size: tuple[int, int], orientation: int
) -> tuple[float, float, float, float]:
    """From pixels as they are stored to those of the upright image, whose width and height are given."""
    left, top, right, bottom = corners
    if orientation in upright.ROTATED:
        left, top, right, bottom = top, left, bottom, right
    width, height = size
    if orientation in (2, 3, 6, 7):
        left, right = width - right, width - left
    if orientation in (3, 4, 7, 8):
        top, bottom = height - bottom, height - top
    return left, top, right, bottom


def _same(one: Box, other: Box) -> bool:
    pairs = zip(msgspec.structs.astuple(one)[1:5], msgspec.structs.astuple(other)[1:5], strict=True)
    return one.label == other.label and all(abs(a - b) < 0.5 for a, b in pairs)


def _written(raw: RawBox) -> str:
    return "[" + ", ".join(f"{side:g}" for side in raw.sides) + "]"


def _examples(where: Sequence[str]) -> str:
    more = f" and {len(where) - MAX_EXAMPLES} more" if len(where) > MAX_EXAMPLES else ""
    return ", ".join(where[:MAX_EXAMPLES]) + more
