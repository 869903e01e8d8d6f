"""bfloat16 tensors for ONNX Runtime, whose numpy interface does not support them."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from tfserve.tensors.specs import Array

TYPE = "tensor(bfloat16)"
_ONNX_NUMBER = 16
"""The number of bfloat16 in ONNX's `TensorProto.DataType`."""


def is_used(session: Any) -> bool:
    return any(each.type == TYPE for each in (*session.get_inputs(), *session.get_outputs()))


class BFloat16Run:
    """Called like a session's `run`, for a session with bfloat16 among its inputs or outputs."""

    def __init__(self, session: Any) -> None:
        import onnxruntime

        self._session = session
        self._value = onnxruntime.OrtValue

    def __call__(self, outputs: Sequence[str], given: Mapping[str, Array], options: Any = None) -> list[Array | None]:
        values = {name: self._given(array) for name, array in given.items()}
        return [_array(value) for value in self._session.run_with_ort_values(list(outputs), values, options)]

    def _given(self, array: Array) -> Any:
        if array.dtype != ml_dtypes.bfloat16:
            return self._value.ortvalue_from_numpy(array)
        bits = np.ascontiguousarray(array).view(np.uint16)
        return self._value.ortvalue_from_numpy_with_onnx_type(bits, _ONNX_NUMBER)


def _array(value: Any) -> Array:
    if value.data_type() != TYPE:
        return np.asarray(value.numpy())
    shape = value.shape()
    if not math.prod(shape):
        return np.zeros(shape, ml_dtypes.bfloat16)
    bits = ctypes.cast(value.data_ptr(), ctypes.POINTER(ctypes.c_uint16))
    array: Array = np.ctypeslib.as_array(bits, (math.prod(shape),)).copy().view(ml_dtypes.bfloat16).reshape(shape)
    return array
