"""A table of files and labels (CSV, JSON, tabs, semicolons or blanks; with or without a header), as people write it."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path

from tfserve.training.dataset import image_reading, text_reading
from tfserve.training.dataset.labels import INFO_FILE
from tfserve.training.dataset.layouts import json_records
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import part_of
from tfserve.training.dataset.search import Search, words

SUFFIXES = (".csv", ".tsv", ".txt")
MAX_BYTES = 64 * 1024 * 1024
MAX_TABLES = 50
MAX_NUMBERS = 20
"""More different numbers, in a column that is not called a label, are measurements."""
SAMPLE = 200
"""Rows by which the columns are recognised."""

FILE_HEADERS = words(
    "file filename filenames file_name fname image images image_name imagename image_file image_path imagepath img"
    " img_name img_path img_file path paths filepath file_path filepaths image_id imageid id name picture photo url"
    " relative_path"
)
LABEL_HEADERS = words(
    "label labels class classes class_name classname class_label category categories category_name target targets"
    " tag annotation species breed type y label_name labelname truth ground_truth diagnosis dx disease genus"
    " class_id classid label_id category_id klasse bezeichnung choice choices display_name displayname"
)
SPLIT_HEADERS = words("split set subset partition part fold data_set dataset usage phase")
GROUP_HEADERS = words(
    "group groups group_id scene scene_id patient patient_id subject subject_id series series_id video video_id"
    " location sequence session site"
)
NO_LABELS = frozenset({"NaN", "#N/A"})
"""What programs write into empty cells. Classes have other names."""
PERHAPS_NO_LABELS = frozenset({"nan", "null", "n/a", "#n/a"})
"""In lower case: what programs write into empty cells if few rows have it, else the name of a class."""
MAX_EMPTY = 0.05
"""From this share of the rows on, such a word is a class. A single row is never one."""
SUBMISSION = "submission"
"""In the names of Kaggle's tables with images of the test set and placeholders for their labels."""


@dataclass
class LabelTable:
    """`header` is empty when the file has none. Columns are numbers; -1 is a column that is missing."""

    path: Path
    header: list[str]
    rows: list[list[str]]
    file: int
    label: int = -1
    split: int = -1
    group: int = -1
    #: the columns of a table with a 1 in the column of each image's class
    one_hot: tuple[int, ...] = ()
    #: whether files may be named by their numbers
    by_number: bool = False
    #: words, in lower case, that mean an empty cell in the column of labels
    empty: frozenset[str] = frozenset()
    #: rows above the header
    above: int = 0

    @property
    def has_labels(self) -> bool:
        return self.label >= 0 or bool(self.one_hot)

    def cell(self, row: Sequence[str], column: int) -> str:
        return row[column].strip() if 0 <= column < len(row) else ""

    def file_of(self, row: Sequence[str], index: ImageIndex) -> Path | None:
        """The image that the row names, if it is there."""
        name = self.cell(row, self.file)
        found = index.find(name, self.path.parent) if name else None
        return index.numbered(name) if found is None and self.by_number else found

    def labels_of(self, row: Sequence[str]) -> list[str]:
        """The labels that the row gives: one, unless it is wrong."""
        if self.one_hot:
            return [self.header[column] for column in self.one_hot if _is_one(self.cell(row, column))]
        name = self.cell(row, self.label)
        return [name] if name and name not in NO_LABELS and name.lower() not in self.empty else []


def read_all(search: Search, index: ImageIndex, groups: str = "auto") -> list[LabelTable]:
    """The tables in the root and in the folders two levels below that name at least one of its images."""
    texts = [path for path in search.below(search.root, SUFFIXES, depth=2) if path.name.lower() != INFO_FILE]
    lists = search.below(search.root, json_records.SUFFIXES, depth=2)
    files = texts[:MAX_TABLES] + lists[:MAX_TABLES]  # there may be a JSON file for each image
    found = [table for path in files if (table := _table(path, index, groups))]
    _drop_guessed_labels(found)
    submissions = [table for table in found if table.has_labels and SUBMISSION in table.path.stem.lower()]
    if any(table.has_labels and table not in submissions for table in found):
        for table in submissions:
            table.label, table.one_hot = -1, ()
            search.remarks.append(f"The labels in {search.name(table.path)} are placeholders and were not used.")
    return found


