"""The images of a classification with the labels, split and groups that tables give them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from tfserve.training.dataset.labels import number_of
from tfserve.training.dataset.layouts import class_codes
from tfserve.training.dataset.layouts.image_index import ImageIndex
from tfserve.training.dataset.layouts.parts import NO_FOLDER, TEST, in_split, in_words, own_split, part_of, part_of_path
from tfserve.training.dataset.layouts.table_text import about_quotes, text_of
from tfserve.training.dataset.layouts.tables import LabelTable, place, two_files
from tfserve.training.dataset.search import UNLABELLED, Labelled, Search, same_form, sentence

NAMES_FILES = (
    "classes.txt", "class_names.txt", "classnames.txt", "names.txt", "synsets.txt", "labels.txt", "obj.names",
)  # fmt: skip
MOST_LISTED = 0.5
"""Of the lines of a list of images, more than this share must be images of the project."""
ONE_LABEL = "A classification needs exactly one label per image"
_SEPARATORS = re.compile(r"[\s,;|+]+")
_SEPARATED = re.compile(r"[\s,;:=]")
"""After the number of a class in a line."""
_WHOLE = re.compile(r"-?\d+\.0+")


@dataclass
class _Read:
    """What the rows of all tables say. `listed` are the images that they name, `several` rows with several labels."""

    files: dict[Path, Labelled] = field(default_factory=dict)
    labels: dict[Path, list[str]] = field(default_factory=lambda: defaultdict(list))
    several: list[str] = field(default_factory=list)
    listed: set[Path] = field(default_factory=set)


def find(search: Search, tables: Sequence[LabelTable], index: ImageIndex) -> list[Labelled]:
    """The images with the labels that the tables give them. Rows without a file are skipped and listed."""
    with_labels = [table for table in tables if table.has_labels]
    read = _Read()
    for table in with_labels:
        for number, row in enumerate(table.rows, start=table.above + (2 if table.header else 1)):
            if any(cell.strip() for cell in row):
                _read_row(search, table, row, number, index, read)
    contradictions = [
        f"{search.name(path)} ({', '.join(dict.fromkeys(names))})"
        for path, names in read.labels.items() if len(set(names)) > 1
    ]  # fmt: skip
    search.problems += sentence(f"{ONE_LABEL}. These have several", contradictions)
    search.problems += sentence(f"{ONE_LABEL}. These rows have several", read.several)
    files = _named(search, with_labels, _whole_numbers(list(read.files.values())))
    split = [search.name(table.path) for table in with_labels if table.split >= 0]
    why = f"not listed with a part in {', '.join(split[:5])}" if split else NO_FOLDER
    files = own_split(in_split(search, files, why))
    search.layout = _in_words(search, with_labels, files)
    search.remarks += index.remarks(", ".join(search.name(table.path) for table in with_labels[:5]))
    for table in with_labels:
        search.remarks += about_quotes(search.name(table.path), table.open_quotes)
        if table.other_file:
            search.problems.append(two_files(search.name(table.path), table.other_file))
    search.remarks += sentence(
        f"{ONE_LABEL}, so these combinations of others are classes of their own", _combinations(files)
    )
    _skip_the_others(search, tables, index, read)
    return files


def attach(
    search: Search, files: Sequence[Labelled], tables: Sequence[LabelTable], index: ImageIndex
) -> list[Labelled]:
    """Files of class folders with their split and groups from a table."""
    lists, names = _lists(search, index)
    listed: dict[Path, tuple[str, str]] = {path: (part, "") for path, part in lists.items()}
    for table in tables:
        if table.split >= 0 or table.group >= 0:
            for row in table.rows:
                path = table.file_of(row, index)
                if path is not None:
                    part, group = listed.get(path, ("", ""))
                    listed[path] = part_of(table.cell(row, table.split)) or part, table.cell(row, table.group) or group
            names += [search.name(table.path)] if table.split >= 0 else []
            search.layout += f", with split and group columns from {search.name(table.path)}"
    if not listed:
        return list(files)
    files = [
        file._replace(part=listed[file.path][0] or file.part, group=listed[file.path][1])
        if file.path in listed
        else file
        for file in files
    ]
    is_split = len({part for part, _ in listed.values()} - {""}) > 1
    source = ", ".join(names[:5])
    return own_split(in_split(search, files, f"not listed with a part in {source}") if is_split else files)


def _lists(search: Search, index: ImageIndex) -> tuple[dict[Path, str], list[str]]:
    """The part of the images that `train.txt`, `val.txt` and `test.txt` list, a path on each line; and these lists."""
    found: dict[Path, str] = {}
    names = []
    for path in search.below(search.root, (".txt",), depth=2):
        lines = [line for line in text_of(path).splitlines() if line.strip()] if part_of(path.stem) else []
        images = [image for line in lines if (image := index.find(line, path.parent)) is not None]
        if len(images) > MOST_LISTED * len(lines):
            names.append(search.name(path))
            for image in images:
                found.setdefault(image, part_of(path.stem))
    if len({*found.values()}) < 2:
        return {}, []
    search.layout += f", with the split in {', '.join(names[:5])}"
    return found, names


def hint(search: Search, tables: Sequence[LabelTable]) -> str:
    """Why tables that list images can't be used: a sentence, empty if there are no such tables."""
    for table in tables:
        names = [name for column, name in enumerate(table.header) if column != table.file and name]
        if names:
            return (
                f" {search.name(table.path)} lists images, but it is unclear which of its columns"
                f" ({', '.join(names[:20])}) has the label. Name that column 'label'."
            )
    return ""


