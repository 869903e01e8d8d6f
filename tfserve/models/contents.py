"""Identifies a single file by its first bytes and its structure, not by its name.

Reads a few kilobytes (all of a JSON file), runs none of the file's code and imports no runtime, so it is safe and cheap
to call.
"""

from __future__ import annotations

import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Set
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tfserve.models import hdf5, tfjs
from tfserve.models.protobuf import FileField, inside, read_fields, varint

HEAD_BYTES = 4096
MAX_FIELDS = 5000

KERAS = "Keras file"
HDF5 = "Keras HDF5 file"
LITERT = "LiteRT file"
ONNX = "ONNX file"
ORT = "ONNX Runtime file"
OPENVINO = "OpenVINO IR"
FROZEN_GRAPH = "frozen graph"
PADDLE = "PaddlePaddle model"
TFJS_GRAPH = "TensorFlow.js graph model"
TFJS_LAYERS = "TensorFlow.js layers model"


class Foreign(NamedTuple):
    """A file that no runtime can read, with advice on what to do about it.

    In the advice `{path}` and `{stem}` (without suffix) are quoted for a shell; `{raw}`, `{raw_stem}` and `{name}`
    (without folder) are not.
    """

    what: str
    advice: str


class Broken(NamedTuple):
    """A file that begins like a model but is damaged."""

    what: str


Found = str | Foreign | Broken | None

_RENAME = "It is not a model by itself."
_TORCH = (
    'Convert it on a machine with PyTorch: pip install openvino packaging && python -c "import torch, openvino as ov;'
    " ov.save_model(ov.convert_model(torch.{load}('{raw}')), '{raw_stem}.xml', compress_to_fp16=False)\""
    " If OpenVINO can't convert it, export it as ONNX with torch.onnx.export in the model's own code."
)
SCRIPT = Foreign("a TorchScript model", _TORCH.replace("{load}", "jit.load"))
EXPORTED = Foreign("a program exported by PyTorch", _TORCH.replace("{load}", "export.load"))
WEIGHTS = Foreign(
    "a torch.save file, which contains Python objects or weights but no computation",
    "Load it into its model and export the model on a machine with PyTorch:"
    ' pip install onnx onnxscript && python -c "import torch;'
    " torch.onnx.export(model, example_input, '{raw_stem}.onnx')\"",
)
_PICKLE = Foreign(
    "a Python pickle, which is never loaded because reading it can run arbitrary code",
    "Export the model as ONNX where it was trained, for scikit-learn:"
    " pip install skl2onnx && python -c \"import joblib, numpy, skl2onnx; m = joblib.load('{raw}');"
    " open('{raw_stem}.onnx', 'wb').write(skl2onnx.to_onnx(m, numpy.zeros((1, m.n_features_in_), 'float32'),"
    " options=dict(zipmap=False) if hasattr(m, 'predict_proba') else None).SerializeToString())\"."
    " Compare the predictions of both models before you rely on it.",
)
_ARCHIVE = "Unpack it and give the path of the model inside: {command}"
KERAS_WEIGHTS = Foreign(
    "a Keras file that contains weights but no model (save_weights writes such files)",
    "Build the model in Python, call model.load_weights('{name}') and model.save('model.keras'), and deploy that file.",
)
_OTHER_HDF5 = Foreign(
    "an HDF5 file that contains no Keras model", "Save the whole model in Python: model.save('{raw_stem}.keras')"
)
_CORE_ML = Foreign("a Core ML model", "Export the model as ONNX from the program that made it.")
_CAFFE = Foreign(
    "a Caffe model",
    "Convert it together with its network, {stem}.prototxt, in a separate virtual environment:"
    " pip install caffe-onnx && caffe2onnx {stem}.prototxt {stem}.caffemodel model {stem}_onnx",
)

