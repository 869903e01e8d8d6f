"""The requests of version 2: their fields and types, once."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from tfserve import tensor_json
from tfserve.errors import Invalid
from tfserve.json_limits import check_text, without_bom
from tfserve.json_numbers import LONG
from tfserve.tensors import DTYPES

Parameters = dict[str, Any] | None


class InputTensor(msgspec.Struct):
    """One input. Its values are in `data` as JSON, or behind the JSON as `binary_data_size` bytes."""

    name: str
    shape: list[Annotated[int, Meta(extra_json_schema={"minimum": 0})]]
    datatype: Annotated[str, Meta(extra_json_schema={"enum": [dtype.v2 for dtype in DTYPES.values()]})]
    parameters: Parameters = None
    data: Any = None


class WantedOutput(msgspec.Struct):
    name: str
    parameters: Parameters = None


class InferRequest(msgspec.Struct):
    inputs: list[InputTensor]
    id: str | None = None
    parameters: Parameters = None
    outputs: list[WantedOutput] | None = None


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
    """The request, long lists of numbers in its inputs still unread. Raises `Invalid`."""
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
    """The request. Raises `Invalid` with what was expected and given."""
    text = without_bom(text)
    check_text(text)
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise _unreadable(error, decoder.type) from None


def _taken_out(document: Any) -> list[Any]:
    """The data of each input, so that it is not looked at twice."""
    inputs = document.get("inputs") if isinstance(document, dict) else None
    if not isinstance(inputs, list):
        return []
    return [each.pop("data", None) if isinstance(each, dict) else None for each in inputs]


def _unreadable(error: Exception, request: type[msgspec.Struct]) -> Invalid:
    fields = ", ".join(
        f"{field.encode_name}{' (needed)' if field.required else ''}" for field in msgspec.structs.fields(request)
    )
    return Invalid(f"The body must be a JSON object with the fields {fields}: {error}")


def parameter(parameters: Parameters, name: str, kind: type[bool] | type[int] | type[str]) -> Any:
    """The value of a parameter, None when it is not given. Raises `Invalid` when it is not of `kind`."""
    value = parameters.get(name) if parameters else None
    if value is not None and type(value) is not kind:
        word = {bool: "true or false", int: "a whole number", str: "text"}[kind]
        raise Invalid(f"The parameter {name!r} must be {word}, {str(value)[:40]!r} was given.")
    return value
