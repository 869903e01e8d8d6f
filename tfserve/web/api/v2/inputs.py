"""The inputs of an infer request as arrays, checked against the model's signature."""

from __future__ import annotations

from collections.abc import Sequence

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.tensors.specs import DTYPES, Array, Shape, Signature, TensorSpec
from tfserve.web.api.v2 import binary, json_tensors
from tfserve.web.api.v2.requests import InputTensor, parameter
from tfserve.web.predictions import signature_checks

DATATYPES = tuple(dtype.v2 for dtype in DTYPES.values())


class SharedMemory(Unsupported):
    """Shared memory is not supported, so {name!r} cannot be in it. Send and request tensors as binary data."""


def read(given: Sequence[InputTensor], tail: memoryview, signature: Signature) -> dict[str, Array]:
    """The arrays by name. `tail` is the data after the JSON.

    Raises `Invalid` with the name of the input, or with a list of the available ones.
    """
    arrays: dict[str, Array] = {}
    at = 0
    for tensor in given:
        spec = find(tensor.name, signature.inputs, "input")
        if tensor.name in arrays:
            raise signature_checks.repeated(tensor.name, "input")
        shape = tuple(tensor.shape)
        require_form(tensor.datatype, shape, spec)
        size = _binary_size(tensor)
        if size is None:
            arrays[tensor.name] = json_tensors.read(tensor.data, spec, shape, tensor.name)
        else:
            arrays[tensor.name] = binary.read(_piece(tail, at, size, tensor.name), spec, shape, tensor.name)
            at += size
    if at != len(tail):
        raise _left_over(given, at, len(tail))
    if len(arrays) != len(signature.inputs):
        signature_checks.require_all(arrays, signature.inputs)
    return arrays


def find(name: str, specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """The input or output (`what`) of that name. Raises `Invalid` with a list of the available ones."""
    spec = signature_checks.find(name, specs, what)
    if spec.dtype not in DTYPES:
        raise Invalid(f"The {what} {name!r} is {spec}, a type that this protocol does not support.")
    return spec


def require_form(datatype: str, shape: Shape, spec: TensorSpec) -> None:
    """Raises `Invalid` if datatype or shape do not match what the model takes."""
    if datatype not in DATATYPES:
        raise Invalid(
            f"Input {spec.name!r} has the unknown datatype {datatype[:40]!r}{nearest(datatype[:40], DATATYPES)}."
            f" Valid datatypes: {', '.join(DATATYPES)}."
        )
    if datatype != DTYPES[spec.dtype].v2:
        raise Invalid(f"Input {spec.name!r} is {DTYPES[spec.dtype].v2} in the model, got {datatype}.")
    signature_checks.require_shape(shape, spec)


def _binary_size(tensor: InputTensor) -> int | None:
    """The number of this input's bytes after the JSON; None if its values are in the JSON."""
    parameters = tensor.parameters
    if parameters:
        if "shared_memory_region" in parameters:
            raise SharedMemory(name=tensor.name)
        size: int | None = parameter(parameters, "binary_data_size", int)
        if size is not None:
            if tensor.data is not None:
                raise Invalid(f"Input {tensor.name!r} has both data and binary_data_size. Send only one of them.")
            return size
    if tensor.data is None:
        raise Invalid(f"Input {tensor.name!r} has no data. Send either data or binary_data_size.")
    return None


def _piece(tail: memoryview, at: int, size: int, name: str) -> memoryview:
    if not 0 <= size <= len(tail) - at:
        raise Invalid(
            f"Input {name!r} has a binary_data_size of {size}, but only {len(tail) - at} bytes are left after the JSON"
            f" (which ends at Inference-Header-Content-Length)."
        )
    return tail[at : at + size]


def _left_over(given: Sequence[InputTensor], used: int, length: int) -> Invalid:
    last = given[-1].name if given else "none"
    return Invalid(
        f"The JSON is followed by {length} bytes, but the sum of binary_data_size is {used}:"
        f" {length - used} bytes remain after the last input, {last!r}."
    )