_STARTS: list[tuple[int, bytes, str | Foreign]] = [
    (0, hdf5.SIGNATURE, HDF5),
    (4, b"TFL3", LITERT),
    (4, b"ORTM", ORT),
    (0, b"GGUF", Foreign("a GGUF language model", "Serve it with llama.cpp: llama-server -m {path}")),
    (0, b"LITERTLM", Foreign("a LiteRT-LM language model", "Serve it: pip install litert-lm && litert-lm run {path}")),
    (0, b"ftrt", Foreign(
        "a TensorRT engine, which runs on one type of GPU only",
        "Deploy the ONNX file that it was built from.")),
    (0, b"BZh", Foreign("a bzip2 archive", _ARCHIVE.format(command="tar xjf {path}"))),
    (0, b"\xfd7zXZ", Foreign("an xz archive", _ARCHIVE.format(command="tar xJf {path}"))),
    (257, b"ustar", Foreign("a tar archive", _ARCHIVE.format(command="tar xf {path}"))),
    (0, b"version https://git-lfs.github.com/", Foreign(
        "a pointer of Git LFS in place of the file itself", "Fetch the file in its repository: git lfs pull")),
    (0, b"\x93NUMPY", Foreign("a numpy array", _RENAME)),
    (0, b"\x7fELF", Foreign("a program or library", _RENAME)),
]  # fmt: skip

_GZIP = b"\x1f\x8b"
_GZIP_ARCHIVE = Foreign("a gzip archive", _ARCHIVE.format(command="tar xzf {path}"))
_GZIP_FILE = Foreign("a compressed file (gzip)", "Unpack it and give the path of the result: gunzip --keep {path}")

_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_TFJS_KEYS = (b'"modelTopology"', b'"weightsManifest"', b'"graph-model"', b'"layers-model"')
_WEIGHT_GROUPS = frozenset({"layers", "vars", "_layer_checkpoint_dependencies"})
"""At least one of them is in the root of a file that Keras 3 writes, `vars` for a model of a class of its own."""
_OPERATION = re.compile(rb"[A-Za-z_][\w>./-]*")
_LAYER_TYPES = range(200, 4000)
"""The fields of a Core ML model that say which type of model it is."""


def identify(file: Path) -> Found:
    """A format, something that no runtime reads, or None when nothing is recognised. Raises `OSError`."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        head = opened.read(HEAD_BYTES)
        for offset, start, found in _STARTS:
            if head.startswith(start, offset):
                return _hdf5(head, opened, size) if found == HDF5 else found
        for recognise in (_gzip, _zip, _pickle, _safetensors, _text):
            if (known := recognise(head, opened, size)) is not None:
                return known
        return _protobuf(opened, size)


def _hdf5(head: bytes, opened: BinaryIO, size: int) -> Found:
    """Keras keeps the model in an attribute, next to the groups of its weights."""
    if (block := hdf5.superblock(head)) is None:
        return HDF5
    if block.end > size:
        return Broken(f"a truncated Keras HDF5 file ({size} of {block.end} bytes)")
    found = hdf5.root(opened, block)
    if found is None or "model_config" in found.attributes:
        return HDF5
    return KERAS_WEIGHTS if "layer_names" in found.attributes or found.links & _WEIGHT_GROUPS else _OTHER_HDF5


def _gzip(head: bytes, _: BinaryIO, __: int) -> Found:
    """An archive if its content is one, or can't be seen."""
    if not head.startswith(_GZIP):
        return None
    try:
        begins = zlib.decompressobj(31).decompress(head, 512)
    except zlib.error:
        return _GZIP_ARCHIVE
    return _GZIP_FILE if len(begins) == 512 and not begins.startswith(b"ustar", 257) else _GZIP_ARCHIVE


def _zip(head: bytes, opened: BinaryIO, _: int) -> Found:
    if not head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(opened) as archive:
            names = archive.namelist()[:MAX_FIELDS]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Broken("a truncated zip file (Keras and PyTorch save models as zip files)")
    ends = {name.rpartition("/")[2] for name in names}
    folders = {part for name in names for part in name.split("/")[:-1]}
    if {"config.json", "metadata.json"} <= set(names):
        has_weights = any(name.endswith((".h5", ".npz", ".weights.json")) for name in names)
        return KERAS if has_weights else Broken("a Keras file without its weights (model.weights.h5)")
    if "model.weights.h5" in names:
        return KERAS_WEIGHTS
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return EXPORTED
    if "data.pkl" in ends:
        return SCRIPT if "code" in folders or "constants.pkl" in ends else WEIGHTS
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("a file of numpy arrays, which are weights without a computation", _RENAME)
    return Foreign("a zip archive", _ARCHIVE.format(command="unzip {path}"))


