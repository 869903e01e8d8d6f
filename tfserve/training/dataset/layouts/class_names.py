"""What the values or colours in masks are called: `labels_info.txt`, or the files that other programs write."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tfserve.training.dataset import labels, text_reading
from tfserve.training.dataset.labels import LabelsInfo
from tfserve.training.dataset.search import Search, same_form

MAX_BYTES = 1024 * 1024

_COLOURS = re.compile(r"(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\S.*)")
"""CamVid's label_colors.txt: `64 128 64 Animal`."""
_LABELMAP = re.compile(r"([^:]+):(\d{1,3}),(\d{1,3}),(\d{1,3})(:.*)?")
"""CVAT's labelmap.txt: `cat:64,0,0::`."""


@dataclass
class ClassNames:
    """Numbers and colours (`#rrggbb`) by label, and the names as the user writes them."""

    path: Path
    numbers: dict[str, int] = field(default_factory=dict)
    colours: dict[str, str] = field(default_factory=dict)
    display: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    #: whether the file was written for this project, so that what it names must be there
    is_ours: bool = False


def find(search: Search) -> ClassNames | None:
    """`labels_info.txt` in the project or in the data set, else the first known file of another program."""
    info = LabelsInfo.find(search.project) or LabelsInfo.find(search.root)
    if info is not None:
        return ClassNames(info.path, info.numbers, info.colours, info.names, info.problems, is_ours=True)
    for name, read in _FILES.items():
        for path in sorted(each for each in search.below(search.root, (Path(name).suffix,)) if each.name == name):
            if names := _read(path, read):
                search.remarks.append(f"Class names come from {search.name(path)}.")
                return names
    return None


def _read(path: Path, read: Callable[[Sequence[str]], dict[str, int | str]]) -> ClassNames | None:
    try:
        if path.stat().st_size > MAX_BYTES:
            return None
        lines = text_reading.read(path).splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    given = read([line.strip() for line in lines if line.strip() and not line.startswith("#")])
    label_of, _ = labels.distinct([same_form(name) for name in given])
    names = ClassNames(path, display={label: name for name, label in label_of.items()})
    for name, value in given.items():
        label = label_of[same_form(name)]
        if isinstance(value, int):
            names.numbers[label] = value
        else:
            names.colours[label] = value
    return names if given else None


def _labelmap(lines: Sequence[str]) -> dict[str, int | str]:
    found = [match for line in lines if (match := _LABELMAP.fullmatch(line))]
    return {match[1].strip(): _hex(match[2], match[3], match[4]) for match in found}


def _label_colours(lines: Sequence[str]) -> dict[str, int | str]:
    found = [match for line in lines if (match := _COLOURS.fullmatch(line))]
    return {match[4].strip(): _hex(match[1], match[2], match[3]) for match in found}


def _class_dict(lines: Sequence[str]) -> dict[str, int | str]:
    rows = [
        row for row in _rows(lines) if len(row) >= 4 and all(labels.number_of(cell) is not None for cell in row[1:4])
    ]
    return {row[0]: _hex(*row[1:4]) for row in rows}


def _pixel_values(lines: Sequence[str]) -> dict[str, int | str]:
    """Roboflow's `_classes.csv`: `Pixel Value, Class`."""
    rows = [row for row in _rows(lines) if len(row) == 2 and row[1]]
    return {name: number for cell, name in rows if (number := labels.number_of(cell)) is not None}


def _rows(lines: Sequence[str]) -> list[list[str]]:
    """Empty if it is not a table."""
    try:
        return [[cell.strip() for cell in row] for row in csv.reader(lines)]
    except csv.Error:
        return []


def _in_order(lines: Sequence[str]) -> dict[str, int | str]:
    """A name on each line, counted from 0, or from -1 where labelme's `__ignore__` comes first."""
    if any("," in line for line in lines):
        return {}
    start = -1 if lines and lines[0] == "__ignore__" else 0
    return {line: 255 if number < 0 else number for number, line in enumerate(lines, start=start)}


def _hex(red: str, green: str, blue: str) -> str:
    return f"#{min(int(red), 255):02x}{min(int(green), 255):02x}{min(int(blue), 255):02x}"


_FILES: dict[str, Callable[[Sequence[str]], dict[str, int | str]]] = {
    "labelmap.txt": _labelmap,
    "label_colors.txt": _label_colours,
    "class_dict.csv": _class_dict,
    "_classes.csv": _pixel_values,
    "class_names.txt": _in_order,
    "label_names.txt": _in_order,
    "classes.txt": _in_order,
    "codes.txt": _in_order,
}
