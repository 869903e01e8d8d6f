"""Lists of images in JSON and JSON lines, in the forms that programs write: a record for each image.

[{"file": "a.jpg", "label": "cat"}, …]     also inside of an object, and one record per line (.jsonl)
{"a.jpg": "cat", …}                        a file and its label
{"a.jpg": {"label": "cat"}, …}             a file and its fields
{"cat": ["a.jpg", …], …}                   a class and its files
[["a.jpg", "cat"], …]                      pairs
{"a.jpg": [{…}, {…}], …}                   a file and the objects in it
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tfserve.training.dataset import coco, image_reading, json_reading, text_reading
from tfserve.training.dataset.layouts import cloud_records, numbered_json

SUFFIXES = (".json", ".jsonl", ".ndjson", ".manifest", ".labels")
MAX_BYTES = 64 * 2**20
FILE, LABEL, OBJECTS = "file", "label", "objects"
"""The fields of records whose form has no names for them."""
LABELME = "shapes"
VIA = "_via_img_metadata"
"""The images in a project of the VGG Image Annotator."""
MAX_DEPTH = 8
"""Objects in objects beyond this are ignored."""
MAX_ROWS = 100
"""Rows of one record: lists that would make more of them count with their first value only."""
MAX_COLUMNS, MAX_CELLS = 1000, 20_000_000
"""Of a table. JSON with more is something else, and would take much memory as a table."""
LINES = (".jsonl", ".ndjson", ".manifest")
"""Suffixes of files with a record on each line, be it only one."""

Record = dict[str, Any]


def read(path: Path) -> list[Record]:
    """Empty for JSON of something else."""
    content = _content(path)
    if isinstance(content, dict):
        return _of_object(content)
    return _of_list(content) if isinstance(content, list) else []


def table(path: Path, records: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The cells of a file's records with a header in the first row. A list of several values becomes a row for each.

    Empty for a single record, unless it is on a line of its own, and for what is too large for a table.
    """
    rows: list[dict[str, str]] = []
    header: dict[str, None] = {}
    count = cells = 0
    for record in records:
        count += 1
        new = _flat(cloud_records.with_labels(record))
        rows += new
        header |= dict.fromkeys(name for row in new for name in row)
        cells += sum(len(row) + 1 for row in new)
        if len(header) > MAX_COLUMNS or max(cells, len(rows) * len(header)) > MAX_CELLS:
            return []
    if not header or (count == 1 and path.suffix.lower() not in LINES):
        return []
    return [[*header], *([row.get(name, "") for name in header] for row in rows)]


def _content(path: Path) -> Any:
    """None if it is not JSON."""
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        text = text_reading.read(path)
    except (OSError, UnicodeDecodeError):
        return None
    both = (_lines, json_reading.parsed) if path.suffix.lower() in LINES else (json_reading.parsed, _lines)
    for read_text in both:
        with contextlib.suppress(ValueError):
            return read_text(text)
    return None


def _lines(text: str) -> list[Any]:
    return [json_reading.parsed(line) for line in text.splitlines() if line.strip()]


def _of_list(content: Sequence[Any]) -> list[Record]:
    if content and all(isinstance(each, dict) for each in content):
        return list(content)
    if content and all(_is_pair(each) for each in content):
        return [{FILE: each[0], LABEL: each[1]} for each in content]
    return []


def _of_object(content: Record, depth: int = MAX_DEPTH) -> list[Record]:
    if LABELME in content or depth <= 0:
        return []
    if all(isinstance(content.get(name), list) for name in coco.LISTS):
        return _of_coco(content)
    if (numbered := numbered_json.records(content)) is not None:
        return numbered
    if isinstance(images := content.get(VIA), dict):
        content = images
    values = list(content.values())
    if all(_is_scalar(value) for value in values):
        return [{FILE: name, LABEL: value} for name, value in content.items()] if _is_by_file(content) else []
    if values and all(isinstance(value, dict) for value in values):
        return [{FILE: name} | value for name, value in content.items()]
    if values and all(isinstance(value, str) or _is_list_of_text(value) for value in values):
        return list(_of_lists({name: [value] if isinstance(value, str) else value for name, value in content.items()}))
    if values and all(map(_is_list_of_objects, values)) and all(map(_is_image, content)):
        return [{FILE: name, OBJECTS: value} for name, value in content.items()]
    lists = [_of_list(value) if isinstance(value, list) else [] for value in values]
    inner = [_of_object(value, depth - 1) for value in values if isinstance(value, dict) and value]
    return max([*lists, *inner], key=len, default=[])


def _is_by_file(content: Mapping[str, Any]) -> bool:
    """Whether these are files with their labels: the names are those of images, or values of one kind recur often."""
    if 2 * sum(map(_is_image, content)) > len(content):
        return True
    values = list(content.values())
    is_one_kind = {type(value) for value in values} in ({str}, {int})
    return is_one_kind and 2 * len(set(values)) <= len(values) and not any(map(_is_image, values))


def _is_image(name: object) -> bool:
    return isinstance(name, str) and name.lower().endswith(image_reading.SUFFIXES)


def _of_lists(content: Mapping[str, Sequence[str]]) -> Iterator[Record]:
    """Files with their labels if the names are those of images, otherwise classes with their files."""
    is_by_file = all(map(_is_image, content))
    for name, values in content.items():
        for value in values:
            yield {FILE: name, LABEL: value} if is_by_file else {FILE: value, LABEL: name}


def _of_coco(content: Record) -> list[Record]:
    """The classes of the objects in each image."""
    names, files = _texts_by_id(content["categories"], "name"), _texts_by_id(content["images"], "file_name")
    pairs = {
        (files.get(str(each.get("image_id")), ""), names.get(str(each.get("category_id")), ""))
        for each in content["annotations"] if isinstance(each, dict)
    }  # fmt: skip
    return [{"file_name": file, "category": name} for file, name in sorted(pairs) if file and name]


def _texts_by_id(entries: Sequence[Any], field: str) -> dict[str, str]:
    """Of the entries that have a text in a field."""
    return {
        str(each.get("id")): each[field]
        for each in entries if isinstance(each, dict) and isinstance(each.get(field), str)
    }  # fmt: skip


def _flat(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """The values of a record and of the objects in it, by their own names; the first of two with one name counts."""
    rows: list[dict[str, str]] = [{}]
    for name, value in _values(record):
        if name in rows[0]:
            continue
        first, *others = value if isinstance(value, list) else [value]
        more = others if len(rows) * (1 + len(others)) <= MAX_ROWS else []
        copies = [[row, *(row | {name: _text(each)} for each in more)] for row in rows]
        for row in rows:
            row[name] = _text(first)
        rows = [row for same in copies for row in same]
        if len(rows[0]) > MAX_COLUMNS:
            break
    return rows


def _values(record: Mapping[str, Any], depth: int = MAX_DEPTH) -> Iterator[tuple[str, Any]]:
    """Names and values; a list is one of text. Objects in lists count if they are alone there."""
    for name, given in record.items():
        value = given[0] if isinstance(given, list) and len(given) == 1 else given
        if isinstance(value, dict):
            yield from _values(value, depth - 1) if depth > 1 else ()
        elif _is_scalar(value) or _is_list_of_text(value):
            yield str(name), value
        elif isinstance(value, list) and all(coco.is_number(each) for each in value):
            yield str(name), json.dumps(value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str) and _is_scalar(value[1])


def _is_list_of_text(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, str) for each in value)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))


def _text(value: Any) -> str:
    """As a cell of a table: 3.0 is 3."""
    if value is None:
        return ""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
