"""Large JSON requests: numbers go straight into arrays instead of through a million Python objects.

simdjson drops the nesting, so that is proven from the text: a nested list is right when its brackets and commas are
those that its shape has. Whatever is not plainly right is left to the general way, which tells what is wrong with it.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import msgspec
import numpy as np
import simdjson

from tfserve.protocols.oip.requests import READ_ALREADY, InferRequest
from tfserve.tensors import MAX_RANK, Array

LARGE_BYTES = 16 * 1024

#: how the elements of each datatype are read: the letter of simdjson, and the numpy type of its buffer
_WIDE: dict[str, tuple[Literal["d", "i", "u"], type[Any]]] = {
    "FP32": ("d", np.float64),
    "FP64": ("d", np.float64),
    **{f"INT{bits}": ("i", np.int64) for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": ("u", np.uint64) for bits in (8, 16, 32, 64)},
}
_KEY = b'"data"'
_NOT_SKELETON = bytes(set(range(256)) - set(b"[],"))
_SPACE = b" \t\r\n"


def decode(body: bytes) -> tuple[InferRequest, list[Array]] | None:
    """The request without its data, and the data of each input as a flat, wide array; None for the general way."""
    try:
        document: Any = simdjson.Parser().parse(body)
        if not isinstance(document, simdjson.Object):
            return None
        request = _request(document)
        inputs: Any = document["inputs"]
        if body.count(_KEY) != len(request.inputs):
            return None  # without data, or with the word in another place
        data, at = [], 0
        for each, tensor in zip(inputs, request.inputs, strict=True):
            at = body.index(_KEY, at) + len(_KEY)
            array = _array(each["data"], body, at, tensor.datatype, tensor.shape)
            if array is None:
                return None
            data.append(array)
            tensor.data = READ_ALREADY
    except (ValueError, RuntimeError, TypeError, KeyError, msgspec.ValidationError):
        return None
    return request, data


def _request(document: Any) -> InferRequest:
    """All but the data, checked as in a small request."""
    plain = {key: _plain(value) for key, value in document.items() if key != "inputs"}
    inputs = [{key: _plain(value) for key, value in each.items() if key != "data"} for each in document["inputs"]]
    return msgspec.convert({**plain, "inputs": inputs}, InferRequest)


def _plain(value: Any) -> Any:
    if isinstance(value, simdjson.Object):
        return value.as_dict()
    return value.as_list() if isinstance(value, simdjson.Array) else value


def _array(data: Any, body: bytes, at: int, datatype: str, shape: list[int]) -> Array | None:
    if datatype not in _WIDE or not isinstance(data, simdjson.Array):
        return None
    letter, kind = _WIDE[datatype]
    array: Array = np.frombuffer(data.as_buffer(of_type=letter), kind)
    start = body.index(b"[", at)
    if body[at:start].strip(_SPACE) != b":":
        return None
    if body.find(b"[", start + 1, body.index(b"]", start)) < 0 or _is_nested_as(shape, body, start, len(array)):
        return array
    return None


def _is_nested_as(shape: list[int], body: bytes, start: int, count: int) -> bool:
    """Whether the list that begins at `start`, of `count` numbers, is nested exactly as the shape says."""
    end = body.find(_KEY, start)
    end = len(body) if end < 0 else end
    if len(shape) > MAX_RANK or min(shape, default=0) < 1 or math.prod(shape) != count:
        return False
    if _skeleton_bytes(shape) > end - start:
        return False
    return body[start:end].translate(None, _NOT_SKELETON).startswith(_skeleton(shape))


def _skeleton(shape: list[int]) -> bytes:
    """The brackets and commas of a list of this shape."""
    text = b""
    for size in reversed(shape):
        text = b"[" + b",".join([text] * size) + b"]"
    return text


def _skeleton_bytes(shape: list[int]) -> int:
    length = 0
    for size in reversed(shape):
        length = size * length + size + 1
    return length
