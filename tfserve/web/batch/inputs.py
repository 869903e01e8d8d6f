"""The rows of a batch's input: lines of JSON, lines of CSV, or image files, always in the same order."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import msgspec
import orjson

from tfserve.batch_formats import MAX_ROW as MAX_ROW_BYTES
from tfserve.batch_formats import csv_records, image_files
from tfserve.errors import Conflict, Invalid, NotFound
from tfserve.web.batch.csv_columns import Columns

BOM = b"\xef\xbb\xbf"


class InputChanged(Conflict):
    """The input of the batch has changed since it began, so it can't be continued. Start a new batch."""


class InputRow(NamedTuple):
    """One row: its `json` as an element of `instances`, or the `problem` with it. `file` is the name of an image."""

    number: int
    json: bytes = b""
    problem: str = ""
    file: str | None = None


class RowSource(Protocol):
    """An input. Its methods block, so they run in threads."""

    def fingerprint(self) -> str:
        """Changes whenever the content may have changed."""
        ...

    def count(self) -> int:
        """The number of rows."""
        ...

    def rows(self, skip: int) -> Iterator[InputRow]:
        """The rows after the first `skip` ones. Raises `OSError`, `Invalid`."""
        ...


class JsonLines:
    """Each line that is not empty is a row."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def fingerprint(self) -> str:
        return _of_file(self._path)

    def count(self) -> int:
        with self._path.open("rb") as file:
            return sum(1 for _ in _lines(file))

    def rows(self, skip: int) -> Iterator[InputRow]:
        with self._path.open("rb") as file:
            for index, line in enumerate(_lines(file)):
                if index >= skip:
                    yield _json_row(index, line)


class CsvLines:
    """Each line after the header is a row; quoted cells may have several lines."""

    def __init__(self, path: Path, columns: Columns) -> None:
        self._path = path
        self._columns = columns

    def fingerprint(self) -> str:
        return _of_file(self._path)

    def count(self) -> int:
        return sum(1 for _ in self._records())

    def rows(self, skip: int) -> Iterator[InputRow]:
        for index, cells in enumerate(self._records()):
            if index < skip:
                continue
            try:
                yield InputRow(index, orjson.dumps(self._columns.instance(cells)))
            except Invalid as error:
                yield InputRow(index, problem=error.message)

    def _records(self) -> Iterator[list[str]]:
        records = csv_records(self._path)
        next(records, None)  # the header
        return (cells for cells in records if cells)


class Images:
    """Each image file below a folder is a row, in the order of the paths."""

    def __init__(self, path: Path) -> None:
        self._root = path if path.is_dir() else path.parent
        self._files = image_files(path)

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for file in self._files:
            state = file.stat()
            digest.update(f"{self._name(file)}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="replace"))
        return digest.hexdigest()

    def count(self) -> int:
        return len(self._files)

    def rows(self, skip: int) -> Iterator[InputRow]:
        for index, file in enumerate(self._files[skip:], skip):
            yield _image_row(index, file, self._name(file).encode(errors="replace").decode())

    def _name(self, file: Path) -> str:
        return file.relative_to(self._root).as_posix()


def require_input(path: Path) -> None:
    """Raises `NotFound`."""
    if not path.exists():
        raise NotFound(f"The input {path} of the batch does not exist any more.")


def _of_file(path: Path) -> str:
    state = path.stat()
    return f"{state.st_size}-{state.st_mtime_ns}"


def _lines(file: IO[bytes]) -> Iterator[bytes | None]:
    """The lines that are not empty; None for one that is too long."""
    is_first = True
    while line := file.readline(MAX_ROW_BYTES + 1):
        if len(line) > MAX_ROW_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(MAX_ROW_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None
        elif line := (line.removeprefix(BOM) if is_first else line).strip():
            yield line
        is_first = False


def _image_row(number: int, file: Path, name: str) -> InputRow:
    try:
        if file.stat().st_size > MAX_ROW_BYTES:
            return InputRow(number, problem=f"The file is larger than {MAX_ROW_BYTES} bytes.", file=name)
        content = base64.b64encode(file.read_bytes()).decode()
    except OSError as error:
        return InputRow(number, problem=f"The file can't be read: {error.strerror}.", file=name)
    return InputRow(number, orjson.dumps({"b64": content}), file=name)


def _json_row(number: int, line: bytes | None) -> InputRow:
    """The whole line must be one JSON value, since it becomes part of a larger document."""
    if line is None:
        return InputRow(number, problem=f"The line is longer than {MAX_ROW_BYTES} bytes.")
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError as error:
        if not _is_lenient_json(line):
            return InputRow(number, problem=f"The line is not JSON: {error}")
    except RecursionError:
        return InputRow(number, problem="The line is nested too deeply.")
    return InputRow(number, line)


def _is_lenient_json(line: bytes) -> bool:
    """Whether it is JSON if NaN and Infinity are numbers, as in version 1."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
