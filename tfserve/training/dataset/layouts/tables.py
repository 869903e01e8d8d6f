"""A table of files and labels (CSV, JSON, tabs, semicolons or blanks; with or without a header), as people write it."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from tfserve.training.dataset import image_reading, text_reading
from tfserve.training.dataset.labels import INFO_FILE, number_of
from tfserve.training.dataset.layouts import json_records
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import in_words, own_split, part_of, part_of_path
from tfserve.training.dataset.search import Labelled, Search, same_form, sentence, words

SUFFIXES = (".csv", ".tsv", ".txt")
MAX_BYTES = 64 * 1024 * 1024
MAX_TABLES = 50
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
NAMES_FILES = (
    "classes.txt", "class_names.txt", "classnames.txt", "names.txt", "synsets.txt", "labels.txt", "obj.names",
)  # fmt: skip


@dataclass
class Table:
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

    @property
    def has_labels(self) -> bool:
        return self.label >= 0 or bool(self.one_hot)

    def cell(self, row: Sequence[str], column: int) -> str:
        return row[column].strip() if 0 <= column < len(row) else ""

    def label_of(self, row: Sequence[str]) -> list[str]:
        """The labels that the row gives: one, unless it is wrong."""
        if self.one_hot:
            return [self.header[column] for column in self.one_hot if _is_one(self.cell(row, column))]
        name = self.cell(row, self.label)
        return [name] if name else []


def read_all(search: Search, index: ImageIndex, groups: str = "auto") -> list[Table]:
    """The tables in the root and in the folders two levels below that name at least one of its images."""
    texts = [path for path in search.below(search.root, SUFFIXES, depth=2) if path.name.lower() != INFO_FILE]
    lists = search.below(search.root, json_records.SUFFIXES, depth=2)
    files = texts[:MAX_TABLES] + lists[:MAX_TABLES]  # there may be a JSON file for each image
    found = [table for path in files if (table := _table(path, index, groups))]
    labelled = [table for table in found if table.has_labels]
    return labelled or found


def labelled(search: Search, tables: Sequence[Table], index: ImageIndex) -> list[Labelled]:
    """The images with the labels that the tables give them. Rows without a file are skipped and listed."""
    found: dict[Path, Labelled] = {}
    several: dict[str, list[str]] = defaultdict(list)
    for table in tables:
        for number, row in enumerate(table.rows, start=2 if table.header else 1):
            file = _read_row(search, table, row, number, index)
            if file is None:
                continue
            known = found.setdefault(file.path, file)
            if known.name != file.name:
                several[search.name(file.path)] += [known.name, file.name]
    search.problems += sentence(
        "A classification needs exactly one label per image. These have several",
        [f"{path} ({', '.join(dict.fromkeys(names))})" for path, names in several.items()],
    )
    files = own_split(_named(search, tables, list(found.values())))
    search.layout = _in_words(search, tables, files)
    for path in index.files:
        if path not in found:
            search.skip(path, f"not listed in {', '.join(search.name(table.path) for table in tables)}")
    return files


def attach(search: Search, files: Sequence[Labelled], tables: Sequence[Table], index: ImageIndex) -> list[Labelled]:
    """Files of class folders with their split and groups from a table."""
    listed: dict[Path, tuple[str, str]] = {}
    for table in tables:
        if table.split >= 0 or table.group >= 0:
            for row in table.rows:
                path = index.find(table.cell(row, table.file), table.path.parent)
                if path is not None:
                    listed[path] = part_of(table.cell(row, table.split)), table.cell(row, table.group)
            search.layout += f", with split and group columns from {search.name(table.path)}"
    if not listed:
        return list(files)
    files = [
        file._replace(part=listed[file.path][0] or file.part, group=listed[file.path][1])
        if file.path in listed
        else file
        for file in files
    ]
    return own_split(files)


def _read_row(search: Search, table: Table, row: list[str], number: int, index: ImageIndex) -> Labelled | None:
    name = table.cell(row, table.file)
    if not any(cell.strip() for cell in row):
        return None
    path = index.find(name, table.path.parent) if name else None
    labels = table.label_of(row)
    where = place(search, table.path, number)
    if path is None:
        search.skip(search.root / (name or "(no name)")[:200], f"missing: named in {where}", bad=True)
    elif not labels:
        search.skip(path, f"no label: {where} has none", bad=True)
    elif len(labels) > 1:
        search.problems.append(f"{where}: {name} has {len(labels)} labels ({', '.join(labels[:5])}), expected one.")
    else:
        return Labelled(
            path, same_form(labels[0]), _part(table, row, index.relative(path)), table.cell(row, table.group)
        )
    return None


def place(search: Search, path: Path, number: int) -> str:
    """Where the row with this number is, for messages. A record of JSON has no line."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return f"{search.name(path)}, entry {number - 1}"
    return f"{search.name(path)}, line {number}"


def _part(table: Table, row: list[str], file: PurePath) -> str:
    """By the column, else the table's own name or folder (train.csv, train/_classes.csv), else the image's folder."""
    if table.split >= 0:
        return part_of(table.cell(row, table.split))
    own = part_of(table.path.stem) or part_of(table.path.stem.rpartition("_")[0]) or part_of(table.path.parent.name)
    return own or part_of_path(file)


