"""The JSON of predict: rows to predictions, columns to outputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid, Unsupported
from tfserve.tensors.casting import Ragged, cast_few
from tfserve.tensors.dtypes import BFLOAT16, DTYPES
from tfserve.tensors.json_numbers import Numbers
from tfserve.tensors.specs import Array, Signature, TensorSpec, check_shape
from tfserve.tensors.tensor_json import (
    EXPLAINED_BYTES,
    OPTIONS,
    NotJson,
    decode_leniently,
    from_array,
    plain,
    string,
    to_array,
)
from tfserve.web.api.v1 import core, image_requests
from tfserve.web.api.v1.core import PredictCall, PredictFormat, UnsupportedInput, UnsupportedOutput
from tfserve.web.predictions import signature_checks
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Options, PredictionResult

PROTOCOL = "v1"

BYTES_SUFFIX = "_bytes"
"""Outputs with this suffix are written as b64."""

ROWS_AT_ONCE = 16 * 1024

SEND_COLUMNS = 'Send columns instead: {"inputs": {"<input>": …}}.'

_NUMPY = (np.ndarray, np.generic)


def read_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body. Raises `Invalid`."""
    try:
        document = decode_leniently(body)
    except NotJson as error:
        raise Invalid(f"JSON Parse error: {error.detail['cause']}") from None
    if document.__class__ is not dict:
        raise Invalid('Malformed request: expected a JSON object such as {"instances": [[1.0, 2.0]]}.')
    return document


def signature_of(document: dict[str, Any], model: Model) -> tuple[str, Signature]:
    """The signature of a request and its name, or the default one. Raises `Invalid`."""
    name = document.get("signature_name")
    if name and not isinstance(name, str):
        raise Invalid("'signature_name' must be text.")
    return core.signature_of(model, name)


def read(body: bytes, model: Model, options: Options = Options(PROTOCOL)) -> PredictCall:  # noqa: B008
    """Raises `Invalid`, `Unsupported`."""
    document = read_object(body)
    if image_requests.are_files(document, model):
        return PredictCall(image_requests.request_of_rows(document["instances"], options), PredictFormat.FILES)
    name, signature = signature_of(document, model)
    in_rows = "instances" in document
    if in_rows == ("inputs" in document):
        given = "both" if in_rows else "neither"
        raise Invalid(f"Expected either 'instances' (a list of rows) or 'inputs' (columns), got {given}.")
    inputs = _rows(document["instances"], signature) if in_rows else _columns(document["inputs"], signature)
    try:
        core.check_outputs(signature.outputs)
    except UnsupportedOutput as error:
        dtype = error.detail["dtype"]
        raise Invalid(f"Failed to write JSON value for tensor type {dtype}. {error.message}") from None
    if in_rows and signature.with_rows_elsewhere is not None:
        _refuse_rows_elsewhere(signature.with_rows_elsewhere, inputs)
    return PredictCall(options.request(inputs, name), PredictFormat.ROWS if in_rows else PredictFormat.COLUMNS)


def _refuse_rows_elsewhere(spec: TensorSpec, inputs: dict[str, Array]) -> None:
    """A single row is the whole tensor, wherever its dimension is."""
    if any(len(array) > 1 for array in inputs.values()):
        raise Invalid(f"The first dimension of {spec.name!r} does not count the rows of 'instances'. {SEND_COLUMNS}")


def write(prediction: PredictCall, result: PredictionResult) -> bytes:
    """The response, in the form of the request. Raises `Invalid` if outputs do not have one row per instance."""
    outputs = result.outputs
    in_rows = prediction.form is PredictFormat.ROWS
    if in_rows:
        for array in prediction.request.inputs.values():
            rows = len(array)
        for array in outputs.values():
            if not array.ndim or len(array) != rows:
                raise _no_rows(result, rows)
    if len(outputs) == 1:
        for name, array in outputs.items():
            text = from_array(array, tokens=True, b64=name.endswith(BYTES_SUFFIX))
        return (b'{"predictions":' if in_rows else b'{"outputs":') + text + b"}"
    return b'{"predictions":' + _write_rows(result) + b"}" if in_rows else _write_columns(result)