def _pickle(head: bytes, _: BinaryIO, __: int) -> Found:
    if re.match(rb"\x80[\x02-\x05]", head):
        return WEIGHTS if b"torch" in head or head.startswith(_TORCH_MAGIC) else _PICKLE
    return _PICKLE if head.startswith((b"\x78\x9c", b"\x78\x01", b"\x78\xda")) else None  # joblib's compressed ones


def _safetensors(head: bytes, _: BinaryIO, size: int) -> Found:
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] < size:
        return Foreign(
            "a safetensors file, which has weights but no computation", "Export the whole model, for example as ONNX."
        )
    return None


def _text(head: bytes, opened: BinaryIO, size: int) -> Found:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<?xml", b"<net")):
        if b"<net" not in start:
            return None
        opened.seek(max(0, size - 256))
        is_whole = opened.read().rstrip().endswith(b"</net>")
        return OPENVINO if is_whole else Broken("a truncated OpenVINO graph")
    if re.match(rb"<!doctype html|<html", start, re.IGNORECASE):
        return Foreign("a web page, as a failed download leaves it", "Download the model again and check the address.")
    if start.startswith(b"{"):
        return _json(head, opened, size)
    if start.startswith(b"[") and b'"weights"' in head:
        return Foreign(
            "the weights manifest of a TensorFlow.js model",
            "Give the path of its model.json. Without one, its computation is JavaScript code (as for face-api.js).",
        )
    if re.match(rb"(node|library|versions|saved_model_schema_version|meta_graphs|graph_def)\s*[:{]", start):
        return Foreign(
            "a TensorFlow graph as text",
            'Convert it: python -c "import tensorflow as tf; from google.protobuf import text_format;'
            " open('{raw_stem}.pb', 'wb').write(text_format.Parse(open('{raw}').read(),"
            ' tf.compat.v1.GraphDef()).SerializeToString())"',
        )
    if re.match(rb"(name|layer|layers|input)\s*[:{]", start) and b"type:" in head:
        return Foreign("a Caffe network without its weights", _CAFFE.advice)
    return None


def _json(head: bytes, opened: BinaryIO, size: int) -> Found:
    if any(key in head for key in _TFJS_KEYS):
        return TFJS_GRAPH if b'"graph-model"' in head or b'"node"' in head else TFJS_LAYERS
    if b'"class_name"' in head:
        return Foreign("a Keras model without its weights", "Save the whole model: model.save('{raw_stem}.keras')")
    if HEAD_BYTES < size <= tfjs.MAX_JSON_BYTES and len(head) <= HEAD_BYTES:
        opened.seek(0)
        return _json(opened.read(), opened, size)  # metadata of any length may come first
    return None


# --- protocol buffers


def _protobuf(opened: BinaryIO, size: int) -> Found:
    """Distinguishes models by the numbers and contents of their outermost fields."""
    opened.seek(0)
    fields, is_cut = [], False
    try:
        for field in read_fields(opened, 0, size):
            fields.append(field)
            if len(fields) >= MAX_FIELDS:
                break
    except IndexError:
        is_cut = True
    except ValueError:
        return None
    if not fields:
        return None
    found = next((each for each, matches in _MESSAGES if matches(fields)), None)
    if is_cut and found is not None:
        what = found.what if isinstance(found, Foreign | Broken) else f"a model ({found})"
        return Broken(f"{what}, but truncated")
    return found


def is_message(file: Path, numbers: Set[int]) -> bool:
    """Whether a file is a whole protocol buffer with no other fields than these. Raises `OSError`."""
    with file.open("rb") as opened:
        try:
            found = {field.number for field in islice(read_fields(opened, 0, file.stat().st_size), MAX_FIELDS)}
        except (IndexError, ValueError):
            return False
    return found <= numbers


def onnx_tensors_without_rank(file: Path) -> frozenset[str]:
    """The inputs and outputs of an ONNX file that may have any shape; ONNX Runtime calls them scalars."""
    found = set()
    with file.open("rb") as opened:
        try:
            for graph in inside(opened, 7, 0, file.stat().st_size):
                for number in (11, 12):
                    for tensor in inside(opened, number, graph.at, graph.end):
                        if _has_no_shape(opened, tensor):
                            found.add(_text_of(opened, next(inside(opened, 1, tensor.at, tensor.end))))
        except (IndexError, ValueError, StopIteration):
            return frozenset()
    return frozenset(found)