def _read_row(search: Search, table: LabelTable, row: list[str], number: int, index: ImageIndex, read: _Read) -> None:
    name = table.cell(row, table.file)
    path = table.file_of(row, index)
    labels = table.labels_of(row)
    where = place(search, table.path, number)
    read.listed |= {path} if path is not None else set()
    if path is None:
        search.skip(search.root / (name or "(no name)")[:200], f"missing: named in {where}", bad=True)
    elif not labels:
        given = table.cell(row, table.label)
        search.skip(path, f"no label: {where} has {repr(given) if given else 'none'}", bad=True)
    elif len(labels) > 1:
        read.several.append(f"{where}: {name} has {len(labels)} labels ({', '.join(labels[:5])})")
    else:
        label = same_form(labels[0])
        part = _part(table, row, index.relative(path))
        read.files.setdefault(path, Labelled(path, label, part, table.cell(row, table.group)))
        read.labels[path].append(label)


def _part(table: LabelTable, row: list[str], file: PurePath) -> str:
    """By the column, else the table's own name or folder (train.csv, train/_classes.csv), else the image's folder."""
    if part := part_of(table.cell(row, table.split)):
        return part
    return _own_part(table) or part_of_path(file)


def _own_part(table: LabelTable) -> str:
    stem = table.path.stem
    return part_of(stem) or part_of(stem.rpartition("_")[0]) or part_of(table.path.parent.name)


# --- names of classes


def _combinations(files: Sequence[Labelled]) -> list[str]:
    """Labels such as `cat,dog` whose parts are all labels, or recur in others like them."""
    names = {file.name for file in files}
    parts = {name: [part for part in _SEPARATORS.split(name) if part] for name in names}
    known = Counter(part for each in parts.values() for part in {*each})
    alone = {each[0] for each in parts.values() if len(each) == 1}
    return sorted(
        name for name, each in parts.items()
        if len(each) > 1 and alone.intersection(each) and all(part in alone or known[part] > 1 for part in each)
    )  # fmt: skip


def _whole_numbers(files: list[Labelled]) -> list[Labelled]:
    """Numbers of classes as pandas writes them if some are missing: 3.0 is 3."""
    if not all(_WHOLE.fullmatch(file.name) or number_of(file.name) is not None for file in files):
        return files
    return [file._replace(name=file.name.partition(".")[0]) for file in files]


