"""Tensors in the messages of v2: raw bytes or typed contents in, raw bytes out.

Raw: little-endian, row-major; a BOOL is a byte, a BYTES element its length (4 bytes) and its bytes, BF16 the upper half
of a float32. Typed contents have no list for FP16 and BF16.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfserve.errors import Invalid, Unsupported
from tfserve.ipc.predictions import join_strings, len_of, split_strings
from tfserve.protocols.oip.inputs import find, require_form
from tfserve.protocols.protos import packed
from tfserve.protocols.protos.oip_pb2 import ModelInferRequest
from tfserve.serving import inputs
from tfserve.tensors import DTYPES, Array, TensorSpec

InputTensor = ModelInferRequest.InferInputTensor


@dataclass(frozen=True, slots=True)
class Datatype:
    """One datatype of v2: TensorFlow's name, how an element lies in memory, and the list of typed contents it is in."""

    name: str
    numpy: np.dtype[Any]
    contents: str | None


_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
_AS_IN_MEMORY = ("bool_contents", "fp32_contents", "fp64_contents")

DATATYPES = {each.v2: Datatype(each.name, each.numpy, _CONTENTS.get(each.v2)) for each in DTYPES.values()}


#: By numpy's types, since this is looked up for every output of every answer.
_NAMES = {each.numpy: name for name, each in DATATYPES.items()}


def datatype_of(array: Array) -> str:
    """The name of an output's type in v2."""
    return _NAMES[array.dtype]


def read_inputs(request: ModelInferRequest, specs: Sequence[TensorSpec]) -> dict[str, Array]:
    """The arrays of a request, which fit `specs`. Raises `Invalid`."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise Invalid(
            f"raw_input_contents has {len(raw)} entries for {len(request.inputs)} inputs. Give one for each, or none."
        )
    arrays: dict[str, Array] = {}
    for index, tensor in enumerate(request.inputs):
        spec = find(tensor.name, specs, "input")
        if tensor.name in arrays:
            raise inputs.repeated(tensor.name, "input")
        arrays[tensor.name] = _read(tensor, raw[index] if raw else None, spec)
    if len(arrays) < len(specs):
        inputs.require_all(arrays, specs)
    return arrays


def to_raw(array: Array) -> bytes:
    return join_strings(array.ravel().tolist()) if array.dtype == object else array.tobytes()


def _read(tensor: InputTensor, raw: bytes | None, spec: TensorSpec) -> Array:
    shape = tuple(tensor.shape)
    require_form(tensor.datatype, shape, spec)
    datatype = DATATYPES[tensor.datatype]
    if raw is None:
        return _typed(tensor, datatype, len_of(shape)).reshape(shape)
    if tensor.HasField("contents"):
        raise Invalid(
            f"Input {tensor.name!r} has contents beside raw_input_contents. Give all inputs the one way or the other."
        )
    return _raw(tensor, raw, datatype, len_of(shape)).reshape(shape)


def _raw(tensor: InputTensor, raw: bytes, datatype: Datatype, count: int) -> Array:
    if datatype.name == "string":
        return _raw_strings(tensor, raw, count)
    size = datatype.numpy.itemsize
    if len(raw) != count * size:
        raise Invalid(
            f"Input {tensor.name!r} of shape {list(tensor.shape)} and datatype {tensor.datatype} takes {count * size}"
            f" bytes; {len(raw)} were given."
        )
    if datatype.name == "bool":
        inputs.require_bools(raw, tensor.name)
    return np.frombuffer(raw, datatype.numpy)


def _raw_strings(tensor: InputTensor, raw: bytes, count: int) -> Array:
    try:
        values = split_strings(raw)
    except ValueError as error:
        raise Invalid(
            f"Input {tensor.name!r} is not BYTES, each element its length in 4 bytes and then its bytes: {error}."
        ) from None
    _require_count(tensor, len(values), count)
    return _objects(values)


def _typed(tensor: InputTensor, datatype: Datatype, count: int) -> Array:
    if datatype.contents is None:
        raise Invalid(f"Input {tensor.name!r} is {tensor.datatype}, which goes into raw_input_contents only.")
    contents = tensor.contents
    values = getattr(contents, datatype.contents)
    if len(values) != count:
        _refuse_elsewhere(tensor, datatype.contents)
        _require_count(tensor, len(values), count)
    if datatype.name == "string":
        return _objects(list(values))
    if datatype.contents in _AS_IN_MEMORY:
        return np.frombuffer(packed.read(contents, datatype.contents), datatype.numpy)
    return _integers(tensor, values, datatype)


def _integers(tensor: InputTensor, values: Sequence[int], datatype: Datatype) -> Array:
    array, limits = packed.integers(values, datatype.numpy), np.iinfo(datatype.numpy)
    if array.size and (array.min() < limits.min or array.max() > limits.max):
        raise Invalid(
            f"Input {tensor.name!r} is {tensor.datatype}, which holds {limits.min} to {limits.max};"
            f" the values given are from {array.min()} to {array.max()}."
        )
    return array.astype(datatype.numpy, copy=False)


def _objects(values: list[bytes]) -> Array:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def _require_count(tensor: InputTensor, given: int, count: int) -> None:
    if given != count:
        raise Invalid(
            f"Input {tensor.name!r} of shape {list(tensor.shape)} takes {count} elements; {given} were given."
        )


def _refuse_elsewhere(tensor: InputTensor, field: str) -> None:
    """Says it when the values are there, but not where they belong."""
    if "shared_memory_region" in tensor.parameters:
        raise Unsupported(f"Input {tensor.name!r} is in shared memory, which is not read here. Send its bytes.")
    filled = [each.name for each, _ in tensor.contents.ListFields() if each.name != field]
    if filled:
        raise Invalid(f"Input {tensor.name!r} is {tensor.datatype}, which goes into {field}; {filled[0]} was given.")
