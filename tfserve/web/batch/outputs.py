"""The lines of a batch's output, as JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from tfserve.tensors.specs import Signature, TensorSpec
from tfserve.web.batch.inputs import InputRow

MAX_COLUMNS = 1000
"""A vector with more elements is one cell."""


class ComputedRow(NamedTuple):
    """A row that was computed: the JSON of its prediction, or the error message."""

    row: InputRow
    prediction: bytes = b""
    error: str = ""


class Writer(Protocol):
    """Makes lines."""

    def header(self) -> bytes:
        """What the output begins with."""
        ...

    def line(self, done: ComputedRow) -> bytes:
        """The line of a row, with its end."""
        ...


class JsonLinesWriter:
    """{"index", "prediction"} or {"index", "error"}; with "file" for images."""

    def header(self) -> bytes:
        return b""

    def line(self, done: ComputedRow) -> bytes:
        row = done.row
        start = b'{"index":%d' % row.number
        if row.file is not None:
            start += b',"file":' + orjson.dumps(row.file)
        if done.error:
            return start + b',"error":' + orjson.dumps(done.error) + b"}\n"
        return start + b',"prediction":' + done.prediction + b"}\n"


class CsvWriter:
    """The columns index, file (for images), those of the outputs, and error."""

    def __init__(self, columns: Sequence[Column], *, has_files: bool) -> None:
        self._columns = columns
        self._has_files = has_files

    def header(self) -> bytes:
        return _csv(["index", *(["file"] if self._has_files else []), *(each.title for each in self._columns), "error"])

    def line(self, done: ComputedRow) -> bytes:
        row = done.row
        values = [""] * len(self._columns) if done.error else self._values(json.loads(done.prediction))
        return _csv([row.number, *([row.file] if self._has_files else []), *values, done.error])

    def _values(self, prediction: Any) -> list[Any]:
        return [_cell(each.of(prediction)) for each in self._columns]


class Column(NamedTuple):
    """A column of the output: the prediction, its member `key`, or the element of that at `position`."""

    title: str
    key: str | None = None
    position: int | None = None

    def of(self, prediction: Any) -> Any:
        value = prediction if self.key is None else prediction.get(self.key)
        return value if self.position is None else value[self.position]


def columns_of(signature: Signature) -> list[Column]:
    """The columns for the outputs of a signature: a vector of a fixed size has one for each element."""
    is_only = len(signature.outputs) == 1
    return [column for spec in signature.outputs for column in _columns(spec, None if is_only else spec.name)]


def columns_of_images(signature: Signature) -> list[Column]:
    """For image files, whose predictions are objects."""
    if any(spec.name == "probabilities" for spec in signature.outputs):
        return [Column("label", "label"), Column("score", "score")]
    return [Column("prediction")]


def _columns(spec: TensorSpec, key: str | None) -> list[Column]:
    size = spec.shape[1] if spec.shape is not None and len(spec.shape) == 2 else -1
    if 0 < size <= MAX_COLUMNS:
        titles = [spec.name] if size == 1 else [f"{spec.name}_{n}" for n in range(size)]
        return [Column(title, key, n) for n, title in enumerate(titles)]
    return [Column(spec.name, key)]


def _cell(value: Any) -> Any:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, list | dict | bool) else value


def _csv(cells: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue().encode(errors="replace")
