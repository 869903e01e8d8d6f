"""Reads the boxes of a detection project: COCO's JSON, or YOLO's text files.

    COCO   annotations.json or _annotations.coco.json in the project or any folder of it, or annotations/*.json
    YOLO   a text file for each image, in labels/ where the image is in images/, or next to the image; each line is
           `class x y width height` (centre and size as shares of the image) or `class x1 y1 x2 y2 x3 y3 …` (a polygon);
           names in data.yaml, classes.txt or obj.names

Nothing is checked against the images here; `box_checks` does that.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from tfserve.training.layouts.image_index import ImageIndex
from tfserve.training.layouts.parts import part_of, part_of_path

COCO_NAMES = ("annotations.json", "_annotations.coco.json")
NAME_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")
MAX_BYTES = 512 * 1024 * 1024
CORNERS, MIN_POLYGON = 4, 6


class RawBox(msgspec.Struct, frozen=True):
    """A box as it was written: x, y, width and height; `where` names the entry. `area` is COCO's field, if given."""

    category: Any
    sides: tuple[float, float, float, float]
    where: str
    crowd: bool = False
    area: float | None = None


class Marked(msgspec.Struct):
    """An image with its boxes. `size` is the width and height that the annotation states, if any."""

    file: Path
    boxes: list[RawBox] = msgspec.field(default_factory=list)
    size: tuple[int, int] | None = None
    part: str = ""


class Annotations(msgspec.Struct):
    """All that was read. `names` has the name of each category id; `is_relative` says that sides are shares.

    `wrong` has a sentence for each entry that could not be read, by what is wrong with it.
    """

    layout: str
    is_relative: bool
    marked: list[Marked] = msgspec.field(default_factory=list)
    names: dict[Any, str] = msgspec.field(default_factory=dict)
    problems: list[str] = msgspec.field(default_factory=list)
    remarks: list[str] = msgspec.field(default_factory=list)
    wrong: dict[str, list[str]] = msgspec.field(default_factory=dict)
    missing: list[str] = msgspec.field(default_factory=list)

    def add_wrong(self, what: str, where: str) -> None:
        self.wrong.setdefault(what, []).append(where)

    @property
    def entries(self) -> int:
        return sum(len(each.boxes) for each in self.marked) + sum(len(each) for each in self.wrong.values())


def coco_files(root: Path, candidates: Iterable[Path]) -> list[Path]:
    """The JSON files that have COCO's names, or lie in a folder `annotations`."""
    return [file for file in candidates if file.name in COCO_NAMES or file.parent == root / "annotations"]


def read_coco(root: Path, files: Sequence[Path], index: ImageIndex) -> Annotations:
    """`index` has all image files of the project."""
    found = Annotations(f"COCO annotations in {', '.join(file.relative_to(root).as_posix() for file in files)}", False)
    for file in files:
        content = _json(file, found.problems)
        if content is not None:
            _read_coco_file(file, content, found, index, part=_part_of(file.relative_to(root)))
    return found


def label_files(project: Path, images: Iterable[Path]) -> dict[Path, Path]:
    """For the images that have one, the text file with their boxes."""
    found = {}
    for image in images:
        candidates = (image.with_suffix(".txt"), _in_labels(project, image))
        if file := next((each for each in candidates if each is not None and each.is_file()), None):
            found[image] = file
    return found


def read_yolo(project: Path, images: Sequence[Path]) -> Annotations:
    found = Annotations("YOLO text files", True)
    files = label_files(project, images)
    found.names = _yolo_names(project, found)
    for image in images:
        marked = Marked(image, part=_part_of(image.relative_to(project)))
        if image in files:
            _read_yolo_file(files[image], marked, found)
        found.marked.append(marked)
    if without := len(images) - len(files):
        found.remarks.append(
            f"{without} of {len(images)} images have no text file: they are learnt as images without objects."
        )
    for number in sorted({box.category for each in found.marked for box in each.boxes} - found.names.keys()):
        if not found.names or number < 0:
            continue
        found.problems.append(
            f"The text files have class {number}, but {_name_file(project)} names only {len(found.names)} classes"
            f" (0 to {len(found.names) - 1}). Add its name, or correct the text files."
        )
    if not found.names:
        numbers = sorted({box.category for each in found.marked for box in each.boxes})
        found.names = {number: f"class {number}" for number in numbers}
        found.remarks.append("The classes have no names. Add classes.txt (a name on each line) or data.yaml (names).")
    return found


