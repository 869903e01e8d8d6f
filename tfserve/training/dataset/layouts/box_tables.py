"""Boxes from tables (also in JSON): a row for each, with an image, four sides and a class.

Sides are corners (`xmin,ymin,xmax,ymax`), corner and size (`x,y,w,h`), centre and size (`x_center,y_center,width,
height`), or one cell `[x, y, width, height]` (`bbox`). A row with an image and no sides is an image without objects.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from tfserve import written_numbers
from tfserve.training.dataset import number_text
from tfserve.training.dataset.box_files import Annotations, Marked, RawBox, Sides, size_of
from tfserve.training.dataset.layouts import class_codes, json_boxes, json_records, table_text, tables
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import NO_FOLDER, part_of, part_of_path
from tfserve.training.dataset.layouts.table_text import TableText
from tfserve.training.dataset.search import Search, same_form, words

MOST, MAX_SHARE = 0.99, 1.05
"""If these many boxes of a table have no larger side, sides are shares of the image. Programs exceed 1 by a little."""
OBJECT = "object"
"""The class of all boxes in a table without a column for it."""
WRONG_SIDES = "rows without four finite numbers for their box"

_ToSides = Callable[[float, float, float, float], Sides]

_LEFT = words("xmin x_min x0 x1 left xtl bbox_x1 bbox_xmin bbox_left bbox_x_min box_xmin")
_TOP = words("ymin y_min y0 y1 top ytl bbox_y1 bbox_ymin bbox_top bbox_y_min box_ymin")
_RIGHT = words("xmax x_max x2 x1 right xbr bbox_x2 bbox_xmax bbox_right bbox_x_max box_xmax")
_BOTTOM = words("ymax y_max y2 y1 bottom ybr bbox_y2 bbox_ymax bbox_bottom bbox_y_max box_ymax")
_X, _Y = words("x bbox_x box_x") | _LEFT, words("y bbox_y box_y") | _TOP
_CENTRE_X = words("x_center center_x xcenter x_centre centre_x cx xc")
_CENTRE_Y = words("y_center center_y ycenter y_centre centre_y cy yc")
_WIDTH = words("w width bbox_w bbox_width box_width")
_HEIGHT = words("h height bbox_h bbox_height box_height")
_BOX = words("bbox box bounding_box boundingbox bboxes")
_LABEL = tables.LABEL_HEADERS | words("name object object_name")
_IMAGE_WIDTH, _IMAGE_HEIGHT = words("image_width img_width imagewidth"), words("image_height img_height imageheight")


class _Columns(NamedTuple):
    """`sides` are the columns of the four numbers, or the one with all of them. -1 is a column that is missing."""

    file: int
    sides: tuple[int, ...]
    to_sides: _ToSides
    label: int
    size: tuple[int, int] = (-1, -1)
    split: int = -1
    has_header: bool = True
    #: of rows without a header, without empty cells at their end
    widths: range = range(0)
    #: the column of files and another, if they name different images
    other_file: tuple[str, ...] = ()


def read(search: Search, index: ImageIndex) -> Annotations | None:
    """None if no table has boxes of images of this project."""
    found = Annotations("", is_relative=False)
    paths: list[Path] = []
    marked: dict[Path, Marked] = {}
    splits: list[str] = []
    for path in tables.files(search):
        is_json = path.suffix.lower() in json_records.SUFFIXES
        text = TableText(json_boxes.rows(path)) if is_json else table_text.read(path)
        above = table_text.titles(text.rows)
        rows = text.rows[above:]
        cells = number_text.with_points(rows)
        if cells and (columns := _columns(cells, index, path)):
            paths.append(path)
            splits += [search.name(path)] if columns.split >= 0 else []
            found.remarks += text.remarks(search.name(path))
            if columns.other_file:
                found.problems.append(tables.two_files(search.name(path), columns.other_file))
            cells = number_text.with_points(rows, {*columns.sides, *columns.size})  # a class may be called 1,5
            _Table(search, path, columns, index, found, marked).add(cells, above)
        elif cells and _has_unnamed_boxes(cells, index, path):
            search.hint = f" {search.name(path)} has no header, and its columns are not those of a known form: add one."
    if not paths:
        return None
    found.layout = f"a table of boxes: {', '.join(map(search.name, paths[:5]))}"
    found.marked = [marked[file] for file in sorted(marked)]
    boxes = [box for each in found.marked for box in each.boxes]
    if codes := class_codes.names(search, {box.category for box in boxes}, paths):
        for each in found.marked:
            each.boxes = [msgspec.structs.replace(box, category=codes[box.category]) for box in each.boxes]
        boxes = [box for each in found.marked for box in each.boxes]
    found.remarks += index.remarks(", ".join(map(search.name, paths[:5])))
    source = ", ".join(splits[:5])
    found.without_part = f"not listed with a part in {source}" if splits else NO_FOLDER
    found.classes.update(dict.fromkeys(sorted({box.category for box in boxes})))
    return found


class _Table:
    """Adds the rows of one table to `marked`."""

    def __init__(
        self, search: Search, path: Path, columns: _Columns, index: ImageIndex, found: Annotations,
        marked: dict[Path, Marked],
    ) -> None:  # fmt: skip
        self._search, self._name, self._path = search, search.name(path), path
        self._columns, self._index, self._found, self._marked = columns, index, found, marked
        self._missing: set[str] = set()
        self._by_number = False
        self._boxes: list[tuple[Marked, RawBox]] = []

    def add(self, cells: Sequence[Sequence[str]], above: int) -> None:
        """`above` is the number of rows above these."""
        if self._columns.label < 0:
            self._found.remarks.append(f"{self._name} has no column of classes, so all boxes are of one: {OBJECT!r}.")
        first = 1 if self._columns.has_header else 0
        self._by_number = tables.are_numbers([_cell(row, self._columns.file) for row in cells[first:]])
        for number, row in enumerate(cells[first:], start=above + first + 1):
            if any(cell.strip() for cell in row):
                self._add_row(row, tables.place(self._search, self._path, number))
        has_shares = _are_shares([box.sides for _, box in self._boxes])
        for each, box in self._boxes:
            each.boxes.append(msgspec.structs.replace(box, has_shares=has_shares))

    def _add_row(self, row: Sequence[str], where: str) -> None:
        columns = self._columns
        name = _cell(row, columns.file)
        file = self._file_of(name)
        if file is None:
            if name not in self._missing:
                self._missing.add(name)
                self._found.missing.append(name or f"(no name) in {where}")
            return
        marked = self._marked.setdefault(file, Marked(file, size=self._size(row), part=self._part(row, file)))
        given = [_cell(row, column) for column in columns.sides]
        if not any(given):
            return
        label = same_form(_cell(row, columns.label)) if columns.label >= 0 else OBJECT
        numbers = _numbers(given)
        if numbers is None:
            self._found.add_wrong(WRONG_SIDES, f"{where}: {', '.join(given)[:60]}")
        elif not label:
            self._found.add_wrong("rows with a box and no class", where)
        else:
            self._boxes.append((marked, RawBox(label, columns.to_sides(*numbers), where)))

    def _file_of(self, name: str) -> Path | None:
        file = self._index.find(name, self._path.parent) if name else None
        return self._index.numbered(name) if file is None and self._by_number else file

    def _size(self, row: Sequence[str]) -> tuple[int, int] | None:
        width, height = (written_numbers.finite(_cell(row, column)) for column in self._columns.size)
        return size_of(width, height)

    def _part(self, row: Sequence[str], file: Path) -> str:
        """By the column, else the folder of the image or of the table, else the table's name: `train_labels.csv`."""
        stem = self._path.stem.lower().replace("-", "_").split("_")
        own = part_of(self._path.parent.name) or next((part for word in stem if (part := part_of(word))), "")
        return part_of(_cell(row, self._columns.split)) or part_of_path(self._index.relative(file)) or own


