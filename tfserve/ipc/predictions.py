"""Messages between web and a model worker: tensors as bytes, in the frames of `tfserve.ipc.prediction_frames`.

A connection carries many requests at once. A response repeats the id of its request; `Drop` cancels a request. Elements
are little-endian and row-major; a string is its length (4 bytes) and its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from tfserve.errors import Failure
from tfserve.tensors.dtypes import DTYPES, NAMES
from tfserve.tensors.specs import Array

DEFAULT_URGENCY = 3
"""Of 0 (first) to 7 (last), as RFC 9218 counts."""

_LENGTH = struct.Struct("<I")


class Tensor(msgspec.Struct, array_like=True, frozen=True):
    """An array as bytes; `dtype` is TensorFlow's name of it."""

    dtype: str
    shape: tuple[int, ...]
    data: memoryview


class ComputeRequest(msgspec.Struct, array_like=True, frozen=True, tag=1):
    """ComputeRequest the outputs named `outputs` of a signature from `tensors`, the inputs named `names`."""

    signature: str
    names: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    urgency: int = DEFAULT_URGENCY


class Drop(msgspec.Struct, array_like=True, tag=2):
    """Cancels request `id` if it has not begun, because its client has gone."""

    id: int


class ComputeResult(msgspec.Struct, array_like=True, tag=3):
    """The outputs, in order. Times are nanoseconds of the whole batch, in which `batch_rows` rows were computed.

    `input_ns` includes the preprocessing of this request: decoding its files.
    """

    tensors: tuple[Tensor, ...]
    queue_ns: int = 0
    input_ns: int = 0
    compute_ns: int = 0
    output_ns: int = 0
    batch_rows: int = 0


class Refusal(msgspec.Struct, array_like=True, tag=4):
    """Why there are no outputs. With `in_full`, TensorFlow's process may compute them."""

    failure: Failure
    in_full: bool = False


_decoder = msgspec.msgpack.Decoder(ComputeRequest)


def decode_sample(packed: bytes) -> ComputeRequest:
    """A request that was kept as msgpack. Tensors stay views of `packed`."""
    ask: ComputeRequest = _decoder.decode(packed)
    return ask


def to_tensor(array: Array) -> Tensor:
    """An array of a type in `DTYPES`, on its way to another process. Bytes are shared with the array if they can be."""
    if array.dtype == object:
        return Tensor("string", array.shape, memoryview(join_strings(array.ravel().tolist())))
    name = NAMES.get(array.dtype) or array.dtype.name
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    # numpy gives no buffer of a bfloat16, and none of an empty array that fits.
    plain = array.view(np.uint16) if name == "bfloat16" else array
    return Tensor(name, array.shape, plain.data if plain.size and plain.ndim else memoryview(plain.tobytes()))


def to_array(tensor: Tensor) -> Array:
    """The array; its memory is the message's, so it is not to be written."""
    if tensor.dtype == "string":
        array = np.empty(len_of(tensor.shape), dtype=object)
        array[:] = split_strings(tensor.data)
        return array.reshape(tensor.shape)
    array = np.frombuffer(tensor.data, dtype=DTYPES[tensor.dtype].numpy).reshape(tensor.shape)
    return array if array.flags.aligned else array.copy()


def join_strings(values: Sequence[bytes]) -> bytes:
    return b"".join([piece for value in values for piece in (_LENGTH.pack(len(value)), value)])


def split_strings(data: memoryview | bytes) -> list[bytes]:
    """Raises `ValueError` when the lengths do not add up."""
    view, values, at = memoryview(data), [], 0
    while at < len(view):
        if at + 4 > len(view):
            raise ValueError(f"a length of 4 bytes was expected at byte {at}, but only {len(view) - at} are left")
        (length,) = _LENGTH.unpack_from(view, at)
        at += 4
        if at + length > len(view):
            raise ValueError(f"an element of {length} bytes was announced, but only {len(view) - at} are left")
        values.append(bytes(view[at : at + length]))
        at += length
    return values


def len_of(shape: Sequence[int]) -> int:
    """How many elements a shape has."""
    count: Any = 1
    for size in shape:
        count *= size
    return int(count)
