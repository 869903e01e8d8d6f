"""The inputs of an infer request as arrays that fit the model's signature."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.protocols.oip import binary, json_tensors
from tfserve.protocols.oip.requests import InputTensor, parameter
from tfserve.tensors import DTYPES, MAX_RANK, Array, Shape, Signature, TensorSpec

#: more elements than any body can hold; also what keeps products of sizes from overflowing further down
MAX_ELEMENTS = 2**40


class SharedMemory(Unsupported):
    """Shared memory is not offered here, so {name!r} can't be in it: send and ask for tensors as binary data."""


def read(given: Sequence[InputTensor], tail: memoryview, signature: Signature) -> dict[str, Array]:
    """The arrays by name. `tail` is what stands behind the JSON.

    Raises `Invalid`, which names the input, or lists what there is.
    """
    arrays: dict[str, Array] = {}
    at = 0
    for tensor in given:
        spec = find(tensor.name, signature.inputs, "input")
        if tensor.name in arrays:
            raise Invalid(f"Input {tensor.name!r} is given twice.")
        shape = _shape(tensor, spec)
        size = _binary_size(tensor)
        if size is None:
            arrays[tensor.name] = json_tensors.read(tensor.data, spec, shape, tensor.name)
        else:
            arrays[tensor.name] = binary.read(_piece(tail, at, size, tensor.name), spec, shape, tensor.name)
            at += size
    if at != len(tail):
        raise _left_over(given, at, len(tail))
    if len(arrays) != len(signature.inputs):
        raise _missing(arrays, signature)
    return arrays


def find(name: str, specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """Raises `Invalid`, which lists what there is."""
    for spec in specs:
        if spec.name == name:
            if spec.dtype not in DTYPES:
                raise Invalid(f"The {what} {name!r} is {spec}, a type that this protocol has no name for.")
            return spec
    names = [spec.name for spec in specs]
    raise Invalid(
        f"The model has no {what} {name[:100]!r}{nearest(name, names)}. There are: {', '.join(map(repr, names))}."
    )


def _shape(tensor: InputTensor, spec: TensorSpec) -> Shape:
    """The shape that the request says, which fits."""
    if tensor.datatype != DTYPES[spec.dtype].v2:
        raise Invalid(f"Input {tensor.name!r} is {DTYPES[spec.dtype].v2}; {tensor.datatype[:40]!r} was given.")
    shape = tuple(tensor.shape)
    if spec.accepts(shape) and not (shape and min(shape) < 0) and _elements(shape) < MAX_ELEMENTS:
        return shape
    if spec.accepts((1, *shape)) and spec.is_batched and len(shape) < MAX_RANK:
        hint = " Its first size counts examples: it is 1 for a single one."
    else:
        hint = ""
    given = str(tensor.shape) if len(shape) <= MAX_RANK else f"one of {len(shape)} dimensions"
    raise Invalid(
        f"Input {tensor.name!r} takes {spec}, no negative or huge size; the shape {given[:200]} was given.{hint}"
    )


def _elements(shape: Shape) -> int:
    """As many as there would be if no size were 0."""
    return math.prod([size or 1 for size in shape]) if len(shape) <= MAX_RANK else MAX_ELEMENTS


def _binary_size(tensor: InputTensor) -> int | None:
    """How many bytes behind the JSON are this input's; None when its values are in the JSON."""
    parameters = tensor.parameters
    if parameters:
        if "shared_memory_region" in parameters:
            raise SharedMemory(name=tensor.name)
        size: int | None = parameter(parameters, "binary_data_size", int)
        if size is not None:
            if tensor.data is not None:
                raise Invalid(f"Input {tensor.name!r} has both data and binary_data_size: give one of them.")
            return size
    if tensor.data is None:
        raise Invalid(f"Input {tensor.name!r} has no data: neither data nor binary_data_size is given.")
    return None


def _piece(tail: memoryview, at: int, size: int, name: str) -> memoryview:
    if not 0 <= size <= len(tail) - at:
        raise Invalid(
            f"Input {name!r} has a binary_data_size of {size}, but {len(tail) - at} bytes are left behind the JSON"
            f" (Inference-Header-Content-Length says where that ends)."
        )
    return tail[at : at + size]


def _left_over(given: Sequence[InputTensor], used: int, length: int) -> Invalid:
    last = given[-1].name if given else "none"
    return Invalid(
        f"{length} bytes stand behind the JSON, but the inputs' binary_data_size come to {used}:"
        f" {length - used} are left over after the last input, {last!r}."
    )


def _missing(arrays: dict[str, Array], signature: Signature) -> Invalid:
    missing = [spec.name for spec in signature.inputs if spec.name not in arrays]
    needed = ", ".join(f"{spec.name!r} ({spec})" for spec in signature.inputs)
    return Invalid(f"The input {missing[0]!r} is missing. The model needs: {needed}.")
