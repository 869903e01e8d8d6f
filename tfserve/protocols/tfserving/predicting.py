"""The JSON of predict: rows or columns in, predictions or outputs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.json_numbers import Numbers
from tfserve.protocols.tfserving import pictures
from tfserve.protocols.tfserving.ragged import told_ragged
from tfserve.serving.models import Model
from tfserve.serving.prediction import Request, Result
from tfserve.tensor_json import OPTIONS, NotJson, decode_leniently, from_array, string, to_array
from tfserve.tensors import BFLOAT16, DTYPES, Array, Ragged, Signature, TensorSpec, check_shape

BYTES_SUFFIX = "_bytes"

ROWS_AT_ONCE = 16 * 1024
"""Outputs with such a name are written as b64."""

ASK_IN_COLUMNS = 'Ask in columns: {"inputs": {"<input>": …}}.'

_NUMPY = (np.ndarray, np.generic)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `Invalid`."""
    try:
        asked = decode_leniently(body)
    except NotJson as error:
        raise Invalid(f"JSON Parse error: {error.detail['cause']}") from None
    if asked.__class__ is not dict:
        raise Invalid('Malformed request: a JSON object was expected, such as {"instances": [[1.0, 2.0]]}.')
    return asked


def signature_of(asked: dict[str, Any], model: Model) -> tuple[str, Signature]:
    """The signature that a request names, or means. Raises `Invalid`."""
    name = asked.get("signature_name") or model.default_signature()
    if not isinstance(name, str):
        raise Invalid("'signature_name' must be text.")
    return name, model.signatures.get(name) or model.signature(name)


class Form(Enum):
    """How something was asked, and so how it is answered."""

    ROWS = "instances"
    COLUMNS = "inputs"
    PICTURES = "files"


def read(body: bytes, model: Model) -> tuple[Request, Form]:
    """What is asked of the model, and how. Raises `Invalid`, `Unsupported`."""
    asked = read_object(body)
    if pictures.are_files(asked, model):
        return pictures.request_of_rows(asked["instances"]), Form.PICTURES
    name, signature = signature_of(asked, model)
    in_rows = "instances" in asked
    if in_rows == ("inputs" in asked):
        given = "both were" if in_rows else "neither was"
        raise Invalid(f"Either 'instances' (a list of rows) or 'inputs' (columns) is expected; {given} given.")
    inputs = _rows(asked["instances"], signature) if in_rows else _columns(asked["inputs"], signature)
    for spec in signature.outputs:
        if spec.dtype not in DTYPES:
            raise Invalid(f"Failed to write JSON value for tensor type {spec.dtype}, which output {spec.name!r} has.")
    return Request(inputs, name), Form.ROWS if in_rows else Form.COLUMNS


def write(result: Result, *, rows: int | None) -> bytes:
    """The answer, in rows if the request had so many. Raises `Invalid` when the outputs are not one row for each."""
    in_rows = rows is not None
    if in_rows and any(array.shape[:1] != (rows,) for array in result.outputs.values()):
        raise _no_rows(result, rows or 0)
    if len(result.outputs) == 1:
        ((name, array),) = result.outputs.items()
        text = from_array(array, tokens=True, b64=name.endswith(BYTES_SUFFIX))
        return (b'{"predictions":' if in_rows else b'{"outputs":') + text + b"}"
    return b'{"predictions":' + _write_rows(result) + b"}" if in_rows else _write_columns(result)


def _rows(instances: Any, signature: Signature) -> dict[str, Array]:
    for spec in signature.inputs:
        if spec.part or spec.shape == ():
            raise _not_in_rows(spec, signature)
    if instances.__class__ is not Numbers:
        if instances.__class__ is not list:
            raise Invalid(f"'instances' takes a list of rows. {_what_it_takes(signature)}")
        if not instances:
            raise Invalid("No values in 'instances' array.")
        if _is_object(instances[0]):
            return _rows_of_objects(instances, signature)
    spec = _only_input(signature, "instances")
    return {spec.name: _array(instances, spec, in_rows=True)}


def _not_in_rows(spec: TensorSpec, signature: Signature) -> Invalid:
    if spec.part:
        return Invalid(
            f"Input {spec.name!r} takes the {spec.part}, which has no rows. Send all inputs in columns:"
            f' {{"inputs": …}}. {_what_it_takes(signature)}'
        )
    return Invalid(
        f"Input {spec.name!r} takes {spec}: one value for the whole request, not one for each row of 'instances'."
        f" {ASK_IN_COLUMNS}"
    )


def _rows_of_objects(instances: list[Any], signature: Signature) -> dict[str, Array]:
    names = {spec.name for spec in signature.inputs}
    for index, row in enumerate(instances):
        if not _is_object(row):
            raise Invalid(f"'instances' has objects and other values, the first at {index}: all must be of one sort.")
        if row.keys() != names:
            raise Invalid(f"Failed to process element: {index} of 'instances' list: {_names_differ(row, names)}")
    return {spec.name: _column(instances, spec) for spec in signature.inputs}