def _rows(instances: Any, signature: Signature) -> dict[str, Array]:
    spec = signature.input_of_rows
    if spec is not None and instances.__class__ is list and (few := cast_few(instances, spec)) is not None:
        return {spec.name: few}
    for spec in signature.inputs:
        if spec.part or spec.shape == ():
            raise _not_in_rows(spec, signature)
    if instances.__class__ is not Numbers:
        if instances.__class__ is not list:
            raise Invalid(f"'instances' must be a list of rows. {_what_it_takes(signature)}")
        if not instances:
            raise Invalid("No values in 'instances' array.")
        if _is_object(instances[0], signature):
            return _rows_of_objects(instances, signature)
    only = _only_input(signature, "instances")
    return {only.name: _array(instances, only, in_rows=True)}


def _not_in_rows(spec: TensorSpec, signature: Signature) -> Invalid:
    if spec.part:
        return Invalid(
            f"Input {spec.name!r} takes the {spec.part}, which has no rows. Send all inputs in columns:"
            f' {{"inputs": …}}. {_what_it_takes(signature)}'
        )
    return Invalid(
        f"Input {spec.name!r} takes {spec}: one value for the whole request, not one per row of 'instances'."
        f" {SEND_COLUMNS}"
    )


def _rows_of_objects(instances: list[Any], signature: Signature) -> dict[str, Array]:
    """All rows have the names of the first one. Optional inputs can be among them, if they have rows."""
    names = {spec.name for spec in signature.inputs}
    given = [spec for spec in signature.optional if spec.name in instances[0]]
    for spec in given:
        if not (spec.is_batched or spec.shape is None):
            raise _not_in_rows(spec, signature)
    names.update(spec.name for spec in given)
    for index, row in enumerate(instances):
        if not _is_object(row, signature):
            raise Invalid(f"'instances' mixes objects and other values (first at index {index}).")
        if row.keys() != names:
            raise _wrong_names(index, row, signature)
    if not names:
        raise Invalid(f"The rows of 'instances' are empty, so they can't be counted. {SEND_COLUMNS}")
    return {spec.name: _column(instances, spec) for spec in signature.takes if spec.name in names}


def _wrong_names(index: int, row: dict[str, Any], signature: Signature) -> Invalid:
    try:
        signature_checks.require_names(row, signature)
    except Invalid as error:
        return Invalid(f"Failed to process element: {index} of 'instances' list: {error.message}")
    return Invalid(
        f"Failed to process element: {index} of 'instances' list: it has other inputs than the first one. Optional"
        " inputs must be set in all rows or in none."
    )


def _column(instances: list[Any], spec: TensorSpec) -> Array:
    values = [row[spec.name] for row in instances]
    if not any(value.__class__ is Numbers for value in values):
        return _array(values, spec, in_rows=True)
    of_one = TensorSpec(spec.name, spec.dtype, None)
    arrays = [_array(value, of_one, in_rows=True) for value in values]
    if len({array.shape for array in arrays}) > 1:
        shapes = ", ".join(sorted({str(list(array.shape)) for array in arrays})[:5])
        raise Invalid(f"All rows of input {spec.name!r} must have the same shape, got {shapes}.")
    array = arrays[0][np.newaxis] if len(arrays) == 1 else np.stack(arrays)
    check_shape(array.shape, spec, spec.name)
    return array


def _columns(inputs: Any, signature: Signature) -> dict[str, Array]:
    if not _is_object(inputs, signature):
        spec = _only_input(signature, "inputs")
        return {spec.name: _array(inputs, spec, in_rows=False)}
    if signature.optional:  # an unknown name could be a misspelt one, which the default would replace silently
        signature_checks.require_names(inputs, signature)
    signature_checks.require_all(inputs, signature.inputs)
    given = [spec for spec in signature.takes if spec.name in inputs]
    return {spec.name: _array(inputs[spec.name], spec, in_rows=False) for spec in given}


def _array(value: Any, spec: TensorSpec, *, in_rows: bool) -> Array:
    try:
        if spec.dtype not in DTYPES:
            core.check_input(spec)
        return to_array(value, spec, spec.name)
    except Ragged as error:
        raise _explained_ragged(value, error) from None
    except NotJson as error:
        raise Invalid(f"JSON Parse error: {error.detail['cause']}") from None
    except UnsupportedInput as error:
        message = f"Conversion of JSON Value to type: {spec.dtype} is not possible. {error.message}"
        if in_rows:
            raise Invalid(f"Failed to process element: 0 of 'instances' list. Error: {message}") from None
        raise Unsupported(message) from None


