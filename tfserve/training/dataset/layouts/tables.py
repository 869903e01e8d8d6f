"""A table of files and labels (CSV, JSON, tabs, semicolons or blanks; with or without a header), as people write it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tfserve.training.dataset import image_reading
from tfserve.training.dataset.labels import INFO_FILE
from tfserve.training.dataset.layouts import json_records, table_text
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import is_no_part, part_of
from tfserve.training.dataset.layouts.table_text import SAMPLE, plain, titles
from tfserve.training.dataset.search import Search, sentence, words

SUFFIXES = (".csv", ".tsv")
TEXT_SUFFIXES = (".txt",)
MAX_TABLES = 50
MAX_NUMBERS = 20
"""More different numbers, in a column that is not called a label, are measurements."""
FILE_HEADERS = words(
    "file filename filenames file_name fname image images image_name imagename image_file image_path imagepath img"
    " img_name img_path img_file path paths filepath file_path filepaths image_id imageid id name picture photo url"
    " relative_path"
)
LABEL_HEADERS = words(
    "label labels class classes class_name classname class_label category categories category_name target targets"
    " tag annotation species breed type y label_name labelname truth ground_truth diagnosis dx disease genus"
    " class_id classid label_id category_id klasse bezeichnung choice choices display_name displayname tag_name tagname"
)
SPLIT_HEADERS = words(
    "split set subset partition part fold data_set dataset usage phase ml_use aiplatform.googleapis.com/ml_use"
)
UNCERTAIN_SPLIT_HEADERS = words("category type")
"""Columns of labels, or, with nothing but parts of a split, those of Edge Impulse."""

GROUP_HEADERS = words(
    "group groups group_id scene scene_id patient patient_id subject subject_id series series_id video video_id"
    " location sequence session site"
)
GOOGLE = ("", "unassigned")
"""Words for no part, in lower case, in Google's tables, which have no header. Others may be classes."""
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
    #: the lines whose quotes do not match
    open_quotes: tuple[int, ...] = ()
    #: the column of files and another, as messages call them, if they name different images
    other_file: tuple[str, ...] = ()

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
    found = [table for path in files(search, TEXT_SUFFIXES) if (table := _table(path, index, groups))]
    _drop_guessed_labels(found)
    for table in found:
        search.remarks += _about_split(search, table)
    submissions = [table for table in found if table.has_labels and SUBMISSION in table.path.stem.lower()]
    if any(table.has_labels and table not in submissions for table in found):
        for table in submissions:
            table.label, table.one_hot = -1, ()
            search.remarks.append(f"The labels in {search.name(table.path)} are placeholders and were not used.")
    return found


def files(search: Search, others: tuple[str, ...] = ()) -> list[Path]:
    """What may be tables: those called so first, as there may be a text or a JSON file for each image."""
    found: list[Path] = []
    for suffixes in (SUFFIXES, others, json_records.SUFFIXES):
        paths = search.below(search.root, suffixes, depth=2) if suffixes else []
        found += [path for path in paths if path.name.lower() != INFO_FILE][:MAX_TABLES]
    return found


def _drop_guessed_labels(tables: Sequence[LabelTable]) -> None:
    """Only columns that are called so have labels, if a table has one: those of others may be anything."""
    labelled = [table for table in tables if table.header and table.label >= 0]
    names = {plain(table.header[table.label]) for table in labelled}
    for table in labelled:
        if names & LABEL_HEADERS and plain(table.header[table.label]) not in LABEL_HEADERS:
            table.label = -1


def _about_split(search: Search, table: LabelTable) -> list[str]:
    """Remarks about a column that was taken as the split, if it need not be one, or has other words."""
    if table.split < 0 or not table.header:
        return []
    name, found = f"{search.name(table.path)}, column {table.header[table.split]!r}", []
    if plain(table.header[table.split]) in UNCERTAIN_SPLIT_HEADERS:
        found.append(f"{name}, was used as the split. Its name is also usual for labels: rename it if it has them.")
    unknown = sorted({cell for row in table.rows if not _is_split(cell := table.cell(row, table.split))})
    return found + sentence(f"{name}, has words other than train, validation and test", unknown)