def _column(instances: list[Any], spec: TensorSpec) -> Array:
    values = [row[spec.name] for row in instances]
    if not any(value.__class__ is Numbers for value in values):
        return _array(values, spec, in_rows=True)
    of_one = TensorSpec(spec.name, spec.dtype, None)
    arrays = [_array(value, of_one, in_rows=True) for value in values]
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(sorted({str(list(array.shape)) for array in arrays})[:5])
        raise Invalid(f"Input {spec.name!r} has rows of different shapes, but all must be of one shape: {shapes}.")
    array = arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
    check_shape(array.shape, spec, spec.name)
    return array


def _columns(inputs: Any, signature: Signature) -> dict[str, Array]:
    if not _is_object(inputs):
        spec = _only_input(signature, "inputs")
        return {spec.name: _array(inputs, spec, in_rows=False)}
    missing = [spec.name for spec in signature.inputs if spec.name not in inputs]
    if missing:
        raise Invalid(f"'inputs' lacks {_listed(missing)}{nearest(missing[0], inputs)}. {_what_it_takes(signature)}")
    return {spec.name: _array(inputs[spec.name], spec, in_rows=False) for spec in signature.inputs}


def _array(value: Any, spec: TensorSpec, *, in_rows: bool) -> Array:
    try:
        return to_array(value, spec, spec.name)
    except Ragged as error:
        raise told_ragged(value, error) from None
    except NotJson as error:
        raise Invalid(f"JSON Parse error: {error.detail['cause']}") from None
    except Invalid:
        if spec.dtype in DTYPES:
            raise
        told = f"Conversion of JSON Value to type: {spec.dtype} is not possible, which input {spec.name!r} takes."
        if in_rows:
            raise Invalid(f"Failed to process element: 0 of 'instances' list. Error: {told}") from None
        raise Unsupported(told) from None


def _is_object(value: Any) -> bool:
    """Whether it is an object that names inputs: {"b64": …} is a value."""
    return value.__class__ is dict and value.keys() != {"b64"}


def _only_input(signature: Signature, where: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        form = '[{"<input>": …}, …]' if where == "instances" else '{"<input>": …}'
        raise Invalid(f"'{where}' must name the inputs here: {form}. {_what_it_takes(signature)}")
    return signature.inputs[0]


def _names_differ(row: dict[str, Any], names: set[str]) -> str:
    wrong = [f"it lacks {_listed(sorted(names - row.keys()))}"] if names - row.keys() else []
    if unknown := sorted(row.keys() - names):
        wrong.append(f"there is no input {_listed(unknown)}{nearest(unknown[0], names)}")
    return f"{' and '.join(wrong)}. Each row takes exactly {_listed(sorted(names))}."


def _what_it_takes(signature: Signature) -> str:
    takes = "; ".join(f"{spec.name!r}, {spec}" for spec in signature.inputs)
    return f"The signature takes {takes or 'no inputs'}."


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names[:20]))


def _no_rows(result: Result, rows: int) -> Invalid:
    sizes = "; ".join(f"{name!r} {list(array.shape)}" for name, array in result.outputs.items())
    first = next(iter(result.outputs))
    return Invalid(
        f"Tensor name: {first} has inconsistent batch size: {rows} instances were given and the outputs have the shapes"
        f" {sizes}, which is not one row for each. {ASK_IN_COLUMNS}"
    )


def _write_columns(result: Result) -> bytes:
    texts = [
        orjson.dumps(name) + b":" + from_array(array, tokens=True, b64=name.endswith(BYTES_SUFFIX))
        for name, array in result.outputs.items()
    ]
    return b'{"outputs":{' + b",".join(texts) + b"}}"


def _write_rows(result: Result) -> bytes:
    """A list of objects, one for each row, built piece by piece, so that other threads are not held up."""
    count = len(next(iter(result.outputs.values())))
    pieces = (
        _write_some_rows({name: array[at : at + ROWS_AT_ONCE] for name, array in result.outputs.items()})
        for at in range(0, count, ROWS_AT_ONCE)
    )
    return b"[" + b",".join(pieces) + b"]"


def _write_some_rows(arrays: Mapping[str, Array]) -> bytes:
    """The objects with commas between."""
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays.values()):
        columns = [_elements(name, array) for name, array in arrays.items()]
        rows = [dict(zip(arrays, row, strict=True)) for row in zip(*columns, strict=True)]
        return orjson.dumps(rows, option=OPTIONS)[1:-1]
    keys = [orjson.dumps(name) + b":" for name in arrays]
    texts = [list(map(_cell, _elements(name, array))) for name, array in arrays.items()]
    cells = [b",".join([key + cell for key, cell in zip(keys, row, strict=True)]) for row in zip(*texts, strict=True)]
    return b"{" + b"},{".join(cells) + b"}"


def _cell(element: Any) -> bytes:
    """One output's part of a row, which may be NaN."""
    return from_array(np.asarray(element), tokens=True) if isinstance(element, _NUMPY) else orjson.dumps(element)


def _elements(name: str, array: Array) -> list[Any]:
    """The rows of an output, as orjson takes them."""
    if array.dtype == object:
        return [_text_rows(each, b64=name.endswith(BYTES_SUFFIX)) for each in array.tolist()]
    if array.dtype == BFLOAT16:
        array = array.astype(np.float32)
    return list(np.ascontiguousarray(array))


def _text_rows(value: Any, *, b64: bool) -> Any:
    return [_text_rows(each, b64=b64) for each in value] if isinstance(value, list) else string(value, b64=b64)
