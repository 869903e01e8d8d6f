"""Element types, with the names that TensorFlow, numpy and the other libraries and protocols give them."""

from __future__ import annotations

from typing import Any, NamedTuple

import ml_dtypes
import numpy as np


class DType(NamedTuple):
    """A type whose elements can be sent and received.

    `name` is TensorFlow's, which is also numpy's except for strings. `number` is TensorFlow's in its messages, and
    `v1` the name of that number. `v2` is the name in the Open Inference Protocol. `openvino` is empty for types that
    OpenVINO does not exchange as arrays.
    """

    name: str
    kind: str
    numpy: np.dtype[Any]
    number: int
    v1: str
    v2: str
    onnx: str
    openvino: str = ""


_BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
_STRING = np.dtype(object)

_TABLE = (
    DType("bool", "bool", np.dtype("bool"), 10, "DT_BOOL", "BOOL", "tensor(bool)", "boolean"),
    DType("uint8", "int", np.dtype("uint8"), 4, "DT_UINT8", "UINT8", "tensor(uint8)", "u8"),
    DType("uint16", "int", np.dtype("uint16"), 17, "DT_UINT16", "UINT16", "tensor(uint16)", "u16"),
    DType("uint32", "int", np.dtype("uint32"), 22, "DT_UINT32", "UINT32", "tensor(uint32)", "u32"),
    DType("uint64", "int", np.dtype("uint64"), 23, "DT_UINT64", "UINT64", "tensor(uint64)", "u64"),
    DType("int8", "int", np.dtype("int8"), 6, "DT_INT8", "INT8", "tensor(int8)", "i8"),
    DType("int16", "int", np.dtype("int16"), 5, "DT_INT16", "INT16", "tensor(int16)", "i16"),
    DType("int32", "int", np.dtype("int32"), 3, "DT_INT32", "INT32", "tensor(int32)", "i32"),
    DType("int64", "int", np.dtype("int64"), 9, "DT_INT64", "INT64", "tensor(int64)", "i64"),
    DType("float16", "float", np.dtype("float16"), 19, "DT_HALF", "FP16", "tensor(float16)", "f16"),
    DType("bfloat16", "float", _BFLOAT16, 14, "DT_BFLOAT16", "BF16", "tensor(bfloat16)"),
    DType("float32", "float", np.dtype("float32"), 1, "DT_FLOAT", "FP32", "tensor(float)", "f32"),
    DType("float64", "float", np.dtype("float64"), 2, "DT_DOUBLE", "FP64", "tensor(double)", "f64"),
    DType("string", "string", _STRING, 7, "DT_STRING", "BYTES", "tensor(string)"),
)

DTYPES = {dtype.name: dtype for dtype in _TABLE}

BFLOAT16 = _BFLOAT16

#: numpy's types → TensorFlow's names, cached because `dtype.name` takes a microsecond.
NAMES: dict[np.dtype[Any], str] = {dtype.numpy: dtype.name for dtype in _TABLE}

#: TensorFlow's names → those of version 1.
V1_NAMES = {dtype.name: dtype.v1 for dtype in _TABLE} | {"complex64": "DT_COMPLEX64", "complex128": "DT_COMPLEX128"}

#: TensorFlow's numbers of its other types, which a model may have but no protocol of this server can exchange.
OTHER_NUMBERS = {
    8: "complex64", 11: "qint8", 12: "quint8", 13: "qint32", 15: "qint16", 16: "quint16", 18: "complex128",
    20: "resource", 21: "variant", 24: "float8_e5m2", 25: "float8_e4m3fn", 26: "float8_e4m3fnuz",
    27: "float8_e4m3b11fnuz", 28: "float8_e5m2fnuz", 29: "int4", 30: "uint4", 31: "int2", 32: "uint2",
    33: "float4_e2m1fn",
}  # fmt: skip

#: The same types in the names of ONNX Runtime (without `tensor()`) and OpenVINO.
OTHER_ONNX = {
    "float8e4m3fn": "float8_e4m3fn", "float8e4m3fnuz": "float8_e4m3fnuz", "float8e5m2": "float8_e5m2",
    "float8e5m2fnuz": "float8_e5m2fnuz", "float8e8m0": "float8_e8m0fnu", "float4e2m1": "float4_e2m1fn",
}  # fmt: skip
OTHER_OPENVINO = {
    "bf16": "bfloat16", "f4e2m1": "float4_e2m1fn", "f8e4m3": "float8_e4m3fn", "f8e5m2": "float8_e5m2",
    "f8e8m0": "float8_e8m0fnu", "i4": "int4", "u1": "uint1", "u4": "uint4",
}  # fmt: skip