def two_files(table: str, columns: Sequence[str]) -> str:
    """A problem with a table in which two columns may have the names of the files."""
    return (
        f"{table} names different images in the columns {columns[0]} and {columns[1]}. Keep the names of the files in"
        " one column, called 'file'."
    )


def place(search: Search, path: Path, number: int) -> str:
    """Where the row with this number is, for messages. A record of JSON has no line."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return f"{search.name(path)}, entry {number - 1}"
    return f"{search.name(path)}, line {number}"


# --- one file


def _table(path: Path, index: ImageIndex, groups: str) -> LabelTable | None:
    """None for a file that does not name images of this project."""
    text = table_text.read(path)
    above = titles(text.rows)
    cells = text.rows[above:]
    if len(cells) < 2 or len(cells[0]) < 2:
        return None
    header = [cell.strip() for cell in cells[0]]
    file, has_header = file_column(header, cells, index, path.parent)
    only_numbers = file < 0
    if only_numbers:
        file, has_header = number_column(header, cells, index), True
    if file < 0:
        return None
    table = LabelTable(path, header if has_header else [], cells[1:] if has_header else cells, file, above=above)
    table.open_quotes = text.open_quotes
    table.by_number = are_numbers([table.cell(row, file) for row in table.rows])
    width = max(map(len, table.rows[:SAMPLE]), default=0)
    if has_header:
        table.header += [""] * (width - len(table.header))
    others = [column for column in range(width) if column != file and not _is_row_number(table.header, column)]
    table.other_file = differing_columns(header, cells, index, path.parent, file) if has_header else ()
    table.split = _split_column(table, others)
    table.group = _column(table, others, frozenset({groups.lower()}), exact=True)
    if table.group < 0 and groups == "auto":
        table.group = _column(table, others, GROUP_HEADERS)
    table.one_hot = _one_hot(table, [each for each in others if each not in (table.split, table.group)])
    if not table.one_hot:
        table.label = _label_column(table, others)
        table.empty = _empty_words(table)
    # A different label for each number is more likely a list of classes.
    return None if only_numbers and table.label >= 0 and not _repeats(table) else table


def file_column(header: list[str], rows: list[list[str]], index: ImageIndex, near: Path) -> tuple[int, bool]:
    """The column with names of image files, -1 if none has them, and whether the first row is a header."""
    best = fitting_columns(header, rows, index, near)
    if best:
        return best[0], not _names_file(rows[0], best[0], index, near)
    named = [column for column, name in enumerate(header) if plain(name) in FILE_HEADERS]
    is_table = named and any(plain(name) in LABEL_HEADERS for name in header)
    return (named[0], True) if is_table and _names_images(rows, named[0]) else (-1, False)


def differing_columns(
    header: list[str], rows: list[list[str]], index: ImageIndex, near: Path, file: int
) -> tuple[str, ...]:
    """The headers of the column of files and of another that fits as well, and names other images; else empty."""
    fitting = fitting_columns(header, rows, index, near)
    rank = _rank(header, rows, file)
    for column in fitting:
        if column != file and fitting[0] == file and _rank(header, rows, column) == rank:
            pairs = [(row[file], row[column]) for row in rows[1:] if len(row) > max(file, column)]
            if any(len({found for name in pair if (found := index.find(name, near))}) > 1 for pair in pairs):
                return repr(header[file]), repr(header[column])
    return ()


def fitting_columns(
    header: Sequence[str], rows: Sequence[Sequence[str]], index: ImageIndex, near: Path, *, least: float = 0.5
) -> list[int]:
    """The columns that name images, in at least this share of the rows in which any other does, the best one first."""
    sample = rows[1 : SAMPLE + 1]
    counts = {at: sum(_names_file(row, at, index, near) for row in sample) for at in range(len(header))}
    most = max(counts.values(), default=0)
    fitting = [column for column, count in counts.items() if count and count >= least * most]
    return sorted(fitting, key=lambda column: (_rank(header, rows, column), counts[column]), reverse=True)


def _rank(header: Sequence[str], rows: Sequence[Sequence[str]], column: int) -> tuple[bool, int]:
    """How likely a column has names of files, by its cells and its header: those called `id` often number the rows."""
    return _has_suffix(rows, column), rank_of_header(plain(header[column]))


def rank_of_header(name: str) -> int:
    if name not in FILE_HEADERS:
        return 0
    return 1 if name in ("id", "name") else 2


def _names_file(row: Sequence[str], column: int, index: ImageIndex, near: Path) -> bool:
    return column < len(row) and bool(row[column].strip()) and index.find(row[column], near) is not None


def _has_suffix(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has names of images with their suffix: numbers of rows may look like names without one."""
    return _names_images(rows, column)


