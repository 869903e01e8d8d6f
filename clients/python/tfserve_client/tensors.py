"""Tensors of the Open Inference Protocol v2: as bytes with numpy, as JSON without it.

Bytes are little-endian and row-major. An element of BYTES is its length in 4 bytes, followed by its bytes. BF16 is the
upper half of a float32, and is decoded to float32, as numpy has no such type.
"""

from __future__ import annotations

import json
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import httpx

from tfserve_client.core import encoded
from tfserve_client.errors import Invalid, UnexpectedResponse

LENGTH = "Inference-Header-Content-Length"
DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64", "int8": "INT8",
    "int16": "INT16", "int32": "INT32", "int64": "INT64", "float16": "FP16", "bfloat16": "BF16", "float32": "FP32",
    "float64": "FP64",
}  # fmt: skip
DEFAULT_TYPES = ("float64", "int64")
NUMPY_TYPES = {datatype: name for name, datatype in DATATYPES.items()}


@dataclass(frozen=True)
class Body:
    """The body of a request, and its headers."""

    content: bytes
    headers: dict[str, str]


def infer_body(
    inputs: Mapping[str, Any],
    datatypes: Mapping[str, str],
    *,
    outputs: Sequence[str] | None = None,
    parameters: Mapping[str, Any] | None = None,
) -> Body:
    """The body of `infer`. `datatypes` has those of the inputs that are not arrays. Raises `Invalid`."""
    with_numpy = numpy() is not None
    tensors, tail = [], []
    for name, value in inputs.items():
        tensor, data = (_binary if with_numpy else _json)(name, value, datatypes.get(name))
        tensors.append(tensor)
        tail += [data] if data is not None else []
    head: dict[str, Any] = {"inputs": tensors, "parameters": {**(parameters or {}), "binary_data_output": with_numpy}}
    if outputs is not None:
        head["outputs"] = [{"name": name} for name in outputs]
    text = encoded(head)
    if not tail:
        return Body(text, {"Content-Type": "application/json"})
    headers = {"Content-Type": "application/octet-stream", LENGTH: str(len(text))}
    return Body(b"".join([text, *tail]), headers)


def read_outputs(response: httpx.Response) -> dict[str, Any]:
    """The outputs by name: arrays, or nested lists without numpy."""
    length = response.headers.get(LENGTH)
    content = response.content
    size = len(content) if length is None else int(length)
    try:
        head = json.loads(content[:size])
    except ValueError:
        raise UnexpectedResponse(f"Expected the outputs of a model from {response.url}, got invalid JSON.") from None
    rest = memoryview(content)[size:]
    outputs = {}
    for each in head["outputs"]:
        count = each.get("parameters", {}).get("binary_data_size")
        if count is None:
            outputs[each["name"]] = _from_json(each)
        else:
            outputs[each["name"]] = _from_bytes(each, rest[:count])
            rest = rest[count:]
    return outputs


def numpy() -> Any:
    """The module numpy, or None if it is not installed."""
    try:
        import numpy as module
    except ImportError:
        return None
    return module


def is_array(value: Any) -> bool:
    """Whether a value is an array of numpy, or of a library whose arrays can become one."""
    return hasattr(value, "__array__")


def has_meant_type(value: Any) -> bool:
    """Whether a value has a type that was chosen. float64 and int64 are what numpy makes of plain numbers."""
    return is_array(value) and str(getattr(value, "dtype", "")) not in DEFAULT_TYPES


# --- to the server


def _binary(name: str, value: Any, datatype: str | None) -> tuple[dict[str, Any], bytes]:
    np = numpy()
    array = _array(np, name, value, datatype)
    if array.dtype.kind in "OSU":
        found, data = "BYTES", b"".join(_length_prefixed(name, array.ravel().tolist()))
    else:
        known = DATATYPES.get(array.dtype.name)
        if known is None:
            raise Invalid(
                f"Input {name!r} has the dtype {array.dtype}. Expected one of {', '.join(DATATYPES)} or text."
            )
        little = array if array.dtype.itemsize == 1 or known == "BF16" else array.astype(array.dtype.newbyteorder("<"))
        found, data = known, little.tobytes()
    tensor = {"name": name, "datatype": found, "shape": list(array.shape)}
    return {**tensor, "parameters": {"binary_data_size": len(data)}}, data


def _array(np: Any, name: str, value: Any, datatype: str | None) -> Any:
    if is_array(value):
        return _adapted(np, name, np.asarray(value), datatype)
    if datatype == "BYTES":
        return np.array(value, dtype=object)
    if datatype is not None and datatype not in NUMPY_TYPES:
        raise Invalid(f"Input {name!r} takes {datatype}, which this client can't send.")
    try:
        found = np.asarray(value)
        if datatype is None:
            return found
        if found.dtype.kind in "SU":
            raise ValueError("expected numbers, got text")
        with np.errstate(all="ignore"):
            cast = np.asarray(value, "float32" if datatype == "BF16" else NUMPY_TYPES[datatype])
    except (ValueError, TypeError, OverflowError) as error:
        raise Invalid(f"Input {name!r} can't become a tensor of {datatype or 'one type'}: {error}") from None
    cast = _as_bfloat16(np, name, cast) if datatype == "BF16" else cast
    _require_kept(np, name, found, cast, datatype)
    return cast