def _drop_guessed_labels(tables: Sequence[LabelTable]) -> None:
    """Only columns that are called so have labels, if a table has one: those of others may be anything."""
    labelled = [table for table in tables if table.header and table.label >= 0]
    names = {plain(table.header[table.label]) for table in labelled}
    for table in labelled:
        if names & LABEL_HEADERS and plain(table.header[table.label]) not in LABEL_HEADERS:
            table.label = -1


def place(search: Search, path: Path, number: int) -> str:
    """Where the row with this number is, for messages. A record of JSON has no line."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return f"{search.name(path)}, entry {number - 1}"
    return f"{search.name(path)}, line {number}"


# --- one file


def _table(path: Path, index: ImageIndex, groups: str) -> LabelTable | None:
    """None for a file that does not name images of this project."""
    cells = rows(path)
    above = titles(cells)
    cells = cells[above:]
    if len(cells) < 2 or len(cells[0]) < 2:
        return None
    header = [cell.strip() for cell in cells[0]]
    file, has_header = file_column(header, cells, index, path.parent)
    only_numbers = file < 0
    if only_numbers:
        file, has_header = _number_column(header, cells, index), True
    if file < 0:
        return None
    table = LabelTable(path, header if has_header else [], cells[1:] if has_header else cells, file, above=above)
    table.by_number = _has_numbers(table)
    width = max(map(len, table.rows[:SAMPLE]), default=0)
    if has_header:
        table.header += [""] * (width - len(table.header))
    others = [column for column in range(width) if column != file and not _is_row_number(table.header, column)]
    table.split = _column(table, others, SPLIT_HEADERS, all_parts=True)
    table.group = _column(table, others, frozenset({groups.lower()}), exact=True)
    if table.group < 0 and groups == "auto":
        table.group = _column(table, others, GROUP_HEADERS)
    table.one_hot = _one_hot(table, [each for each in others if each not in (table.split, table.group)])
    if not table.one_hot:
        table.label = _label_column(table, others)
        table.empty = _empty_words(table)
    # A different label for each number is more likely a list of classes.
    return None if only_numbers and table.label >= 0 and not _repeats(table) else table


def rows(path: Path) -> list[list[str]]:
    """The cells of a table; empty for other files."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return json_records.table(path, json_records.read(path))
    text = text_of(path)
    lines = text.splitlines()[:SAMPLE]
    delimiter = delimiter_of(lines) or " "  # names may have blanks, so this comes last
    if _width(lines, delimiter) < 2:
        return []
    try:
        quote = "'" if lines[0].strip().startswith("'") else '"'
        read = csv.reader(
            io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, quotechar=quote
        )  # fmt: skip
        return [row for row in read if row and not row[0].startswith("#")]
    except csv.Error:
        return []


def delimiter_of(lines: Sequence[str]) -> str:
    """The one that makes the most columns of the lines; "" if they have none but blanks."""
    widths = {each: _width(lines, each) for each in ",;\t|"}
    best = max(widths, key=lambda each: widths[each])
    return best if widths[best] >= 2 else ""


def titles(cells: Sequence[Sequence[str]]) -> int:
    """The number of rows before the header: titles, and `sep=;`, which Excel understands."""
    return sum(1 for _ in takewhile(_is_title, cells))


def _is_title(row: Sequence[str]) -> bool:
    filled = [cell.strip().lower() for cell in row if cell.strip()]
    return len(filled) < 2 and not any(cell.endswith(image_reading.SUFFIXES) for cell in filled)


def _width(lines: Sequence[str], delimiter: str) -> int:
    """The number of columns that nearly all lines have with this delimiter, 0 if they differ."""
    try:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row]
    except csv.Error:
        return 0
    if not widths:
        return 0
    usual = max(set(widths), key=widths.count)
    return usual if widths.count(usual) >= 0.8 * len(widths) else 0


