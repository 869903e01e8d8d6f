"""TensorFlow.js models on disk: `model.json` and the weight files that it lists.

Read without TensorFlow, so that the supervisor finds missing and truncated files within milliseconds.
"""

from __future__ import annotations

import math
import os
import shlex
from pathlib import Path
from typing import Any

import msgspec

from tfserve.errors import Invalid

MAX_JSON_BYTES = 64 << 20
GRAPH = "graph-model"
LAYERS = "layers-model"
STRING = "string"

DTYPE_BYTES = {"float32": 4, "int32": 4, "bool": 1, "complex64": 8}
"""Size of one element in a weight file. Strings are stored with their lengths."""

_TABLES = ("HashTable", "HashTableV2", "MutableHashTableV2", "LookupTableFind", "LookupTableFindV2")
"""Operations of lookup tables, which TensorFlow.js fills itself."""

QUANTIZED_BYTES = {"uint8": 1, "uint16": 2, "float16": 2}


OLD = ("tensorflowjs_model.pb", "weights_manifest.json")
"""The graph and the manifest of a model in the format of TensorFlow.js before 1.0."""
_COMBINE = (
    "import json; from google.protobuf import json_format as j;"
    " from tensorflow.core.framework.graph_pb2 import GraphDef;"
    " json.dump({'modelTopology': j.MessageToDict(GraphDef.FromString(open('tensorflowjs_model.pb', 'rb').read())),"
    " 'weightsManifest': json.load(open('weights_manifest.json')), 'format': 'graph-model'}, open('model.json', 'w'))"
)


def check_not_old(folder: Path) -> None:
    """Raises `Invalid` with the command that converts it, if it contains a model of TensorFlow.js before 1.0."""
    if all((folder / name).is_file() for name in OLD):
        raise Invalid(
            f"{folder} contains a model in the format of TensorFlow.js before 1.0 ({' and '.join(OLD)}), which no"
            f' runtime can read. Convert it to a model.json: cd {shlex.quote(str(folder))} && python -c "{_COMBINE}"'
        )


class WeightQuantization(msgspec.Struct):
    """`value = scale * stored + min`; float16 has neither."""

    dtype: str
    scale: float = 1.0
    min: float = 0.0


class Weight(msgspec.Struct):
    """One array of weights."""

    name: str
    shape: list[int]
    dtype: str
    quantization: WeightQuantization | None = None

    @property
    def element_bytes(self) -> int:
        return QUANTIZED_BYTES[self.quantization.dtype] if self.quantization else DTYPE_BYTES[self.dtype]

    @property
    def size_bytes(self) -> int:
        """A lower bound for strings: each has at least its length, in 4 bytes."""
        return math.prod(self.shape) * (4 if self.dtype == STRING else self.element_bytes)


class WeightGroup(msgspec.Struct):
    """Weights one after the other in the bytes of all `paths` together."""

    paths: list[str]
    weights: list[Weight]


class ModelJson(msgspec.Struct, rename="camel"):
    """The parts of a `model.json` that are used."""

    model_topology: dict[str, Any]
    weights_manifest: list[WeightGroup]
    format: str | None = None
    signature: dict[str, Any] | None = None
    user_defined_metadata: dict[str, Any] | None = None
    model_initializer: dict[str, Any] | None = None

    @property
    def is_graph(self) -> bool:
        return self.format == GRAPH or (self.format != LAYERS and "node" in self.model_topology)

    def signature_side(self, side: str) -> dict[str, Any]:
        """The signature's `inputs` or `outputs`: descriptions of tensors by name. Older converters put it elsewhere."""
        found = self.signature or (self.user_defined_metadata or {}).get("signature") or {}
        described = found.get(side) if isinstance(found, dict) else None
        return described if isinstance(described, dict) else {}


def read(file: Path) -> ModelJson:
    """Parses the file and checks that all weights are there, and no tables. Raises `Invalid`, `OSError`."""
    model = parse(file)
    _check_tables(file, model)
    for group in model.weights_manifest:
        for weight in group.weights:
            _check_weight(file, weight)
        _check_sizes(file, group)
    return model


def parse(file: Path) -> ModelJson:
    """Parses the file without checking its weights. Raises `Invalid`, `OSError`."""
    if (size := file.stat().st_size) > MAX_JSON_BYTES:
        raise Invalid(f"{file} has {size} bytes (limit for the JSON of a TensorFlow.js model: {MAX_JSON_BYTES}).")
    try:
        return msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"), type=ModelJson)
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(
            f"{file} looks like a TensorFlow.js model but can't be read: {error}. A model.json has modelTopology and"
            " weightsManifest. Save or copy it again."
        ) from None


def shards(file: Path, model: ModelJson) -> list[Path]:
    """The weight files. Raises `Invalid` if one is outside the folder of `model.json`."""
    return [_shard(file, name) for group in model.weights_manifest for name in group.paths]


def _shard(file: Path, name: str) -> Path:
    path = Path(os.path.normpath(name))
    if path.is_absolute() or ".." in path.parts or "\0" in name:
        raise Invalid(
            f"{file} refers to the weight file {name!r} outside its folder. Expected: a path relative to the folder."
        )
    return file.parent / path


def _check_tables(file: Path, model: ModelJson) -> None:
    nodes = model.model_topology.get("node")
    dicts = [each for each in nodes if isinstance(each, dict)] if isinstance(nodes, list) else []
    tables = [node.get("name") for node in dicts if node.get("op") in _TABLES]
    if model.model_initializer or tables:
        which = f"the table {tables[0]!r}" if tables else "a modelInitializer"
        raise Invalid(
            f"{file} has {which}, which TensorFlow.js fills when it loads the model. Such models are not supported:"
            " deploy the SavedModel from which it was converted."
        )


def _check_weight(file: Path, weight: Weight) -> None:
    name = f"{file} has the weights {weight.name!r}"
    if weight.dtype not in (*DTYPE_BYTES, STRING):
        raise Invalid(f"{name} with the dtype {weight.dtype!r}. Expected: {', '.join((*DTYPE_BYTES, STRING))}.")
    if weight.quantization is not None:
        quantized = weight.quantization.dtype
        if quantized not in QUANTIZED_BYTES:
            raise Invalid(f"{name} quantized as {quantized!r}. Expected: {', '.join(QUANTIZED_BYTES)}.")
        allowed = ("float32",) if quantized == "float16" else ("float32", "int32")
        if weight.dtype not in allowed:
            raise Invalid(f"{name} of {weight.dtype} quantized as {quantized}. Expected: {' or '.join(allowed)}.")
    if any(size < 0 for size in weight.shape):
        raise Invalid(f"{name} with the shape {weight.shape}. Expected: no negative sizes.")


def _check_sizes(file: Path, group: WeightGroup) -> None:
    names = ", ".join(group.paths[:5]) or "no file"
    paths = [_shard(file, name) for name in group.paths]
    if missing := [path for path in paths if not path.is_file()]:
        raise Invalid(f"{file} is incomplete: its weight file {missing[0]} is missing. Copy all of its files.")
    found = sum(path.stat().st_size for path in paths)
    expected = sum(weight.size_bytes for weight in group.weights)
    has_strings = any(weight.dtype == STRING for weight in group.weights)
    if found != expected and not (has_strings and found > expected):
        least = "at least " if has_strings else ""
        raise Invalid(
            f"{file} and its weights do not match: expected {least}{expected} bytes in {names}, found"
            f" {found}. Copy all of its files again."
        )