def _named(search: Search, tables: Sequence[LabelTable], files: list[Labelled]) -> list[Labelled]:
    """The names of classes that are numbers or other codes, if a file has them."""
    codes = {file.name for file in files}
    names = _names_by_line(search, tables, codes) or class_codes.names(search, codes, [table.path for table in tables])
    return [file._replace(name=names[file.name]) for file in files] if names else files


def _names_by_line(search: Search, tables: Sequence[LabelTable], codes: Collection[str]) -> dict[str, str] | None:
    """Class numbers become names if a file such as `classes.txt` has one on each line."""
    numbers = {code: number for code in codes if (number := number_of(code)) is not None}
    if not codes or len(numbers) < len(codes):
        return None
    folders = {search.root, *(table.path.parent for table in tables)}
    for path in (folder / name for folder in sorted(folders) for name in NAMES_FILES):
        names = [line.strip() for line in text_of(path).splitlines() if line.strip()] if path.is_file() else []
        first = 1 if {*numbers.values()} == {*range(1, len(names) + 1)} else 0
        if not names or max(numbers.values()) - first >= len(names) or any(map(class_codes.is_number, names)):
            continue
        found = {code: same_form(names[number - first]) for code, number in numbers.items()}
        if len({*found.values()}) == len(found) and not _has_pairs(
            names, {numbers[code]: found[code] for code in found}
        ):
            search.remarks.append(
                f"Class names come from {search.name(path)}: line n, counted from {first}, is class n."
            )
            return found
    return None


def _has_pairs(lines: Sequence[str], found: Mapping[int, str]) -> bool:
    """Whether the lines begin with the numbers of all classes, so that `found`, by their position, may be wrong.

    `1 euro`, `2 euro` for the classes 1 and 2 are not pairs: both would be called `euro`.
    """
    pairs = [(_leading(line), _SEPARATED.split(line, maxsplit=1)[-1].strip()) for line in lines]
    names = [name for number, name in pairs if number in found]
    if not {*found} <= {number for number, _ in pairs}:
        return False
    return len({*names}) == len(names) or any(_leading(line) != number for number, line in found.items())


def _leading(line: str) -> int | None:
    return number_of(_SEPARATED.split(line)[0])


# --- what the tables do not say


def _skip_the_others(search: Search, tables: Sequence[LabelTable], index: ImageIndex, read: _Read) -> None:
    """Images without a label. Those that only other tables list, or in a folder of tests, are a test set."""
    names = ", ".join(search.name(table.path) for table in tables if table.has_labels)
    listed = {table.file_of(row, index) for table in tables if not table.has_labels for row in table.rows}
    folders = {path.parent for path in read.files}
    count = 0
    for path in (path for path in index.files if path not in read.listed):
        is_test = path in listed or (path.parent not in folders and _is_of_test(index.relative(path)))
        count += is_test
        search.skip(path, UNLABELLED if is_test else f"not listed in {names}")
    if count:
        search.remarks.append(f"{count} images of a test set have no labels, so they were not used.")


def _is_of_test(path: PurePath) -> bool:
    return any(part_of(name) == TEST or name.lower().startswith("test") for name in path.parts[:-1])


def _in_words(search: Search, tables: Sequence[LabelTable], files: Sequence[Labelled]) -> str:
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


def _mention_columns(search: Search, table: LabelTable) -> None:
    """Without a header, the choice of a column may be wrong."""
    used = {table.file, table.label, table.split, table.group}
    if rest := [str(column + 1) for column in range(max(map(len, table.rows))) if column not in used]:
        search.remarks.append(
            f"{search.name(table.path)} has no header: column {table.label + 1} was used as the label, and columns"
            f" {', '.join(rest)} were ignored. Add a header to choose another column."
        )
