"""The inputs of an infer request as arrays that fit the model's signature."""

from __future__ import annotations

from collections.abc import Sequence

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.protocols.oip import binary, json_tensors
from tfserve.protocols.oip.requests import InputTensor, parameter
from tfserve.serving import inputs
from tfserve.tensors import DTYPES, Array, Shape, Signature, TensorSpec

DATATYPES = tuple(dtype.v2 for dtype in DTYPES.values())


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
            raise inputs.repeated(tensor.name, "input")
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
        inputs.require_all(arrays, signature.inputs)
    return arrays


def find(name: str, specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """The input or output of that name; `what` says which. Raises `Invalid`, which lists what there is."""
    spec = inputs.find(name, specs, what)
    if spec.dtype not in DTYPES:
        raise Invalid(f"The {what} {name!r} is {spec}, a type that this protocol has no name for.")
    return spec


def require_form(datatype: str, shape: Shape, spec: TensorSpec) -> None:
    """Raises `Invalid` when an input is not given with the datatype and a shape that the model takes."""
    if datatype not in DATATYPES:
        raise Invalid(
            f"Input {spec.name!r} has the unknown datatype {datatype[:40]!r}{nearest(datatype[:40], DATATYPES)}."
            f" There are: {', '.join(DATATYPES)}."
        )
    if datatype != DTYPES[spec.dtype].v2:
        raise Invalid(f"Input {spec.name!r} is {DTYPES[spec.dtype].v2} in the model; {datatype} was given.")
    inputs.require_shape(shape, spec)


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
