"""The requests of version 2: their fields and types, once."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from tfserve.errors import Invalid
from tfserve.http.bodies import check_text

Parameters = dict[str, Any] | None

NO_DATA = msgspec.Raw(b"")
NULL = msgspec.Raw(b"null")
READ_ALREADY = msgspec.Raw(b"[]")


class InputTensor(msgspec.Struct):
    """One input. Its values are in `data` as JSON, or behind the JSON as `binary_data_size` bytes."""

    name: str
    shape: list[int]
    datatype: str
    parameters: Parameters = None
    data: msgspec.Raw = NO_DATA


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


def decode(text: bytes, decoder: msgspec.json.Decoder[R]) -> R:
    """The request. Raises `Invalid` with what was expected and given. Values of tensors are looked at later."""
    check_text(text)
    try:
        return decoder.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise unreadable(error, decoder.type) from None


def unreadable(error: Exception, request: type[msgspec.Struct]) -> Invalid:
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