def _named(search: Search, tables: Sequence[Table], files: list[Labelled]) -> list[Labelled]:
    """Class numbers become names if a file such as `classes.txt` has one on each line."""
    numbers = {file.name: number for file in files if (number := number_of(file.name)) is not None}
    if not files or not all(file.name in numbers for file in files):
        return files
    folders = {search.root, *(table.path.parent for table in tables)}
    for path in (folder / name for folder in sorted(folders) for name in NAMES_FILES):
        names = [line.strip() for line in _text(path).splitlines() if line.strip()] if path.is_file() else []
        if names and max(numbers.values()) < len(names):
            search.remarks.append(f"Class names come from {search.name(path)}: line n, counted from 0, is class n.")
            return [file._replace(name=same_form(names[numbers[file.name]])) for file in files]
    return files


def _in_words(search: Search, tables: Sequence[Table], files: Sequence[Labelled]) -> str:
    table = tables[0]
    names = ", ".join(search.name(each.path) for each in tables[:5])
    if table.one_hot:
        columns = f"one column per class ({len(table.one_hot)})"
    elif table.header:
        columns = f"columns {table.header[table.file]!r} and {table.header[table.label]!r}"
    else:
        columns = f"columns {table.file + 1} and {table.label + 1}, no header"
        _mention_columns(search, table)
    kept = f", {in_words(files)}" if in_words(files) else ""
    return f"table {names} ({columns}{kept})"


def _mention_columns(search: Search, table: Table) -> None:
    """Without a header, the choice of a column may be wrong."""
    used = {table.file, table.label, table.split, table.group}
    if rest := [str(column + 1) for column in range(max(map(len, table.rows))) if column not in used]:
        search.remarks.append(
            f"{search.name(table.path)} has no header: column {table.label + 1} was used as the label, and columns"
            f" {', '.join(rest)} were ignored. Add a header to choose another column."
        )


def hint(search: Search, tables: Sequence[Table]) -> str:
    """Why tables that list images can't be used: a sentence, empty if there are no such tables."""
    for table in tables:
        names = [name for column, name in enumerate(table.header) if column != table.file and name]
        if names:
            return (
                f" {search.name(table.path)} lists images, but it is unclear which of its columns"
                f" ({', '.join(names[:20])}) has the label. Name that column 'label'."
            )
    return ""


# --- one file


def _table(path: Path, index: ImageIndex, groups: str) -> Table | None:
    """None for a file that does not name images of this project."""
    cells = rows(path)
    if len(cells) < 2 or len(cells[0]) < 2:
        return None
    header = [cell.strip() for cell in cells[0]]
    file, has_header = file_column(header, cells, index, path.parent)
    if file < 0:
        return None
    table = Table(path, header if has_header else [], cells[1:] if has_header else cells, file)
    width = max(map(len, table.rows[:SAMPLE]), default=0)
    others = [column for column in range(width) if column != file and not _is_row_number(table.header, column)]
    table.split = _column(table, others, SPLIT_HEADERS, all_parts=True)
    table.group = _column(table, others, frozenset({groups.lower()}), exact=True)
    if table.group < 0 and groups == "auto":
        table.group = _column(table, others, GROUP_HEADERS)
    table.one_hot = _one_hot(table, [each for each in others if each not in (table.split, table.group)])
    if not table.one_hot:
        table.label = _label_column(table, others)
    return table


def rows(path: Path) -> list[list[str]]:
    """The cells of a table; empty for other files."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return json_records.table(path, json_records.read(path))
    text = _text(path)
    lines = text.splitlines()[:SAMPLE]
    widths = {each: _width(lines, each) for each in ",;\t|"}
    delimiter = max(widths, key=lambda each: widths[each])
    if widths[delimiter] < 2:
        delimiter = " "  # names may have blanks, so this comes last
    if _width(lines, delimiter) < 2:
        return []
    try:
        read = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        return [row for row in read if row and not row[0].startswith("#")]
    except csv.Error:
        return []


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


def _text(path: Path) -> str:
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


def _names_images(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Whether a column has names of images, even if none of them is there."""
    cells = [row[column].strip().lower() for row in rows[1 : SAMPLE + 1] if column < len(row)]
    return any(cell.endswith(image_reading.SUFFIXES) for cell in cells)


def _column(
    table: Table, columns: Sequence[int], names: frozenset[str], *, all_parts: bool = False, exact: bool = False
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


def _label_column(table: Table, others: Sequence[int]) -> int:
    """By its header, else the only one that is left; a problem where several could be meant."""
    free = [column for column in others if column not in (table.split, table.group)]
    if not table.header:
        return free[0] if free else -1
    named = [column for column in free if column < len(table.header) and plain(table.header[column]) in LABEL_HEADERS]
    if named:
        return min(named, key=lambda each: (not _varies(table, each), plain(table.header[each]).endswith("id")))
    return free[0] if len(free) == 1 and _repeats(table, free[0]) else -1


def _varies(table: Table, column: int) -> bool:
    return len({table.cell(row, column) for row in table.rows}) > 1


def _repeats(table: Table, column: int) -> bool:
    """Whether the values of a column could be classes: some of them occur more than once."""
    cells = [table.cell(row, column) for row in table.rows]
    return len(set(cells)) < len(cells)


def _one_hot(table: Table, columns: Sequence[int]) -> tuple[int, ...]:
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
