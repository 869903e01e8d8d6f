"""The requests of version 2: fields and types."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from tfserve.errors import Invalid
from tfserve.tensors import tensor_json
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.json_limits import check_text, without_bom
from tfserve.tensors.json_numbers import LONG, Numbers

Parameters = dict[str, Any] | None


class InputTensor(msgspec.Struct):
    """One input. Its values are in `data`, or in `binary_data_size` bytes after the JSON."""

    name: str
    shape: list[Annotated[int, Meta(extra_json_schema={"minimum": 0})]]
    datatype: Annotated[str, Meta(extra_json_schema={"enum": [dtype.v2 for dtype in DTYPES.values()]})]
    parameters: Parameters = None
    data: Any = None


class RequestedOutput(msgspec.Struct):
    """One output. Without any in the request, all are returned."""

    name: str
    parameters: Parameters = None


class InferRequest(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[RequestedOutput] | None = None


class IndexRequest(msgspec.Struct):
    ready: bool = False


class RepositoryRequest(msgspec.Struct):
    """Load or unload."""

    parameters: Parameters = None


R = TypeVar("R", bound=msgspec.Struct)

infer_request: msgspec.json.Decoder[InferRequest] = msgspec.json.Decoder(InferRequest)
index_request: msgspec.json.Decoder[IndexRequest] = msgspec.json.Decoder(IndexRequest)
repository_request: msgspec.json.Decoder[RepositoryRequest] = msgspec.json.Decoder(RepositoryRequest)


def decode_infer(text: bytes) -> InferRequest:
    """The request, with long lists of numbers still unparsed. Raises `Invalid`."""
    text = without_bom(text)
    if len(text) < LONG:
        return decode(text, infer_request)
    document = tensor_json.decode(text)
    data = _taken_out(document)
    try:
        request = msgspec.convert(document, InferRequest)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _unreadable(error, InferRequest) from None
    for tensor, values in zip(request.inputs, data, strict=True):
        tensor.data = values
    return request


def decode(text: bytes, decoder: msgspec.json.Decoder[R]) -> R:
    """The request. Raises `Invalid` with the expected and given types."""
    text = without_bom(text)
    check_text(text)
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error, decoder.type) from None


def _taken_out(document: Any) -> list[Any]:
    """The data of each input, taken out so that it is not processed twice."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list):
        return []
    for each in inputs:
        if isinstance(each, dict) and isinstance(each.get("shape"), Numbers):
            each["shape"] = tensor_json.plain(each["shape"])
    return [each.pop("data", None) if isinstance(each, dict) else None for each in inputs]


def _unreadable(error: Exception, request: type[msgspec.Struct]) -> Invalid:
    fields = ", ".join(
        f"{field.encode_name}{' (required)' if field.required else ''}" for field in msgspec.structs.fields(request)
    )
    return Invalid(f"The body must be a JSON object with the fields {fields}: {error}")


def parameter(parameters: Parameters, name: str, kind: type[bool] | type[int] | type[str]) -> Any:
    """The value of a parameter, None if it is missing. Raises `Invalid` if it is not of type `kind`."""
    value = parameters.get(name) if parameters else None
    if value is not None and type(value) is not kind:
        word = {bool: "true or false", int: "an integer", str: "text"}[kind]
        raise Invalid(f"The parameter {name!r} must be {word}, got {str(value)[:40]!r}.")
    return value
