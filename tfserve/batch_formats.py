"""What is known about the input of a batch before a model is involved: its format, and the files of a folder."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tfserve.errors import Invalid

JSONL, CSV, IMAGES, AUTO = "jsonl", "csv", "images", "auto"
SUFFIXES = {
    JSONL: (".jsonl", ".ndjson", ".json"),
    CSV: (".csv", ".tsv"),
    IMAGES: (".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp"),
}
ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz")
DELIMITERS = ",;\t"
HEADER_CHARACTERS = 64 * 1024
MAX_HEADER = 4 * 1024 * 1024
"""Maximum characters of a header, which a web process reads."""
MAX_ROW = 64 * 1024 * 1024
"""Maximum length of a row."""
MAX_CELL = 16 * 1024 * 1024

csv.field_size_limit(MAX_CELL)


def check_input(path: Path, format_: str) -> str:
    """The format of an input: jsonl, csv or images. Raises `Invalid` for one that can't be read in the given format."""
    found = _format(path) if format_ == AUTO else format_
    if path.is_dir() and found != IMAGES:
        raise Invalid(f"input: {path.name!r} is a folder, but format {found} requires a file.", field="input")
    if found == IMAGES and not image_files(path):
        raise Invalid(f"input: {path.name!r} has no image files ({', '.join(SUFFIXES[IMAGES])}).", field="input")
    if found == CSV:
        header_of(path)
    return found


def image_files(path: Path) -> list[Path]:
    """The image files below a folder, in the order of their paths, or the file itself. Links out of it are ignored."""
    if not path.is_dir():
        return [path]
    root = path.resolve()
    found = [
        each
        for each in path.rglob("*")
        if each.suffix.lower() in SUFFIXES[IMAGES]
        and not any(part.startswith(".") for part in each.relative_to(path).parts)
        and each.is_file()
        and each.resolve().is_relative_to(root)
    ]
    return sorted(found, key=lambda each: each.relative_to(path).as_posix())


def header_of(path: Path) -> list[str]:
    """The names of the columns of a CSV file. Raises `Invalid`."""
    names = [name.strip() for name in next(csv_records(path), [])]
    if not any(names):
        raise Invalid(f"input: {path.name!r} is empty. A CSV file must begin with a line of column names.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"input: the column {twice!r} occurs twice in the header of {path.name!r}.")
    return names


def csv_records(path: Path) -> Iterator[list[str]]:
    """The cells of the header, and then of each row. Raises `Invalid` for a file that is not CSV."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        lines = _LimitedLines(file, MAX_HEADER)
        reader = csv.reader(lines, delimiter=delimiter_of(path))
        try:
            for cells in reader:
                yield cells
                lines.limit = lines.left = MAX_ROW
        except csv.Error as error:
            raise Invalid(
                f"Line {reader.line_num} of the input can't be read as CSV: {error}", field="input"
            ) from error


class _LimitedLines:
    """The lines of a file for `csv.reader`, which would read a file without line breaks or with an open quote whole."""

    def __init__(self, file: TextIO, limit: int) -> None:
        self._file = file
        self._number = 0
        self.limit = limit
        #: how many more characters the row may have
        self.left = limit

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(self.left + 1)
        if not line:
            raise StopIteration
        self._number += 1
        self.left -= len(line)
        if self.left < 0:
            raise Invalid(
                f"Line {self._number} of the input can't be read as CSV: the row is longer than {self.limit}"
                " characters. A line break or a closing quote may be missing.",
                field="input",
            )
        return line


def delimiter_of(path: Path) -> str:
    """The delimiter that is most frequent in the header."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = file.readline(HEADER_CHARACTERS)
    return max(DELIMITERS, key=header.count)


def _format(path: Path) -> str:
    if path.is_dir():
        return IMAGES
    suffix = path.suffix.lower()
    for name, suffixes in SUFFIXES.items():
        if suffix in suffixes:
            return name
    if suffix in ARCHIVES:
        raise Invalid(
            f"input: {path.name!r} is an archive. Upload it (POST /upload/), which unpacks it, and give upload:<id>.",
            field="input",
        )
    raise Invalid(
        f"input: the format of {path.name!r} is not known by its name. Give format: jsonl, csv or images.",
        field="format",
    )
