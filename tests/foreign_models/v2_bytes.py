"""A v2 request with tensors as bytes, and its response, for arrays of any shape and type."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import httpx
import ml_dtypes
import numpy as np

DATATYPES = {
    "bool": "BOOL", "uint8": "UINT8", "uint16": "UINT16", "uint32": "UINT32", "uint64": "UINT64",
    "int8": "INT8", "int16": "INT16", "int32": "INT32", "int64": "INT64",
    "float16": "FP16", "bfloat16": "BF16", "float32": "FP32", "float64": "FP64",
}  # fmt: skip
NUMPY: dict[str, Any] = {datatype: name for name, datatype in DATATYPES.items()} | {"BF16": ml_dtypes.bfloat16}


class Refused(Exception):
    """The server's error message."""


def infer(http: httpx.Client, model: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs by name. Raises `Refused`."""
    bodies = [_encode(array) for array in inputs.values()]
    header = json.dumps(
        {
            "inputs": [
                {"name": name, "shape": list(array.shape), "datatype": DATATYPES.get(array.dtype.name, "BYTES"),
                 "parameters": {"binary_data_size": len(body)}}
                for (name, array), body in zip(inputs.items(), bodies, strict=True)
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()  # fmt: skip
    response = http.post(
        f"/v2/models/{model}/infer",
        content=b"".join([header, *bodies]),
        headers={"Inference-Header-Content-Length": str(len(header))},
    )
    if response.status_code != 200:
        raise Refused(f"{response.status_code} {response.json()['error']}")
    length = int(response.headers.get("Inference-Header-Content-Length", len(response.content)))
    outputs, at = {}, length
    for each in json.loads(response.content[:length])["outputs"]:
        size = each["parameters"]["binary_data_size"]
        outputs[each["name"]] = _decode(response.content[at : at + size], each["datatype"], each["shape"])
        at += size
    return outputs


def _encode(array: Any) -> bytes:
    if array.dtype.name in DATATYPES:
        return bytes(np.ascontiguousarray(array).tobytes())
    values = [value if isinstance(value, bytes) else str(value).encode() for value in array.flat]
    return b"".join(struct.pack("<I", len(value)) + value for value in values)


def _decode(data: bytes, datatype: str, shape: list[int]) -> Any:
    if datatype != "BYTES":
        return np.frombuffer(data, NUMPY[datatype]).reshape(shape)
    values, at = [], 0
    while at < len(data):
        (size,) = struct.unpack_from("<I", data, at)
        values.append(data[at + 4 : at + 4 + size])
        at += 4 + size
    array = np.empty(len(values), object)
    array[:] = values
    return array.reshape(shape)
