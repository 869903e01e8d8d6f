"""Reads JSON request bodies into typed requests, with helpful messages about wrong and unknown fields."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar, cast, get_args

import msgspec
from msgspec import Raw

from tfserve.errors import Invalid, nearest
from tfserve.tensors import json_numbers
from tfserve.tensors.json_limits import check_expansion, check_text, without_bom

R = TypeVar("R", bound=msgspec.Struct)

_UNKNOWN = re.compile(r"unknown field `(.+?)`")
MAX_WARNINGS = 20
MAX_FIELD_CHARACTERS = 100
MAX_LISTED = 50_000
"""Members of objects. To look for fields among more of them would block all other requests of the process."""


class RequestReader(Generic[R]):
    """Reads the requests of one endpoint. Unknown fields only cause a warning, because older clients may send them."""

    def __init__(self, request: type[R]) -> None:
        strict = msgspec.defstruct(request.__name__, [], bases=(request,), kw_only=True, forbid_unknown_fields=True)
        self._strict: msgspec.json.Decoder[R] = msgspec.json.Decoder(cast(type[R], strict))
        self._tolerant = msgspec.json.Decoder(request)

    def read(self, body: bytes, warnings: list[str]) -> R:
        """The request in a body. Appends to `warnings`, even if it raises `Invalid`."""
        try:
            return decode(body, self._strict)
        except Invalid as error:
            if "unknown field" not in error.message:
                raise
        warnings += self._unknown_fields(without_bom(body))
        return decode(body, self._tolerant)

    def _unknown_fields(self, body: bytes) -> list[str]:
        """Warnings. None if there is an error later in the body, which is reported then."""
        if body.count(b":") > MAX_LISTED:
            return ["unknown fields, which are not listed because the request is very large"]
        with contextlib.suppress(msgspec.DecodeError):
            given = msgspec.json.decode(body, type=dict[str, Raw])
            return unknown_fields(given, self._tolerant.type.__struct_encode_fields__)
        return []


def read_any(body: bytes, _: list[str]) -> Raw:
    """The body, which may be any JSON, unchanged; {} if it is empty. Raises `Invalid`."""
    body = without_bom(body)
    check_text(body)
    body = body.strip() or b"{}"
    try:
        return msgspec.json.decode(body, type=Raw).copy()
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"The body must be JSON: {error}") from None


def unknown_fields(given: Iterable[str], known: Sequence[str]) -> list[str]:
    """A warning for each unknown field, with the most similar known one."""
    unknown = [name for name in given if name not in known]
    shown = unknown[:MAX_WARNINGS]
    warnings = [f"unknown field {name[:MAX_FIELD_CHARACTERS]!r}; {_meant(name, known)}" for name in shown]
    rest = len(unknown) - len(shown)
    return [*warnings, f"{rest} more unknown fields"] if rest else warnings


def _meant(name: str, known: Sequence[str]) -> str:
    # Ignore case and separators, which difflib counts as differences: TimeOut, JOB, time-limit.
    plain = {field.replace("_", ""): field for field in known}
    short = name[:MAX_FIELD_CHARACTERS].lower().replace("_", "").replace("-", "")
    if match := difflib.get_close_matches(short, list(plain), n=1):
        return f"did you mean {plain[match[0]]!r}?"
    return f"the fields are {', '.join(known)}" if known else "this request has no fields"


def decode(body: bytes, decoder: msgspec.json.Decoder[R]) -> R:
    """The request in a body; an empty body counts as {}. Raises `Invalid` with the expected and given types."""
    body = without_bom(body)
    check_text(body)
    check_expansion(body, json_numbers.without_lists)
    try:
        return decoder.decode(body.strip() or b"{}")
    except msgspec.ValidationError as error:
        raise Invalid(_explain(str(error), decoder.type), field=_field(str(error))) from None
    except (msgspec.DecodeError, RecursionError) as error:
        raise Invalid(f"The body must be a JSON object: {error}") from None


def _explain(problem: str, request: type[msgspec.Struct]) -> str:
    fields = ", ".join(
        f"{field.encode_name}{' (required)' if field.required else ''}" for field in msgspec.structs.fields(request)
    )
    if (unknown := _UNKNOWN.search(problem)) is None:
        return f"{problem}. The fields of this request are: {fields or 'none'}."
    inner = _inner(request, _field(problem) or "")
    names = inner.__struct_encode_fields__
    what, known = ("request", fields) if inner is request else ("object", ", ".join(names))
    return f"{problem}{nearest(unknown[1], names)}. The fields of this {what} are: {known or 'none'}."


def _inner(request: type[msgspec.Struct], path: str) -> type[msgspec.Struct]:
    """The type of the object at a path such as `resources`; that of the request if it has no type of its own."""
    inner = request
    for name in filter(None, path.split(".")):
        found = [each for each in msgspec.structs.fields(inner) if each.encode_name == name]
        structs = [each for field in found for each in _types_in(field.type) if _is_struct(each)]
        if not structs:
            return request
        inner = structs[0]
    return inner


def _types_in(annotated: Any) -> list[Any]:
    """The types that a union or an annotation consists of."""
    return [annotated, *(inner for part in get_args(annotated) for inner in _types_in(part))]


def _is_struct(annotated: Any) -> bool:
    return isinstance(annotated, type) and issubclass(annotated, msgspec.Struct)


def _field(problem: str) -> str | None:
    """The field that an error message of msgspec refers to."""
    if "missing required field" in problem:
        return problem.rpartition("missing required field ")[2].strip("`")
    return problem.rpartition("- at `$.")[2].rstrip("`") or None if "- at `$." in problem else None