def number_column(header: Sequence[str], rows: Sequence[Sequence[str]], index: ImageIndex) -> int:
    """The column of a usual name for files whose numbers are names of images but for zeros before them; -1 without."""
    usual = [column for column, name in enumerate(header) if plain(name) in FILE_HEADERS]
    for column in sorted(usual, key=lambda each: -rank_of_header(plain(header[each]))):
        cells = [row[column] for row in rows[1 : SAMPLE + 1] if column < len(row)]
        if sum(index.numbered(cell) is not None for cell in cells) > len(cells) / 2:
            return column
    return -1


def are_numbers(names: Sequence[str]) -> bool:
    """Whether most files are named by numbers, which may have lost the zeros before them."""
    given = [name for name in names if name.strip()]
    return sum(name.strip().isdigit() for name in given) > len(given) / 2


def _empty_words(table: LabelTable) -> frozenset[str]:
    """Words in the column of labels that are too rare for a class, so that they mean an empty cell."""
    counts = Counter(table.cell(row, table.label).lower() for row in table.rows)
    most = max(1, MAX_EMPTY * len(table.rows))
    return frozenset(word for word in PERHAPS_NO_LABELS if counts[word] == 1 or counts[word] < most)


def _names_images(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has names of images, even if none of them is there."""
    cells = [row[column].strip().lower() for row in rows[1 : SAMPLE + 1] if column < len(row)]
    return any(cell.endswith(image_reading.SUFFIXES) for cell in cells)


def _column(table: LabelTable, columns: Sequence[int], names: frozenset[str], *, exact: bool = False) -> int:
    for column in columns:
        name = table.header[column] if column < len(table.header) else ""
        known = name.lower() if exact else plain(name)
        if known and known in names:
            return column
    return -1


def _split_column(table: LabelTable, others: Sequence[int]) -> int:
    """By its header if most rows have a part; without a header, or with one of labels, only if all rows do."""
    cells = {column: [table.cell(row, column) for row in table.rows] for column in others}
    if not table.header:
        known = [column for column in others if all(part_of(cell) or cell.lower() in GOOGLE for cell in cells[column])]
        return next((column for column in known if any(map(part_of, cells[column]))), -1)
    names = {column: plain(table.header[column]) for column in others if column < len(table.header)}
    for column in (column for column in names if names[column] in SPLIT_HEADERS):
        given = [cell for cell in cells[column] if not is_no_part(cell)]
        if given and 2 * sum(bool(part_of(cell)) for cell in given) > len(given):
            return column
    with_labels = {column for column in names if names[column] in LABEL_HEADERS - UNCERTAIN_SPLIT_HEADERS}
    for column in (column for column in names if names[column] in UNCERTAIN_SPLIT_HEADERS):
        is_split = _are_parts(cells[column]) and len({part_of(cell) for cell in cells[column]} - {""}) > 1
        if is_split and (with_labels or _label_column(table, [each for each in others if each != column]) >= 0):
            return column
    return -1


def _are_parts(cells: Sequence[str]) -> bool:
    return all(map(_is_split, cells)) and any(map(part_of, cells))


def _is_split(cell: str) -> bool:
    return bool(part_of(cell)) or is_no_part(cell)


def _label_column(table: LabelTable, others: Sequence[int]) -> int:
    """By its header, else the only one that is left; a problem where several could be meant."""
    free = [column for column in others if column not in (table.split, table.group)]
    if not table.header:
        return next((column for column in free if _varies(table, column)), min(free, default=-1))
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
