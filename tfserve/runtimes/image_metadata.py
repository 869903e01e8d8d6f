"""Reads a model's description of its images: from a separate file, or from its own metadata.

    SavedModel          assets.extra/image.json in its folder
    any other file      <stem>.image.json next to it, otherwise
    ONNX                the metadata property `tfserve.image`
    LiteRT              `image` in the metadata.json that is packed with it, else TensorFlow Lite's metadata:
                        colours, mean and standard deviation of the input, labels of the output

The first three and metadata.json are written by our training; their fields are those of `ImageSpec`.
"""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from tfserve.errors import Invalid
from tfserve.models import formats, protobuf
from tfserve.models.formats import Located
from tfserve.runtimes import image_spec
from tfserve.runtimes.flatbuffer import FlatbufferTable
from tfserve.runtimes.image_spec import ImageSpec

SIDECAR = Path("assets.extra") / "image.json"
HELD_OUT = formats.HELD_OUT_IMAGES
"""A few images that a SavedModel was not trained on, with which other runtimes are compared."""
ONNX_PROPERTY = "tfserve.image"
LITERT_BUFFER = "TFLITE_METADATA"
CARD = "metadata.json"

MAX_PACKED_BYTES = 4 * 1024 * 1024
"""Of a file packed with a LiteRT model."""

_DAMAGED = (
    ValueError,
    IndexError,
    KeyError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    NotImplementedError,
    EOFError,
)

_RGB, _GREY = 1, 2
_IMAGE_CONTENT, _NORMALIZATION_UNIT, _AXIS_LABELS = 2, 1, 2


class FoundDescription(NamedTuple):
    """A description of images. One that is not `binding` came with a third-party model, and may not match it."""

    spec: ImageSpec
    binding: bool


def find(model: Located, given: dict[str, Any] | None) -> FoundDescription | None:
    """The deployment's description, completed with the model's own; None if both are missing.

    Raises `Invalid`.
    """
    own, where, is_ours = _own(model)
    if given is not None:
        return FoundDescription(image_spec.parse(given, "image", defaults=own), binding=True)
    return FoundDescription(image_spec.parse(own, where), is_ours) if own is not None else None


def sidecar(file: Path) -> Path:
    """Where the description of a model file is, if it has one."""
    return file.with_name(f"{file.stem}.image.json")


def _own(model: Located) -> tuple[dict[str, Any] | None, str, bool]:
    """The model's description, its location, and whether it was written for this server."""
    file = model.path / SIDECAR if model.path.is_dir() else sidecar(model.path)
    if file.is_file():
        return _json(file.read_bytes(), str(file)), str(file), True
    if model.format == formats.ONNX:
        return _checked(of_onnx, model.path), f"{model.path} ({ONNX_PROPERTY})", True
    if model.format == formats.LITERT:
        card = _checked(_card, model.path)
        if card is not None:
            return card, f"{model.path} ({CARD})", True
        return _checked(of_litert, model.path), f"{model.path} (its metadata)", False
    return None, "", False


def _checked(read: Callable[[bytes], dict[str, Any] | None], file: Path) -> dict[str, Any] | None:
    """None for unreadable metadata: its runtime decides whether the model itself is readable."""
    try:
        return read(file.read_bytes())
    except _DAMAGED:
        return None


def _json(data: bytes, where: str) -> dict[str, Any]:
    try:
        return msgspec.json.decode(data, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"{where} is not a JSON object: {error}.") from None


def of_onnx(content: bytes) -> dict[str, Any] | None:
    """The property of an ONNX model. Raises `ValueError` or `IndexError` if the file is damaged."""
    for name, value in map(protobuf.entry, protobuf.of(memoryview(content), 14)):
        if name == ONNX_PROPERTY:
            return msgspec.json.decode(bytes(value), type=dict[str, Any])
    return None


# --- LiteRT


def _card(content: bytes) -> dict[str, Any] | None:
    """The description that our training packs with a model."""
    found = msgspec.json.decode(_packed(content).get(CARD, b"{}"))
    image = found.get("image") if isinstance(found, dict) else None
    return image if isinstance(image, dict) else None


def of_litert(content: bytes) -> dict[str, Any] | None:
    """TensorFlow Lite's metadata as fields of `ImageSpec`; None if the input is not one image.

    Raises one of several errors if it is damaged.
    """
    metadata = _litert_metadata(memoryview(content))
    graph = next(metadata.tables(3), None) if metadata is not None else None
    if graph is None:
        return None
    inputs, outputs = list(graph.tables(2)), list(graph.tables(3))
    kind = inputs[0].table(3) if len(inputs) == 1 else None
    if kind is None or kind.byte(0) != _IMAGE_CONTENT:
        return None
    labels = [names for output in outputs if (names := _labels(output, content))]
    if len(labels) != 1 and len(outputs) != 1:
        return None  # boxes, landmarks
    found = _colours(kind.table(1)) | _normalization(inputs[0])
    return found | ({"labels": labels[0]} if labels else {})


def _litert_metadata(model: memoryview) -> FlatbufferTable | None:
    root = FlatbufferTable.root(model)
    buffers = list(root.tables(4))
    for entry in root.tables(6):
        if entry.text(0) == LITERT_BUFFER:
            return FlatbufferTable.root(buffers[entry.integer(1)].octets(0))
    return None


def _colours(image: FlatbufferTable | None) -> dict[str, Any]:
    channels = {_RGB: 3, _GREY: 1}.get(image.byte(0) if image is not None else 0)
    return {} if channels is None else {"channels": channels}


def _normalization(tensor: FlatbufferTable) -> dict[str, Any]:
    for unit in tensor.tables(4):
        options = unit.table(1)
        if unit.byte(0) == _NORMALIZATION_UNIT and options is not None:
            found = {"mean": options.floats(0), "std": options.floats(1)}
            return {name: each[0] if len(each) == 1 else each for name, each in found.items() if each}
    return {}


def _labels(output: FlatbufferTable, content: bytes) -> list[str]:
    """The names in the file of labels of an output; the one without a language, if there are several."""
    files = [file for file in output.tables(6) if file.byte(2) == _AXIS_LABELS]
    files.sort(key=lambda file: len(file.octets(3)))
    text = _packed(content).get(files[0].text(0), b"") if files else b""
    return text.decode().splitlines()


def _packed(content: bytes) -> dict[str, bytes]:
    """The small files in the archive after a model."""
    file = io.BytesIO(content)
    if not zipfile.is_zipfile(file):
        return {}
    with zipfile.ZipFile(file) as archive:
        small = [each for each in archive.infolist() if each.file_size <= MAX_PACKED_BYTES]
        return {each.filename: archive.read(each) for each in small}
