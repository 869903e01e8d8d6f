"""Annotation files in COCO format: images, categories, and for each object a box, polygons or run lengths.

The one reader of them, for masks and for boxes. Programs differ in what they write: ids as 1, 1.0 or "1"; sizes and
areas may be missing. Entries with missing required fields are left out and listed in `Coco.wrong`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import msgspec

from tfserve.training.dataset import json_reading, labels, text_reading

MAX_BYTES = 512 * 1024 * 1024
LISTS = ("images", "annotations", "categories")


class Image(msgspec.Struct):
    """`width` and `height` are as the file has them, maybe missing or no numbers."""

    id: str
    file_name: str
    width: Any = None
    height: Any = None


class Category(msgspec.Struct):
    """`number` is the id, if it is a whole number."""

    id: str
    name: str
    number: int | None


class Annotation(msgspec.Struct):
    """`bbox` should be [left, top, width, height] in pixels; it is not checked here, and neither is `segmentation`.

    `where` names the entry in messages. Ids are None where they are missing or neither numbers nor text.
    """

    where: str
    image_id: str | None
    category_id: str | None
    bbox: Any = None
    segmentation: Any = None
    area: float | None = None
    crowd: bool = False


class Coco(msgspec.Struct):
    """`wrong` has the entries that were left out, by what is wrong with them; `problems` are sentences about ids that
    are used twice, which makes references to them ambiguous."""

    images: list[Image] = []
    categories: list[Category] = []
    annotations: list[Annotation] = []
    wrong: dict[str, list[str]] = {}
    problems: list[str] = []


class NotCoco(Exception):
    """The file is not JSON, or JSON of something else. The message is a sentence without its subject, the file."""


def read(file: Path, name: str) -> Coco:
    """`name` is what messages call the file. Raises `NotCoco`, `OSError`."""
    content = _json(file)
    found = Coco()
    _add_categories(content["categories"], name, found)
    _add_images(content["images"], name, found)
    for number, entry in enumerate(content["annotations"], start=1):
        if not isinstance(entry, dict):
            found.wrong.setdefault("annotations that are not objects", []).append(f"{name}, annotation number {number}")
            continue
        where = f"{name}, annotation {entry['id'] if _key(entry.get('id')) else f'number {number}'}"
        area = entry.get("area")
        found.annotations.append(
            Annotation(
                where, _key(entry.get("image_id")), _key(entry.get("category_id")), entry.get("bbox"),
                entry.get("segmentation"), float(area) if is_number(area) else None, bool(entry.get("iscrowd")),
            )
        )  # fmt: skip
    return found


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a finite number."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= sys.float_info.max


def short(value: Any) -> str:
    """For messages."""
    return repr(value)[:60]


def _add_categories(entries: list[Any], name: str, found: Coco) -> None:
    names: dict[str, str] = {}
    for entry, key in _with_ids(entries, "categories without an id", name, found):
        given = entry.get("name") or ""
        text = (str(given).strip() if isinstance(given, (str, int, float)) else "") or f"class {key}"
        if names.setdefault(key, text) != text:
            found.problems.append(
                f"{name}: the category id {key} is used for both {names[key]!r} and {text!r}. Give each category its"
                " own id."
            )
        found.categories.append(Category(key, text, labels.number_of(key)))


def _add_images(entries: list[Any], name: str, found: Coco) -> None:
    names: dict[str, str] = {}
    for entry, key in _with_ids(entries, "images without an id", name, found):
        file_name = entry.get("file_name")
        if not isinstance(file_name, str) or not file_name.strip():
            found.wrong.setdefault("images without a file_name", []).append(f"{name}: {short(entry)}")
            continue
        if names.setdefault(key, file_name) != file_name:
            found.problems.append(
                f"{name}: the image id {key} is used for both {names[key]} and {file_name}, so its annotations are"
                " ambiguous. Give each image its own id."
            )
        found.images.append(Image(key, file_name, entry.get("width"), entry.get("height")))


def _with_ids(entries: list[Any], what: str, name: str, found: Coco) -> Iterator[tuple[dict[str, Any], str]]:
    for entry in entries:
        key = _key(entry.get("id")) if isinstance(entry, dict) else None
        if key is None:
            found.wrong.setdefault(what, []).append(f"{name}: {short(entry)}")
        else:
            yield entry, key


def _key(value: Any) -> str | None:
    """Ids are compared as text: some programs write 1 in one list and "1" or 1.0 in the other."""
    if isinstance(value, str):
        return value.strip()
    if is_number(value) and value == int(value):
        return str(int(value))
    return None


def _json(file: Path) -> dict[str, Any]:
    """An object with the three lists."""
    if (size := file.stat().st_size) > MAX_BYTES:
        raise NotCoco(f"has {size >> 20} MiB (limit: {MAX_BYTES >> 20} MiB). Split it into several files.")
    try:
        content = json_reading.parsed(text_reading.read(file))
    except ValueError as error:
        raise NotCoco(f"is not valid JSON: {error}. Export the annotations again as COCO JSON.") from None
    missing = [name for name in LISTS if not isinstance(content, dict) or not isinstance(content.get(name), list)]
    if missing:
        has = ", ".join(map(str, list(content)[:8])) if isinstance(content, dict) else type(content).__name__
        raise NotCoco(
            f"is not a COCO file: expected an object with the lists {', '.join(LISTS)}; missing: {', '.join(missing)};"
            f" found: {has or 'nothing'}."
        )
    return dict(content)