def _adapted(np: Any, name: str, array: Any, datatype: str | None) -> Any:
    """An array of a default type in the type of the model, if that keeps the numbers (floats: apart from rounding).

    The server refuses the others with what the model takes. Raises `Invalid` for floats that the type can't hold.
    """
    wanted = NUMPY_TYPES.get(datatype or "")
    if wanted is None or wanted == "bfloat16" or array.dtype.name not in DEFAULT_TYPES:
        return array
    with np.errstate(all="ignore"):
        cast = array.astype(wanted, casting="unsafe")
    if array.dtype.kind == "f" and cast.dtype.kind == "f":
        _require_kept(np, name, array, cast, datatype)
        return cast
    return cast if array.dtype.kind == "i" and np.array_equal(cast, array) else array


def _require_kept(np: Any, name: str, given: Any, cast: Any, datatype: str | None) -> None:
    """Numbers must stay the same; as floats they may be rounded, but not become infinite. Raises `Invalid`."""
    if cast.dtype.kind in "biu":
        is_kept = np.asarray(cast == given, bool)
    else:
        is_finite = np.isfinite(cast if cast.dtype.kind == "f" else cast.astype("float32"))
        if given.dtype.kind != "O" and is_finite.all():
            return
        numbers = given.astype("float64") if given.dtype.kind == "O" else given
        is_kept = is_finite | ~np.isfinite(numbers)
        if given.dtype.kind == "O":
            is_kept &= np.asarray(given != None, bool)  # noqa: E711 (of each element)
    if not is_kept.all():
        place = tuple(int(each) for each in np.argwhere(~is_kept)[0])
        raise Invalid(
            f"Input {name!r} takes {datatype} ({_range(np, cast.dtype)}), got {given[place]} at index {list(place)}."
            " Scale or round the numbers before you send them, or send an array of another dtype if the model takes it."
        )


def _range(np: Any, dtype: Any) -> str:
    if dtype.kind == "b":
        return "true or false"
    if dtype.kind in "iu":
        return f"whole numbers from {np.iinfo(dtype).min} to {np.iinfo(dtype).max}"
    most = 3.3895e38 if dtype.kind not in "f" else float(np.finfo(dtype).max)
    return f"numbers up to {most:.6g}"


def _as_bfloat16(np: Any, name: str, array: Any) -> Any:
    try:
        import ml_dtypes  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        raise Invalid(f"Input {name!r} takes BF16. Install ml_dtypes, and send an array of its bfloat16.") from None
    with np.errstate(all="ignore"):
        return array.astype(ml_dtypes.bfloat16)


def _length_prefixed(name: str, values: Sequence[Any]) -> Iterator[bytes]:
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        if not isinstance(data, bytes):
            raise Invalid(f"Input {name!r} takes text or bytes, got {value!r}.")
        yield struct.pack("<I", len(data)) + data


def _json(name: str, value: Any, datatype: str | None) -> tuple[dict[str, Any], None]:
    shape = _shape(value)
    if datatype is None:
        raise Invalid(f"The model has no input {name!r}.")
    return {"name": name, "datatype": datatype, "shape": shape, "data": value}, None


def _shape(value: Any) -> list[int]:
    shape = []
    while isinstance(value, (list, tuple)):
        shape.append(len(value))
        value = value[0] if value else None
    return shape


# --- from the server


def _from_bytes(tensor: Mapping[str, Any], data: memoryview) -> Any:
    np = numpy()
    shape, datatype = tensor["shape"], tensor["datatype"]
    if datatype == "BYTES":
        array = np.empty(prod(shape), dtype=object)
        array[:] = list(_split(data))
        return array.reshape(shape)
    if datatype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
    array = np.frombuffer(data, np.dtype(NUMPY_TYPES[datatype]).newbyteorder("<")).reshape(shape)
    return array if sys.byteorder == "little" else array.astype(array.dtype.newbyteorder("="))


def _split(data: memoryview) -> Iterator[bytes]:
    offset = 0
    while offset < len(data):
        (size,) = struct.unpack_from("<I", data, offset)
        offset += 4 + size
        yield bytes(data[offset - size : offset])


def _from_json(tensor: Mapping[str, Any]) -> Any:
    if (np := numpy()) is None:
        return _nested(iter(tensor["data"]), tensor["shape"])
    datatype = tensor["datatype"]
    kind = object if datatype == "BYTES" else NUMPY_TYPES[datatype]
    return np.array(tensor["data"], dtype=kind).reshape(tensor["shape"])


def _nested(values: Iterator[Any], shape: Sequence[int]) -> Any:
    return next(values) if not shape else [_nested(values, shape[1:]) for _ in range(shape[0])]