def _columns(cells: Sequence[Sequence[str]], index: ImageIndex, path: Path) -> _Columns | None:
    """None for a table of something else."""
    header = [cell.strip() for cell in cells[0]]
    file, has_header = tables.file_column(header, [list(row) for row in cells], index, path.parent)
    if file < 0:
        file, has_header = tables.number_column(header, cells, index), True
    if file < 0:
        return None
    if has_header:
        named = _named_columns(header, file)
        rows = [list(row) for row in cells]
        return named and named._replace(other_file=tables.differing_columns(header, rows, index, path.parent, file))
    return next((columns for each in _WITHOUT_HEADERS if (columns := _columns_of(each, cells, file))), None)


def _has_unnamed_boxes(cells: Sequence[Sequence[str]], index: ImageIndex, path: Path) -> bool:
    """Whether a table without a header names images next to at least four numbers."""
    header = [cell.strip() for cell in cells[0]]
    file, has_header = tables.file_column(header, [list(row) for row in cells], index, path.parent)
    return file >= 0 and not has_header and sum(written_numbers.finite(cell) is not None for cell in header) >= 4


def _named_columns(header: Sequence[str], file: int) -> _Columns | None:
    plain = [table_text.plain(name) for name in header]
    sides = _sides_columns(plain)
    if sides is None:
        return None
    used, to_sides = sides
    free = [column for column in range(len(plain)) if column not in (file, *used)]
    label = min(
        (column for column in free if plain[column] in _LABEL),
        key=lambda column: (plain[column].endswith("id"), plain[column] == "name"), default=-1,
    )  # fmt: skip
    size = _first(plain, _IMAGE_WIDTH | _WIDTH, free), _first(plain, _IMAGE_HEIGHT | _HEIGHT, free)
    return _Columns(file, used, to_sides, label, size, _first(plain, tables.SPLIT_HEADERS, free))