# --- COCO


def _read_coco_file(file: Path, content: dict[str, Any], found: Annotations, index: ImageIndex, *, part: str) -> None:
    for category in content["categories"]:
        if isinstance(category, dict) and "id" in category:
            found.names.setdefault(_key(category["id"]), str(category.get("name", f"class {category['id']}")))
        else:
            found.add_wrong("categories without an id", f"{file.name}: {_short(category)}")
    images: dict[Any, Marked | None] = {}
    known = {each.file: each for each in found.marked}
    for image in content["images"]:
        if not isinstance(image, dict) or "id" not in image or not isinstance(image.get("file_name"), str):
            found.add_wrong("images without an id or a file_name", f"{file.name}: {_short(image)}")
            continue
        marked = _marked(image, file, index, part)
        if marked is None:
            found.missing.append(image["file_name"])
        elif marked.file in known:
            marked = known[marked.file]
        else:
            known[marked.file] = marked
            found.marked.append(marked)
        images[_key(image["id"])] = marked
    for number, annotation in enumerate(content["annotations"]):
        _add_coco_box(annotation, f"{file.name}, annotation {_id_of(annotation, number)}", images, found)


def _marked(image: dict[str, Any], file: Path, index: ImageIndex, part: str) -> Marked | None:
    path = index.find(image["file_name"], file.parent)
    if path is None:
        return None
    size = tuple(int(side) for name in ("width", "height") if _is_number(side := image.get(name)) and side >= 1)
    return Marked(path, size=(size[0], size[1]) if len(size) == 2 else None, part=part)


def _add_coco_box(annotation: Any, where: str, images: dict[Any, Marked | None], found: Annotations) -> None:
    if not isinstance(annotation, dict):
        return found.add_wrong("annotations that are no objects", where)
    image_id, category = _key(annotation.get("image_id")), _key(annotation.get("category_id"))
    if image_id not in images:
        return found.add_wrong(
            "boxes of an image that is not listed (image_id)", f"{where}: image_id {_short(annotation.get('image_id'))}"
        )
    if category not in found.names:
        return found.add_wrong(
            "boxes of a category that is not listed (category_id)",
            f"{where}: category_id {_short(annotation.get('category_id'))}",
        )
    sides = _coco_sides(annotation)
    if sides is None:
        return found.add_wrong(
            "boxes that are not four finite numbers [x, y, width, height]", f"{where}: {_short(annotation.get('bbox'))}"
        )
    marked = images[image_id]
    if marked is not None:
        area = annotation.get("area")
        marked.boxes.append(
            RawBox(category, sides, where, bool(annotation.get("iscrowd")), float(area) if _is_number(area) else None)
        )
    return None


def _coco_sides(annotation: dict[str, Any]) -> tuple[float, float, float, float] | None:
    """`bbox`, or the box around the polygons of `segmentation` if there is no `bbox`."""
    given = annotation.get("bbox")
    if given is None and isinstance(polygons := annotation.get("segmentation"), list):
        points = [value for polygon in polygons if isinstance(polygon, list) for value in polygon]
        return _around(points) if len(points) >= MIN_POLYGON and all(map(_is_number, points)) else None
    if not isinstance(given, list) or len(given) != CORNERS or not all(map(_is_number, given)):
        return None
    x, y, width, height = map(float, given)
    return x, y, width, height


