"""Writes the metadata of a LiteRT file, in the schema that its tools read (TFLite metadata, version 1.0.0).

A flatbuffer in the model's buffer `TFLITE_METADATA` describes the input and the output, and the files that it lists
are in a zip archive after the model. Written field by field, because the package with its classes is no longer
installable.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np

BUFFER_NAME = b"TFLITE_METADATA"
IDENTIFIER = b"M001"
LABELS, CARD = "labels.txt", "metadata.json"

DESCRIPTION, AXIS_LABELS = 1, 2
FEATURES, IMAGE = 1, 2
NORMALIZATION = 1
RGB, GREY = 1, 2


class _Byte(int):
    """An enumeration, or the type of a union."""


class _Offset(int):
    """The position of a written object."""


class _Writer:
    """Writes strings, vectors and tables from the inside out."""

    def __init__(self) -> None:
        self.builder = flatbuffers.Builder(1024)

    def text(self, value: str) -> _Offset:
        return _Offset(self.builder.CreateString(value))

    def floats(self, *values: float) -> _Offset:
        return _Offset(self.builder.CreateNumpyVector(np.array(values, np.float32)))

    def vector(self, *indices: _Offset) -> _Offset:
        self.builder.StartVector(4, len(indices), 4)
        for index in reversed(indices):
            self.builder.PrependUOffsetTRelative(index)
        return _Offset(self.builder.EndVector())

    def table(self, *fields: _Offset | _Byte | int | None) -> _Offset:
        """The fields in the order of the schema; None is left out."""
        self.builder.StartObject(len(fields))
        for slot, field in enumerate(fields):
            if isinstance(field, _Offset):
                self.builder.PrependUOffsetTRelativeSlot(slot, field, 0)
            elif isinstance(field, _Byte):
                self.builder.PrependUint8Slot(slot, field, 0)
            elif field is not None:
                self.builder.PrependUint32Slot(slot, field, 0)
        return _Offset(self.builder.EndObject())

    def finished(self, root: _Offset) -> bytes:
        self.builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self.builder.Output())


def with_metadata(model: bytes, card: dict[str, Any]) -> bytes:
    """A converted model with the metadata in `card`: labels, train type, task, and height and width of the input."""
    from tensorflow.lite.python import schema_py_generated as schema
    from tensorflow.lite.tools import flatbuffer_utils

    known = flatbuffer_utils.convert_bytearray_to_object(bytearray(model))
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.frombuffer(metadata(card), np.uint8)
    entry.name, entry.buffer = BUFFER_NAME, len(known.buffers)
    known.buffers.append(buffer)
    known.metadata = [*(known.metadata or []), entry]
    content = io.BytesIO(bytes(flatbuffer_utils.convert_object_to_bytearray(known)))
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr(LABELS, "\n".join(card["labels"]) + "\n")
        archive.writestr(CARD, json.dumps(card, indent=2, ensure_ascii=False))
    return content.getvalue()


def metadata(card: dict[str, Any]) -> bytes:
    """The flatbuffer `ModelMetadata`."""
    writer = _Writer()
    graph = writer.table(
        None, None, writer.vector(_input(writer, card["size"])), writer.vector(*_outputs(writer, card["train_type"]))
    )
    file = writer.table(writer.text(CARD), writer.text("the complete model description as JSON"), _Byte(DESCRIPTION))
    name, description = writer.text(card["train_type"]), writer.text(f"Trained by TFserve, task {card['task']}.")
    graphs, files, parser = writer.vector(graph), writer.vector(file), writer.text("1.0.0")
    return writer.finished(writer.table(name, description, None, graphs, None, None, files, parser))


def _input(writer: _Writer, size: Sequence[int]) -> _Offset:
    """The image: 0 to 255, because the model includes the scaling."""
    height, width = size
    properties = writer.table(_Byte(RGB), writer.table(width, height))
    normalization = writer.table(writer.floats(0.0), writer.floats(1.0))
    return writer.table(
        writer.text("images"), writer.text("an RGB image, 0 to 255"), None,
        writer.table(_Byte(IMAGE), properties),
        writer.vector(writer.table(_Byte(NORMALIZATION), normalization)),
        writer.table(writer.floats(255.0), writer.floats(0.0)),
    )  # fmt: skip


DETECTIONS = {
    "boxes": "left, top, right, bottom as fractions of width and height, best first",
    "count": "number of boxes found",
    "labels": "the number of each box's label",
    "scores": "confidence of each box, 0 to 1",
}
"""In the order in which the converter writes the outputs."""


def _outputs(writer: _Writer, train_type: str) -> list[_Offset]:
    if train_type != "detection":
        return [_output(writer, train_type)]
    return [writer.table(writer.text(name), writer.text(meaning)) for name, meaning in DETECTIONS.items()]


def _output(writer: _Writer, train_type: str) -> _Offset:
    """Probabilities along the last axis, whose labels are in a file."""
    if train_type == "classification":
        content, description = writer.table(_Byte(FEATURES), writer.table()), "one probability per label"
    else:
        content = writer.table(_Byte(IMAGE), writer.table(_Byte(GREY)))
        description = "one probability per pixel and label"
    labels = writer.table(writer.text(LABELS), writer.text("one label per line"), _Byte(AXIS_LABELS))
    return writer.table(
        writer.text("probabilities"), writer.text(description), None, content, None,
        writer.table(writer.floats(1.0), writer.floats(0.0)), writer.vector(labels),
    )  # fmt: skip