def _explained_ragged(value: Any, error: Ragged) -> Invalid:
    """With the position of the first list whose length differs from the first one at its level, if any."""
    if value.__class__ is Numbers and len(value.text) > EXPLAINED_BYTES:
        return error
    expected: dict[int, int] = {}
    level = [plain(value)]
    depth = 0
    while level:
        lists = [each for each in level if each.__class__ is list]
        for each in lists:
            size = expected.setdefault(depth, len(each))
            if len(each) != size:
                position = f"Encountered list at unexpected size: {len(each)} at level: {depth} expected size: {size}"
                return Invalid(f"{position}. {error.message}")
        level = [inner for each in lists for inner in each if inner.__class__ is list]
        depth += 1
    return error


def _is_object(value: Any, signature: Signature) -> bool:
    """Whether it is an object with inputs by name. {"b64": text} is a value, also if an input is called b64."""
    if value.__class__ is not dict or value.keys() != {"b64"}:
        return value.__class__ is dict
    return value["b64"].__class__ is not str and any(spec.name == "b64" for spec in signature.takes)


def _only_input(signature: Signature, where: str) -> TensorSpec:
    if len(signature.inputs) != 1:
        form = '[{"<input>": …}, …]' if where == "instances" else '{"<input>": …}'
        raise Invalid(f"'{where}' must name the inputs: {form}. {_what_it_takes(signature)}")
    return signature.inputs[0]


def _what_it_takes(signature: Signature) -> str:
    takes = "; ".join(f"{spec.name!r}, {spec}" for spec in signature.inputs)
    optional = "".join(f"; optionally {spec.name!r}, {spec}" for spec in signature.optional)
    return f"The signature takes {takes or 'no inputs'}{optional}."


def _no_rows(result: PredictionResult, rows: int) -> Invalid:
    sizes = "; ".join(f"{name!r} {list(array.shape)}" for name, array in result.outputs.items())
    first = next(iter(result.outputs))
    return Invalid(
        f"Tensor name: {first} has inconsistent batch size: {rows} instances, but outputs of shapes"
        f" {sizes}, which are not one row per instance. {SEND_COLUMNS}"
    )


def _write_columns(result: PredictionResult) -> bytes:
    texts = [
        orjson.dumps(name) + b":" + from_array(array, tokens=True, b64=name.endswith(BYTES_SUFFIX))
        for name, array in result.outputs.items()
    ]
    return b'{"outputs":{' + b",".join(texts) + b"}}"


def _write_rows(result: PredictionResult) -> bytes:
    """A list of objects, one per row, built in chunks, which lets other threads run."""
    count = len(next(iter(result.outputs.values())))
    pieces = (
        _write_some_rows({name: array[at : at + ROWS_AT_ONCE] for name, array in result.outputs.items()})
        for at in range(0, count, ROWS_AT_ONCE)
    )
    return b"[" + b",".join(pieces) + b"]"


def _write_some_rows(arrays: Mapping[str, Array]) -> bytes:
    """The objects, separated by commas."""
    if all(array.dtype.kind != "f" or np.isfinite(array).all() for array in arrays.values()):
        columns = [_elements(name, array) for name, array in arrays.items()]
        rows = [dict(zip(arrays, row, strict=True)) for row in zip(*columns, strict=True)]
        return orjson.dumps(rows, option=OPTIONS)[1:-1]
    keys = [orjson.dumps(name) + b":" for name in arrays]
    texts = [list(map(_cell, _elements(name, array))) for name, array in arrays.items()]
    cells = [b",".join([key + cell for key, cell in zip(keys, row, strict=True)]) for row in zip(*texts, strict=True)]
    return b"{" + b"},{".join(cells) + b"}"


def _cell(element: Any) -> bytes:
    """One output's part of a row, which may contain NaN."""
    return from_array(np.asarray(element), tokens=True) if isinstance(element, _NUMPY) else orjson.dumps(element)


def _elements(name: str, array: Array) -> list[Any]:
    """The rows of an output, for orjson."""
    if array.dtype == object:
        return [_text_rows(each, b64=name.endswith(BYTES_SUFFIX)) for each in array.tolist()]
    if array.dtype == BFLOAT16:
        array = array.astype(np.float32)
    return list(np.ascontiguousarray(array))


def _text_rows(value: Any, *, b64: bool) -> Any:
    return [_text_rows(each, b64=b64) for each in value] if isinstance(value, list) else string(value, b64=b64)
