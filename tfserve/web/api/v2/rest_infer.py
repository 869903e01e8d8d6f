"""POST …/infer: from a body to an `InferRequest`, and from the outputs to a response."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, TensorSpec
from tfserve.web.api.v2 import json_tensors, raw_tensors
from tfserve.web.api.v2.core import Inference, Output, find, output_tensors, prepare
from tfserve.web.api.v2.requests import InferRequest, InputTensor, decode_infer, parameter
from tfserve.web.http.offload import is_heavy
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.http.responses import RestResponse
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Caller, Options, PredictionResult

PROTOCOL = "v2"
LENGTH_HEADER = b"inference-header-content-length"
MAX_LENGTH = 2**31

_NOTHING = memoryview(b"")


async def infer(
    model: Model, body: bytes, headers: Mapping[bytes, bytes], caller: Caller, *, pinned: bool = False
) -> RestResponse:
    """Raises `Invalid` and the errors of `Model.predict`."""
    options = Options(PROTOCOL, *read_priority_headers(headers), pinned, caller)
    read = partial(_read, model, body, headers.get(LENGTH_HEADER), options)
    return await model.run(read, partial(_write, model), is_heavy=is_heavy(body))


# --- from the body


def _read(model: Model, body: bytes, length: bytes | None, options: Options) -> Inference:
    if length is None:
        inference = prepare(model, decode_infer(body), BodyValues(_NOTHING).read, options)
    else:
        size = length_of_json(length, len(body))
        if body and not size:
            return _read_raw(model, body, options)
        given, values = decode_infer(body[:size]), BodyValues(memoryview(body)[size:])
        inference = prepare(model, given, values.read, options)
        values.require_end(given.inputs)
    for each in inference.outputs:
        if each.spec.dtype in json_tensors.BINARY_ONLY:
            _check_form(each)
    return inference


def _read_raw(model: Model, body: bytes, options: Options) -> Inference:
    """A body without JSON: the data of the model's only input. All outputs are returned as bytes."""
    signature = model.signature(model.default_signature)
    if len(signature.inputs) != 1:
        raise Invalid(
            f"A raw body (Inference-Header-Content-Length: 0) requires a model with one input; {model.name!r} has"
            f" {len(signature.inputs)}. {raw_tensors.SEND_JSON}"
        )
    spec = find(signature.inputs[0].name, signature.inputs, "input")
    array = raw_tensors.read_whole_body(body, spec)
    given = InferRequest([InputTensor(spec.name, list(array.shape), DTYPES[spec.dtype].v2)])
    return prepare(model, given, lambda *_: array, options, binary_outputs=True)


def length_of_json(header: bytes, body_bytes: int) -> int:
    """The JSON length from the header, for a body of `body_bytes`. Raises `Invalid`."""
    text = header.strip()
    if not text.isdigit() or len(text) > len(str(MAX_LENGTH)) or int(text) > min(body_bytes, MAX_LENGTH):
        raise Invalid(
            "Inference-Header-Content-Length must be the length of the JSON in bytes, an integer from 0 to the length"
            f" of the (decompressed) body, {body_bytes}; got {text[:40].decode('latin-1')!r}."
        )
    return int(text)


class BodyValues:
    """The values of the inputs, in the JSON or in the bytes after it, which are in the order of the inputs."""

    __slots__ = ("_tail", "_used")

    def __init__(self, tail: memoryview) -> None:
        self._tail = tail
        self._used = 0

    def read(self, tensor: InputTensor, spec: TensorSpec, shape: Shape) -> Array:
        """Raises `Invalid` with the name of the input."""
        size: int | None = parameter(tensor.parameters, "binary_data_size", int) if tensor.parameters else None
        if (size is None) == (tensor.data is None):
            both = "has no data" if size is None else "has both data and binary_data_size"
            raise Invalid(f"Input {spec.name!r} {both}. Send either data or binary_data_size.")
        if size is None:
            return json_tensors.read(tensor.data, spec, shape)
        return raw_tensors.read(self._next(size, spec.name), spec, shape)

    def require_end(self, inputs: Sequence[InputTensor]) -> None:
        """Raises `Invalid` if there are more bytes than the inputs have."""
        if (left := len(self._tail) - self._used) > 0:
            last = inputs[-1].name if inputs else "none"
            raise Invalid(
                f"The JSON is followed by {len(self._tail)} bytes, but the sum of binary_data_size is {self._used}:"
                f" {left} bytes remain after the last input, {last!r}."
            )

    def _next(self, size: int, name: str) -> memoryview:
        left = len(self._tail) - self._used
        if not 0 <= size <= left:
            raise Invalid(
                f"Input {name!r} has a binary_data_size of {str(size)[:40]}, but only {left} bytes are left after the"
                f" JSON (which ends at Inference-Header-Content-Length)."
            )
        self._used += size
        return self._tail[self._used - size : self._used]


def _check_form(output: Output) -> None:
    """Raises `Invalid` for an output of a type without a JSON form."""
    if not output.is_binary and not output.classes:
        raise Invalid(
            f"Output {output.spec.name!r} is {DTYPES[output.spec.dtype].v2}, which JSON cannot represent. Request it as"
            ' binary data (its parameters: {"binary_data": true}, or those of the request:'
            ' {"binary_data_output": true}).'
        )


# --- to the response


def _write(model: Model, inference: Inference, result: PredictionResult) -> RestResponse:
    """The response. Raises `Invalid` for values that JSON cannot represent."""
    head: dict[str, Any] = {"model_name": model.name, "model_version": str(result.version)}
    if inference.id is not None:
        head["id"] = inference.id
    tail: list[memoryview] = []
    head["outputs"] = written = []
    for name, datatype, array, is_binary in output_tensors(model, result, inference.outputs):
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
        if is_binary:
            tail.append(data := raw_tensors.write(array))
            output["parameters"] = {"binary_data_size": data.nbytes}
        else:
            output["data"] = json_tensors.write(array, name)
        written.append(output)
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if inference.non_finite != "null" and b"null" in text:  # from NaN or infinity, or part of a name
        text = _with_non_finite(head, written, inference.non_finite)
    if not tail:
        return RestResponse(text)
    headers = ((b"content-type", b"application/octet-stream"), (LENGTH_HEADER, b"%d" % len(text)))
    return RestResponse(b"".join([text, *tail]), headers)


def _with_non_finite(head: dict[str, Any], written: Sequence[dict[str, Any]], policy: str) -> bytes:
    for output in written:
        if isinstance(values := output.get("data"), np.ndarray):
            if policy == "literal":
                output["data"] = json_tensors.literal(values)
            else:
                json_tensors.check_finite(values, output["name"])
    return orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