def _sides_columns(plain: Sequence[str]) -> tuple[tuple[int, ...], _ToSides] | None:
    """The columns of the sides by the names of all columns, and how the numbers in them become a box."""
    every = range(len(plain))
    for names, to_sides in (
        ((_LEFT, _TOP, _RIGHT, _BOTTOM), _from_corners), ((_CENTRE_X, _CENTRE_Y, _WIDTH, _HEIGHT), _from_centre),
        ((_X, _Y, _WIDTH, _HEIGHT), _as_given), ((_X, _Y, _RIGHT, _BOTTOM), _from_corners),
    ):  # fmt: skip
        columns: list[int] = []
        for each in names:
            columns.append(_first(plain, each, [column for column in every if column not in columns]))
        if min(columns) >= 0:
            return tuple(columns), to_sides
    box = _first(plain, _BOX, list(every))
    return ((box,), _as_given) if box >= 0 else None


def _columns_of(form: _Columns, cells: Sequence[Sequence[str]], file: int) -> _Columns | None:
    """The form, if most rows with a box have as many cells, four numbers and a class. Others have no box."""
    rows = [row for row in cells[: table_text.SAMPLE] if any(_cell(row, column) for column in form.sides)]
    fits = [
        _filled(row) in form.widths
        and _numbers([_cell(row, column) for column in form.sides]) is not None
        and _may_be_class(_cell(row, form.label))
        for row in rows
    ]
    return form if file == form.file and rows and sum(fits) > len(rows) / 2 else None


def _filled(row: Sequence[str]) -> int:
    """The number of cells up to the last one with something in it."""
    return max((column + 1 for column, cell in enumerate(row) if cell.strip()), default=0)


def _may_be_class(cell: str) -> bool:
    """Not if it is a fraction, such as a score."""
    return bool(cell) and (written_numbers.finite(cell) is None or cell.isdigit())


def _are_shares(boxes: Sequence[Sides]) -> bool:
    """Whether sides are shares of the image instead of pixels."""
    return bool(boxes) and sum(max(map(abs, sides)) <= MAX_SHARE for sides in boxes) >= MOST * len(boxes)


def _from_corners(left: float, top: float, right: float, bottom: float) -> Sides:
    return left, top, right - left, bottom - top


def _from_centre(x: float, y: float, width: float, height: float) -> Sides:
    return x - width / 2, y - height / 2, width, height


def _as_given(x: float, y: float, width: float, height: float) -> Sides:
    return x, y, width, height


def _first(plain: Sequence[str], names: frozenset[str], columns: Sequence[int]) -> int:
    return next((column for column in columns if plain[column] in names), -1)


def _cell(row: Sequence[str], column: int) -> str:
    return row[column].strip() if 0 <= column < len(row) else ""


def _numbers(given: Sequence[str]) -> Sides | None:
    """Four finite numbers, from as many cells or from one such as `[1, 2, 3, 4]`."""
    texts = re.split(r"[\s,;]+", given[0].strip("[](){} ")) if len(given) == 1 else given
    numbers = [number for text in texts if (number := written_numbers.finite(text)) is not None]
    if len(numbers) != 4 or len(texts) != 4:
        return None
    return numbers[0], numbers[1], numbers[2], numbers[3]


_WITHOUT_HEADERS = (
    _Columns(0, (1, 2, 3, 4), _from_corners, 5, has_header=False, widths=range(6, 7)),
    _Columns(1, (3, 4, 7, 8), _from_corners, 2, split=0, has_header=False, widths=range(9, 12)),
    _Columns(5, (1, 2, 3, 4), _as_given, 0, size=(6, 7), has_header=False, widths=range(6, 9, 2)),
)
"""Tables without a header: RetinaNet (image, left, top, right, bottom, class), Google AutoML (set, image, class, and
two or four corners clockwise), makesense.ai (class, x, y, width, height, image, and the image's width and height)."""
