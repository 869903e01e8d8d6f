"""The cells of a table in a text file: its delimiter, its quotes, and the titles above its header."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from tfserve.training.dataset import image_reading, text_reading
from tfserve.training.dataset.layouts import json_records
from tfserve.training.dataset.search import sentence

MAX_BYTES = 64 * 1024 * 1024
SAMPLE = 200
"""Rows by which the columns are recognised."""
MAX_SHORT = 0.2
"""Share of the lines that may have fewer columns than the table: titles and incomplete rows."""
DELIMITERS = "\t;|,"
"""Numbers may have commas, so they come last."""


class TableText(NamedTuple):
    """`open_quotes` are the lines in which a quote is never closed, or text follows it."""

    rows: list[list[str]]
    open_quotes: tuple[int, ...] = ()

    def remarks(self, name: str) -> list[str]:
        return about_quotes(name, self.open_quotes)


def about_quotes(name: str, lines: Sequence[int]) -> list[str]:
    """A remark for the table with this name."""
    what = "Lines with a quote that does not match another were read as if it was not there"
    return sentence(what, [f"{name}, line {line}" for line in lines])


def rows(path: Path) -> list[list[str]]:
    """The cells of a table; empty for other files."""
    return read(path).rows


def read(path: Path) -> TableText:
    """The cells of a table; none for other files."""
    if path.suffix.lower() in json_records.SUFFIXES:
        return TableText(json_records.table(path, json_records.read(path)))
    text = text_of(path)
    lines = text.splitlines()[:SAMPLE]
    delimiter = delimiter_of(lines) or " "  # names may have blanks, so this comes last
    width = _width(lines, delimiter)
    if width < 2:
        return TableText([])
    quote = "'" if lines[0].strip().startswith("'") else '"'
    cells = _whole(text, delimiter, quote, width)
    cells, open_quotes = _by_line(text, delimiter, quote) if cells is None else (cells, [])
    return TableText([row for row in cells if row and not row[0].startswith("#")], tuple(open_quotes))


def _whole(text: str, delimiter: str, quote: str, width: int) -> list[list[str]] | None:
    """All rows; None if quotes do not match."""
    try:
        cells = list(_reader(io.StringIO(text, newline=""), delimiter, quote))
    except csv.Error:
        return None
    return (
        None if any("\n" in cell and _has_swallowed(cell, delimiter, width) for row in cells for cell in row) else cells
    )


def _has_swallowed(cell: str, delimiter: str, width: int) -> bool:
    """Whether rows are in this cell, because a quote before them was never closed."""
    inner = cell.splitlines()[1:]
    return bool(inner) and all(line.count(delimiter) == width - 1 for line in inner if line.strip())


def _by_line(text: str, delimiter: str, quote: str) -> tuple[list[list[str]], list[int]]:
    """A row for each line, and the numbers of the lines whose quotes are ordinary characters."""
    closing = re.compile(f"{quote} +(?={re.escape(delimiter)}|$)")
    found: list[list[str]] = []
    ordinary: list[int] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            found += _reader([closing.sub(quote, line)], delimiter, quote)
        except csv.Error:
            found.append([cell.strip().strip(quote) for cell in line.split(delimiter)])
            ordinary.append(number)
    return found, ordinary


def _reader(lines: Iterable[str], delimiter: str, quote: str) -> Iterable[list[str]]:
    """Raises `csv.Error` for text after a closing quote, and for a quote that is never closed."""
    return csv.reader(lines, delimiter=delimiter, skipinitialspace=True, quotechar=quote, strict=True)


def delimiter_of(lines: Sequence[str]) -> str:
    """The one in the header that makes the same number of columns in most lines; "" if they have none but blanks."""
    widths = {each: _widths(lines, each) for each in DELIMITERS}
    known = [each for each in DELIMITERS if _usual_width(widths[each]) >= 2]
    header = next((line for line in lines if line.strip()), "")
    if header[:4].lower() == "sep=" and header[4:5] in known:
        return header[4:5]

    def fit(delimiter: str) -> tuple[bool, int, int]:
        counts = widths[delimiter]
        return delimiter in header, max(map(counts.count, {*counts})), _usual_width(counts)

    return max(known, key=fit, default="")


def titles(cells: Sequence[Sequence[str]]) -> int:
    """The number of rows before the header: titles, and `sep=;`, which Excel understands."""
    return sum(1 for _ in takewhile(_is_title, cells))


def _is_title(row: Sequence[str]) -> bool:
    filled = [cell.strip().lower() for cell in row if cell.strip()]
    return len(filled) < 2 and not any(cell.endswith(image_reading.SUFFIXES) for cell in filled)


def _width(lines: Sequence[str], delimiter: str) -> int:
    return _usual_width(_widths(lines, delimiter))


def _usual_width(widths: Sequence[int]) -> int:
    """The number of columns that nearly all lines have, or more; 0 if this is not a table."""
    return widths[int(MAX_SHORT * len(widths))] if widths else 0


def _widths(lines: Sequence[str], delimiter: str) -> list[int]:
    """The numbers of columns of the lines that are not empty, in ascending order."""
    try:
        return sorted(len(row) for row in csv.reader(lines, delimiter=delimiter, skipinitialspace=True) if row)
    except csv.Error:
        return []


def text_of(path: Path) -> str:
    """The text of a file; "" if it has none."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_BYTES:
            return ""
        return text_reading.read(path)
    except (OSError, UnicodeDecodeError):
        return ""


def plain(header: str) -> str:
    """The name of a column as it is compared: `Image Name` → `image_name`."""
    return "_".join(header.strip().strip('"').lower().replace("-", " ").replace("_", " ").split())