def text_of(path: Path) -> str:
    """The text of a file; "" if it has none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        return text_reading.read(path)
    except (OSError, UnicodeDecodeError):
        return ""


def file_column(header: list[str], rows: list[list[str]], index: ImageIndex, near: Path) -> tuple[int, bool]:
    """The column with names of image files, and whether the first row is a header; -1 if there is no such column."""

    def names_file(row: Sequence[str], column: int) -> bool:
        return column < len(row) and bool(row[column].strip()) and index.find(row[column], near) is not None

    named = [column for column, name in enumerate(header) if plain(name) in FILE_HEADERS]
    shares = {column: sum(names_file(row, column) for row in rows[1 : SAMPLE + 1]) for column in range(len(header))}
    best = max(shares, key=lambda column: (shares[column], column in named))
    if shares[best]:
        return best, not names_file(rows[0], best)
    is_table = named and any(plain(name) in LABEL_HEADERS for name in header)
    return (named[0], True) if is_table and _names_images(rows, named[0]) else (-1, False)


def _number_column(header: Sequence[str], rows: Sequence[Sequence[str]], index: ImageIndex) -> int:
    """The column of a usual name for files whose numbers are names of images but for zeros before them; -1 without."""
    for column, name in enumerate(header):
        cells = (
            [row[column] for row in rows[1 : SAMPLE + 1] if column < len(row)] if plain(name) in FILE_HEADERS else []
        )
        if sum(index.numbered(cell) is not None for cell in cells) > len(cells) / 2:
            return column
    return -1


def _has_numbers(table: LabelTable) -> bool:
    """Whether most files are named by numbers, which may have lost the zeros before them."""
    cells = [cell for row in table.rows if (cell := table.cell(row, table.file))]
    return sum(cell.isdigit() for cell in cells) > len(cells) / 2


def _empty_words(table: LabelTable) -> frozenset[str]:
    """Words in the column of labels that are too rare for a class, so that they mean an empty cell."""
    counts = Counter(table.cell(row, table.label).lower() for row in table.rows)
    most = max(1, MAX_EMPTY * len(table.rows))
    return frozenset(word for word in PERHAPS_NO_LABELS if counts[word] == 1 or counts[word] < most)


def _names_images(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has names of images, even if none of them is there."""
    cells = [row[column].strip().lower() for row in rows[1 : SAMPLE + 1] if column < len(row)]
    return any(cell.endswith(image_reading.SUFFIXES) for cell in cells)


def _column(
    table: LabelTable, columns: Sequence[int], names: frozenset[str], *, all_parts: bool = False, exact: bool = False
) -> int:
    def fits(column: int) -> bool:
        cells = {table.cell(row, column) for row in table.rows[:SAMPLE]} - {""}
        return not all_parts or (bool(cells) and all(map(part_of, cells)))

    for column in columns:
        name = table.header[column] if column < len(table.header) else ""
        known = name.lower() if exact else plain(name)
        if known and known in names and fits(column):
            return column
    if all_parts and not table.header:
        return next((column for column in columns if fits(column)), -1)
    return -1


def _label_column(table: LabelTable, others: Sequence[int]) -> int:
    """By its header, else the only one that is left; a problem where several could be meant."""
    free = [column for column in others if column not in (table.split, table.group)]
    if not table.header:
        return free[0] if free else -1
    named = [column for column in free if column < len(table.header) and plain(table.header[column]) in LABEL_HEADERS]
    if named:
        return min(named, key=lambda each: (not _varies(table, each), plain(table.header[each]).endswith("id")))
    return free[0] if len(free) == 1 and _may_be_labels(table, free[0]) else -1


def _varies(table: LabelTable, column: int) -> bool:
    return len({table.cell(row, column) for row in table.rows}) > 1


def _repeats(table: LabelTable) -> bool:
    return len({table.cell(row, table.label) for row in table.rows}) < len(table.rows)


def _may_be_labels(table: LabelTable, column: int) -> bool:
    """Whether some values of a column occur more than once, and they are not measurements such as ages."""
    cells = [table.cell(row, column) for row in table.rows]
    values = set(cells)
    is_measured = len(values) > MAX_NUMBERS and all(_number(value) is not None for value in values if value)
    return len(values) < len(cells) and not is_measured


def _one_hot(table: LabelTable, columns: Sequence[int]) -> tuple[int, ...]:
    """The columns of 0 and 1 of a table that has nothing else, two at least."""
    if any(plain(name) in LABEL_HEADERS for name in table.header):
        return ()
    of_numbers = [
        column
        for column in columns
        if column < len(table.header) and {_number(table.cell(row, column)) for row in table.rows} <= {0.0, 1.0}
    ]
    return tuple(of_numbers) if len(of_numbers) > 1 and len(of_numbers) == len(columns) and table.rows else ()


def _is_one(cell: str) -> bool:
    return _number(cell) == 1.0


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return {"true": 1.0, "false": 0.0}.get(cell.lower())


def _is_row_number(header: Sequence[str], column: int) -> bool:
    """Whether it is the column without a name that pandas writes first."""
    return column < len(header) and header[column].lower() in ("", "unnamed: 0", "index")


def plain(header: str) -> str:
    """The name of a column as it is compared: `Image Name` → `image_name`."""
    return "_".join(header.strip().strip('"').lower().replace("-", " ").replace("_", " ").split())