def _json(file: Path, problems: list[str]) -> dict[str, Any] | None:
    try:
        if file.stat().st_size > MAX_BYTES:
            problems.append(f"{file} has {file.stat().st_size >> 20} MiB; at most {MAX_BYTES >> 20} MiB are read.")
            return None
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        problems.append(f"{file} can't be read as JSON: {error}. Export the annotations again as COCO JSON.")
        return None
    lists = ("images", "annotations", "categories")
    missing = [name for name in lists if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        has = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        problems.append(
            f"{file} is not a COCO file: expected an object with the lists {', '.join(lists)};"
            f" missing: {', '.join(missing)}; found: {has or 'nothing'}."
        )
        return None
    return dict(content)


def _id_of(annotation: Any, number: int) -> str:
    return _short(annotation["id"]) if isinstance(annotation, dict) and "id" in annotation else f"number {number + 1}"


def _key(value: Any) -> Any:
    """Ids are compared as text: some programs write 1 in one list and "1" in the other."""
    return str(value) if isinstance(value, (int, str)) else None


# --- YOLO


def _in_labels(project: Path, image: Path) -> Path | None:
    """The file in `labels` that belongs to an image in `images`."""
    parts = list(image.relative_to(project).parts)
    if "images" not in parts[:-1]:
        return None
    place = len(parts) - 2 - parts[:-1][::-1].index("images")
    parts[place] = "labels"
    return project.joinpath(*parts).with_suffix(".txt")


def _read_yolo_file(file: Path, marked: Marked, found: Annotations) -> None:
    try:
        lines = file.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found.add_wrong("text files that can't be read", f"{file}: {error}")
        return
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"{file.name}, line {number}"
        try:
            values = [float(word) for word in line.split()]
        except ValueError:
            values = []
        box = _yolo_box(values, where)
        if box is None:
            found.add_wrong("lines that are not 'class x y width height' or a polygon", f"{where}: {line[:60]!r}")
        else:
            marked.boxes.append(box)


def _yolo_box(values: list[float], where: str) -> RawBox | None:
    if not values or not all(map(math.isfinite, values)) or values[0] != int(values[0]):
        return None
    number, rest = int(values[0]), values[1:]
    if len(rest) == CORNERS:
        x, y, width, height = rest
        return RawBox(number, (x - width / 2, y - height / 2, width, height), where)
    if len(rest) >= MIN_POLYGON and len(rest) % 2 == 0:
        return RawBox(number, _around(rest), where)
    return None


def _yolo_names(project: Path, found: Annotations) -> dict[Any, str]:
    file = _name_file(project)
    if file is None:
        return {}
    try:
        text = file.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        found.problems.append(f"{file} can't be read: {error}.")
        return {}
    if file.suffix in (".txt", ".names"):
        return dict(enumerate(line.strip() for line in text.strip().splitlines()))
    return _yaml_names(file, text, found.problems)


def _yaml_names(file: Path, text: str, problems: list[str]) -> dict[Any, str]:
    import yaml

    try:
        content = yaml.safe_load(text)
        names = content["names"]
        if isinstance(names, dict):
            return {int(number): str(name) for number, name in names.items()}
        if isinstance(names, list):
            return dict(enumerate(map(str, names)))
    except (yaml.YAMLError, KeyError, TypeError, ValueError):
        pass
    problems.append(f"{file} has no list of class names: expected `names: [first, second, …]`.")
    return {}


def _name_file(project: Path) -> Path | None:
    folders = (project, project / "labels", project / "images")
    return next((file for folder in folders for name in NAME_FILES if (file := folder / name).is_file()), None)


# --- both


def _part_of(path: Path) -> str:
    """The part of a split that a folder above a file names; for COCO also its own name: `instances_val2017.json`."""
    words = path.stem.split("_") if path.suffix == ".json" else []
    return part_of_path(path) or next((part for word in words if (part := part_of(word))), "")


def _around(points: Sequence[float]) -> tuple[float, float, float, float]:
    """x, y, width and height of the box around x1, y1, x2, y2, …"""
    xs, ys = [float(x) for x in points[0::2]], [float(y) for y in points[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _short(value: Any) -> str:
    return repr(value)[:60]