def _has_no_shape(opened: BinaryIO, tensor: FileField) -> bool:
    types = [
        each for type_ in inside(opened, 2, tensor.at, tensor.end) for each in inside(opened, 1, type_.at, type_.end)
    ]
    return bool(types) and not any(True for _ in inside(opened, 2, types[0].at, types[0].end))


def _text_of(opened: BinaryIO, field: FileField) -> str:
    opened.seek(field.at)
    return opened.read(field.end - field.at).decode(errors="replace")


def _bytes_of(fields: list[FileField], number: int) -> list[bytes]:
    return [field.start for field in fields if field.number == number and field.value is None]


def _numbers(fields: list[FileField]) -> set[int]:
    return {field.number for field in fields}


def _version(fields: list[FileField]) -> int | None:
    return next((field.value for field in fields if field.number == 1), None)


def _is_onnx(fields: list[FileField]) -> bool:
    numbers = _numbers(fields)
    return _version(fields) is not None and 7 in numbers and max(numbers) <= 30


def _is_onnx_without_graph(fields: list[FileField]) -> bool:
    numbers = _numbers(fields)
    return _version(fields) is not None and 8 in numbers and max(numbers) <= 30


def _is_onnx_graph(fields: list[FileField]) -> bool:
    """Nodes and outputs, without the model around them."""
    numbers = _numbers(fields)
    return {1, 12} <= numbers <= {1, 2, 5, *range(10, 17)} and bool(_bytes_of(fields, 1))


def _is_core_ml(fields: list[FileField]) -> bool:
    return _version(fields) is not None and any(field.number in _LAYER_TYPES for field in fields)


def _is_saved_model(fields: list[FileField]) -> bool:
    return _version(fields) == 1 and _numbers(fields) == {1, 2}


def _is_graph(fields: list[FileField]) -> bool:
    nodes = _bytes_of(fields, 1)
    return bool(nodes) and _numbers(fields) <= {1, 2, 3, 4} and _is_node(nodes[0])


def _is_node(data: bytes) -> bool:
    """Begins with a name and the type of an operation."""
    texts = []
    at = 0
    for key in (0x0A, 0x12):
        if at + 1 >= len(data) or data[at] != key:
            return False
        try:
            length, at = varint(data, at + 1)
        except (IndexError, ValueError):
            return False
        texts.append(data[at : at + length])
        at += length
    return bool(_OPERATION.fullmatch(texts[1]))


def _is_meta_graph(fields: list[FileField]) -> bool:
    numbers = _numbers(fields)
    return fields[0].number == 1 and {1, 2} <= numbers <= {1, 2, 3, 4, 5, 6, 7} and not _is_graph(fields)


def _is_paddle(fields: list[FileField]) -> bool:
    blocks = _bytes_of(fields, 1)
    return bool(blocks) and blocks[0].startswith(b"\x08\x00\x10") and _numbers(fields) <= {1, 4, 5}


def _is_caffe(fields: list[FileField]) -> bool:
    return bool(_bytes_of(fields, 100)) or (bool(_bytes_of(fields, 2)) and _bytes_of(fields, 1)[:1] != [])


_MESSAGES: list[tuple[str | Foreign | Broken, Callable[[list[FileField]], bool]]] = [
    (_CORE_ML, _is_core_ml),
    (ONNX, _is_onnx),
    (Broken("an ONNX file without its graph"), _is_onnx_without_graph),
    (Foreign("the graph of an ONNX model alone", "Save the whole model: onnx.save(model, '{raw_stem}.onnx')"),
     _is_onnx_graph),
    (Foreign("the graph of a SavedModel", "Name it saved_model.pb and give the path of its folder."), _is_saved_model),
    (FROZEN_GRAPH, _is_graph),
    (PADDLE, _is_paddle),
    (Foreign("a TF1 meta graph", "Give the path of a checkpoint: its name must end in .meta."), _is_meta_graph),
    (_CAFFE, _is_caffe),
]  # fmt: skip
