"""Typed contents of gRPC messages: the values of an input in the list of its datatype. FP16 and BF16 have none."""

from __future__ import annotations

from typing import Any

import numpy as np

from tfserve.errors import Invalid
from tfserve.tensors.casting import out_of_range
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, TensorSpec
from tfserve.web.api.protos.oip_pb2 import InferTensorContents
from tfserve.web.api.v2 import raw_tensors

FIELDS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
}


def read(contents: InferTensorContents, spec: TensorSpec, shape: Shape) -> Array:
    """The array in the contents. Raises `Invalid` with the name of the input."""
    field = FIELDS.get(spec.dtype)
    if field is None:
        raise Invalid(f"Input {spec.name!r} is {DTYPES[spec.dtype].v2}, which can only be sent in raw_input_contents.")
    values = getattr(contents, field)
    filled = [each.name for each, _ in contents.ListFields() if each.name != field]
    if filled:
        raise Invalid(f"Input {spec.name!r} is {DTYPES[spec.dtype].v2}, which belongs in {field}; got {filled[0]}.")
    raw_tensors.require_count(len(values), spec, shape)
    if spec.dtype == "string":
        return raw_tensors.strings(list(values)).reshape(shape)
    return narrow(np.array(values), spec).reshape(shape)


def narrow(values: Array, spec: TensorSpec) -> Array:
    """Numbers of a message in the type of an input. Raises `Invalid` if one is out of range."""
    dtype = DTYPES[spec.dtype]
    if values.dtype == dtype.numpy:
        return values
    limits: Any = np.iinfo(dtype.numpy)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise out_of_range(dtype, spec.name)
    return values.astype(dtype.numpy)
