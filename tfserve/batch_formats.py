"""What is known about the input of a batch before a model is involved: its format, and the files of a folder."""

from __future__ import annotations

import csv
from pathlib import Path

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
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = next(csv.reader(file, delimiter=delimiter_of(path)), [])
    names = [name.strip() for name in header]
    if not any(names):
        raise Invalid(f"input: {path.name!r} is empty. A CSV file must begin with a line of column names.")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"input: the column {twice!r} occurs twice in the header of {path.name!r}.")
    return names


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
