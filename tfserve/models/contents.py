"""What a single file is, judged by its first bytes and its structure, whatever its name says.

Reads a few kilobytes (all of a JSON file), runs nothing of the file and imports no runtime, so that any program may ask
at any time.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Iterator, Set
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

from tfserve.models import tfjs

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
    """A file that no runtime reads: what it is, and what to do about it.

    In the advice `{path}` and `{stem}` (without suffix) are quoted for a shell, `{raw}` and `{raw_stem}` are not.
    """

    what: str
    advice: str


class Broken(NamedTuple):
    """A file that begins like a model and does not go on like one."""

    what: str


Found = str | Foreign | Broken | None

_RENAME = "It is not a model by itself."
_TORCH = (
    'Convert it where PyTorch is installed: pip install openvino packaging && python -c "import torch, openvino as ov;'
    " ov.save_model(ov.convert_model(torch.{load}('{raw}')), '{raw_stem}.xml', compress_to_fp16=False)\""
    " What OpenVINO can't convert may be exported as ONNX by torch.onnx.export, from the code of the model."
)
SCRIPT = Foreign("a TorchScript model", _TORCH.replace("{load}", "jit.load"))
EXPORTED = Foreign("a program exported by PyTorch", _TORCH.replace("{load}", "export.load"))
WEIGHTS = Foreign(
    "a file saved by torch.save, which holds Python objects or weights without a computation",
    "Load it into its model and export that where PyTorch is installed:"
    ' pip install onnx onnxscript && python -c "import torch;'
    " torch.onnx.export(model, example_input, '{raw_stem}.onnx')\"",
)
_PICKLE = Foreign(
    "a Python pickle, which runs code when it is read and is never loaded",
    "Export the model as ONNX where it was trained, for scikit-learn:"
    " pip install skl2onnx && python -c \"import joblib, numpy, skl2onnx; m = joblib.load('{raw}');"
    " open('{raw_stem}.onnx', 'wb').write(skl2onnx.to_onnx(m, numpy.zeros((1, m.n_features_in_), 'float32'),"
    " options=dict(zipmap=False) if hasattr(m, 'predict_proba') else None).SerializeToString())\"."
    " Compare predictions of both before you rely on it.",
)
_ARCHIVE = "Unpack it and give the path of the model in it: {command}"
_CORE_ML = Foreign("a Core ML model", "Export the model as ONNX from the program that made it.")
_CAFFE = Foreign(
    "a Caffe model",
    "Convert it, with its network in {stem}.prototxt, in a virtual environment of its own:"
    " pip install caffe-onnx && caffe2onnx {stem}.prototxt {stem}.caffemodel model {stem}_onnx",
)

_STARTS: list[tuple[int, bytes, str | Foreign]] = [
    (0, b"\x89HDF\r\n\x1a\n", HDF5),
    (4, b"TFL3", LITERT),
    (4, b"ORTM", ORT),
    (0, b"GGUF", Foreign("a GGUF language model", "Serve it with llama.cpp: llama-server -m {path}")),
    (0, b"LITERTLM", Foreign("a LiteRT-LM language model", "Serve it: pip install litert-lm && litert-lm run {path}")),
    (0, b"ftrt", Foreign("a TensorRT engine, made for one GPU", "Deploy the ONNX file that it was built from.")),
    (0, b"\x1f\x8b", Foreign("a gzip archive", _ARCHIVE.format(command="tar xzf {path}"))),
    (0, b"BZh", Foreign("a bzip2 archive", _ARCHIVE.format(command="tar xjf {path}"))),
    (0, b"\xfd7zXZ", Foreign("an xz archive", _ARCHIVE.format(command="tar xJf {path}"))),
    (257, b"ustar", Foreign("a tar archive", _ARCHIVE.format(command="tar xf {path}"))),
    (0, b"\x93NUMPY", Foreign("a numpy array", _RENAME)),
    (0, b"\x7fELF", Foreign("a program or library", _RENAME)),
]  # fmt: skip

_TORCH_MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."

_TFJS_KEYS = (b'"modelTopology"', b'"weightsManifest"', b'"graph-model"', b'"layers-model"')
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
                return _hdf5(head, size) if found == HDF5 else found
        for recognise in (_zip, _pickle, _safetensors, _text):
            if (known := recognise(head, opened, size)) is not None:
                return known
        return _protobuf(opened, size)


def _hdf5(head: bytes, size: int) -> Found:
    """The superblock says where the file ends."""
    at = 40 if head[8] < 2 else 28
    (end,) = struct.unpack_from("<Q", head, at) if len(head) >= at + 8 else (0,)
    return HDF5 if end <= size else Broken(f"a Keras HDF5 file of which only {size} of {end} bytes are there")


def _zip(head: bytes, opened: BinaryIO, _: int) -> Found:
    if not head.startswith(b"PK\x03\x04"):
        return None
    try:
        with zipfile.ZipFile(opened) as archive:
            names = archive.namelist()[:MAX_FIELDS]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return Broken("a zip file (Keras and PyTorch save models as such) without its end")
    ends = {name.rpartition("/")[2] for name in names}
    folders = {part for name in names for part in name.split("/")[:-1]}
    if {"config.json", "metadata.json"} <= set(names):
        return KERAS
    if "archive_format" in ends or "serialized_exported_program.json" in ends:
        return EXPORTED
    if "data.pkl" in ends:
        return SCRIPT if "code" in folders or "constants.pkl" in ends else WEIGHTS
    if names and all(name.endswith(".npy") for name in names):
        return Foreign("a file of numpy arrays, weights without a computation", _RENAME)
    return Foreign("a zip archive", _ARCHIVE.format(command="unzip {path}"))


def _pickle(head: bytes, _: BinaryIO, __: int) -> Found:
    if re.match(rb"\x80[\x02-\x05]", head):
        return WEIGHTS if b"torch" in head or head.startswith(_TORCH_MAGIC) else _PICKLE
    return _PICKLE if head.startswith((b"\x78\x9c", b"\x78\x01", b"\x78\xda")) else None  # joblib's compressed ones


def _safetensors(head: bytes, _: BinaryIO, size: int) -> Found:
    if len(head) > 9 and head[8:9] == b"{" and struct.unpack_from("<Q", head)[0] < size:
        return Foreign("a safetensors file, weights without a computation", "Export the whole model, as ONNX say.")
    return None


def _text(head: bytes, opened: BinaryIO, size: int) -> Found:
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"<?xml", b"<net")):
        if b"<net" not in start:
            return None
        opened.seek(max(0, size - 256))
        is_whole = opened.read().rstrip().endswith(b"</net>")
        return OPENVINO if is_whole else Broken("an OpenVINO graph without its end")
    if start.startswith(b"{"):
        return _json(head, opened, size)
    if start.startswith(b"[") and b'"weights"' in head:
        return Foreign("the list of weights of a TensorFlow.js model", "Give the path of its model.json.")
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
        return Foreign("a Keras model without its weights", "Save it whole: model.save('{raw_stem}.keras')")
    if HEAD_BYTES < size <= tfjs.MAX_JSON_BYTES and len(head) <= HEAD_BYTES:
        opened.seek(0)
        return _json(opened.read(), opened, size)  # metadata of any length may come first
    return None


# --- protocol buffers


class _Field(NamedTuple):
    number: int
    #: None for bytes
    value: int | None
    start: bytes
    #: where its bytes are in the file
    at: int
    end: int


def _protobuf(opened: BinaryIO, size: int) -> Found:
    """Models are told from each other by the numbers and contents of their outermost fields."""
    opened.seek(0)
    fields, is_cut = [], False
    try:
        for field in _fields(opened, 0, size):
            fields.append(field)
            if len(fields) >= MAX_FIELDS:
                break
    except EOFError:
        is_cut = True
    except ValueError:
        return None
    if not fields:
        return None
    found = next((each for each, matches in _MESSAGES if matches(fields)), None)
    if is_cut and found is not None:
        what = found.what if isinstance(found, Foreign) else f"a model ({found})"
        return Broken(f"the beginning of {what}; the rest is missing")
    return found


def is_message(file: Path, numbers: Set[int]) -> bool:
    """Whether a file is a whole protocol buffer with no other fields than these. Raises `OSError`."""
    with file.open("rb") as opened:
        try:
            found = {field.number for field in islice(_fields(opened, 0, file.stat().st_size), MAX_FIELDS)}
        except (EOFError, ValueError):
            return False
    return found <= numbers


def onnx_tensors_without_rank(file: Path) -> frozenset[str]:
    """The inputs and outputs of an ONNX file that may have any shape; ONNX Runtime calls them scalars."""
    found = set()
    with file.open("rb") as opened:
        try:
            for graph in _inside(opened, 7, 0, file.stat().st_size):
                for number in (11, 12):
                    for tensor in _inside(opened, number, graph.at, graph.end):
                        if _has_no_shape(opened, tensor):
                            found.add(_text_of(opened, next(_inside(opened, 1, tensor.at, tensor.end))))
        except (EOFError, ValueError, StopIteration):
            return frozenset()
    return frozenset(found)


def _has_no_shape(opened: BinaryIO, tensor: _Field) -> bool:
    types = [
        each for type_ in _inside(opened, 2, tensor.at, tensor.end) for each in _inside(opened, 1, type_.at, type_.end)
    ]
    return bool(types) and not any(True for _ in _inside(opened, 2, types[0].at, types[0].end))


def _text_of(opened: BinaryIO, field: _Field) -> str:
    opened.seek(field.at)
    return opened.read(field.end - field.at).decode(errors="replace")


def _inside(opened: BinaryIO, number: int, at: int, end: int) -> Iterator[_Field]:
    return (field for field in _fields(opened, at, end) if field.number == number)


def _fields(opened: BinaryIO, at: int, size: int) -> Iterator[_Field]:
    """The fields between two positions, with the first bytes of each. Raises `ValueError`; `EOFError` if cut off."""
    while at < size:
        opened.seek(at)
        head = opened.read(256)
        key, used = _varint(head, 0)
        number, wire = key >> 3, key & 7
        if not 0 < number < 1 << 29 or wire not in (0, 1, 2, 5):
            raise ValueError("not a protocol buffer")
        value, end = _varint(head, used) if wire in (0, 2) else (0, used + (8 if wire == 1 else 4))
        begun, at = at + end, at + end + (value if wire == 2 else 0)
        yield _Field(number, None if wire == 2 else value, head[end : end + value] if wire == 2 else b"", begun, at)
    if at > size:
        raise EOFError


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data):
            raise EOFError
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if data[at - 1] < 0x80:
            return value, at
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _bytes_of(fields: list[_Field], number: int) -> list[bytes]:
    return [field.start for field in fields if field.number == number and field.value is None]


def _version(fields: list[_Field]) -> int | None:
    return next((field.value for field in fields if field.number == 1), None)


def _is_onnx(fields: list[_Field]) -> bool:
    numbers = {field.number for field in fields}
    return _version(fields) is not None and bool(numbers & {7, 8}) and max(numbers) <= 30


def _is_core_ml(fields: list[_Field]) -> bool:
    return _version(fields) is not None and any(field.number in _LAYER_TYPES for field in fields)


def _is_saved_model(fields: list[_Field]) -> bool:
    return _version(fields) == 1 and {field.number for field in fields} == {1, 2}


def _is_graph(fields: list[_Field]) -> bool:
    nodes = _bytes_of(fields, 1)
    return bool(nodes) and {field.number for field in fields} <= {1, 2, 3, 4} and _is_node(nodes[0])


def _is_node(data: bytes) -> bool:
    """Begins with a name and the type of an operation."""
    texts = []
    at = 0
    for key in (0x0A, 0x12):
        if at + 1 >= len(data) or data[at] != key:
            return False
        length, at = _varint(data, at + 1)
        texts.append(data[at : at + length])
        at += length
    return bool(_OPERATION.fullmatch(texts[1]))


def _is_meta_graph(fields: list[_Field]) -> bool:
    numbers = {field.number for field in fields}
    return fields[0].number == 1 and {1, 2} <= numbers <= {1, 2, 3, 4, 5, 6, 7} and not _is_graph(fields)


def _is_paddle(fields: list[_Field]) -> bool:
    blocks = _bytes_of(fields, 1)
    return bool(blocks) and blocks[0].startswith(b"\x08\x00\x10") and {field.number for field in fields} <= {1, 4, 5}


def _is_caffe(fields: list[_Field]) -> bool:
    return bool(_bytes_of(fields, 100)) or (bool(_bytes_of(fields, 2)) and _bytes_of(fields, 1)[:1] != [])


_MESSAGES: list[tuple[str | Foreign, Callable[[list[_Field]], bool]]] = [
    (_CORE_ML, _is_core_ml),
    (ONNX, _is_onnx),
    (Foreign("the graph of a SavedModel", "Name it saved_model.pb and give the path of its folder."), _is_saved_model),
    (FROZEN_GRAPH, _is_graph),
    (PADDLE, _is_paddle),
    (Foreign("a TF1 meta graph", "Give the path of a checkpoint: its name must end in .meta."), _is_meta_graph),
    (_CAFFE, _is_caffe),
]
