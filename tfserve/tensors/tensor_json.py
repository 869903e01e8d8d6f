"""Conversion between tensors and JSON for all protocols, by the casting rule of `tfserve.tensors.specs`.

decode(body) → Python values, with long lists of numbers left unparsed
to_array(value, spec, name) → the array that the model takes
from_array(array, …) → JSON text: shortest exact numbers, whole floats as 2.0, bytes as text or b64
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors import json_numbers
from tfserve.tensors.casting import Ragged, cast
from tfserve.tensors.dtypes import BFLOAT16, DTYPES
from tfserve.tensors.json_limits import check_expansion, without_bom
from tfserve.tensors.json_numbers import Numbers
from tfserve.tensors.specs import Array, TensorSpec, check_shape

OPTIONS = orjson.OPT_SERIALIZE_NUMPY

EXPLAINED_BYTES = 1024 * 1024
"""Longer lists are not converted to Python objects just for an error message."""

WRITTEN_AT_ONCE = 512 * 1024
"""Arrays with more elements are written in chunks, which lets other threads run."""

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = " \t\n\r"
_MORE = "unexpected content after document"


class NotJson(Invalid):
    """The body is not JSON: {cause}"""


class NotFinite(Invalid):
    """Output {name!r} contains NaN or infinity, which JSON cannot represent. Request it as binary data."""


def decode(body: bytes) -> Any:
    """The JSON in `body`, with long lists of numbers as `Numbers`. The last of duplicate keys wins.

    Raises `NotJson`, `ExpandsTooMuch`.
    """
    body = without_bom(body)
    try:
        return json_numbers.decode(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(cause=_cause(body, error)) from None


def decode_leniently(body: bytes) -> Any:
    """The same, but accepts NaN, Infinity and -Infinity as numbers and ignores text after the document."""
    body = without_bom(body)
    try:
        return json_numbers.decode(body, lenient=True)
    except orjson.JSONDecodeError as error:
        # Only use the slow parser where its result can differ.
        is_odd = error.msg.startswith(_MORE) or b"NaN" in body or b"Infinity" in body
        found = _lenient(body) if is_odd else None
        if found is None:
            raise NotJson(cause=_cause(body, error)) from None
        return found[0]


def to_array(value: Any, spec: TensorSpec, name: str) -> Array:
    """Converts a caller's decoded value for input `name` to an array of `spec.dtype`. Raises `Invalid`."""
    if value.__class__ is not Numbers:
        return cast(value, spec, name)
    if value.shape is not None:
        check_shape(value.shape, spec, name)
    array = value.read(spec.dtype)
    return array if array is not None else cast(explained(value, spec, name), spec, name)


def explained(numbers: Numbers, spec: TensorSpec, name: str) -> Any:
    """Converts an invalid list to plain Python, so that the casting rule can report what is wrong with it.

    Does not build huge lists for that: raises `Invalid` with what is known, without naming an element.
    """
    if len(numbers.text) <= EXPLAINED_BYTES:
        return plain(numbers)
    if spec.dtype not in DTYPES:
        return [0]  # for which the casting rule gives the same error
    if DTYPES[spec.dtype].kind in ("bool", "string"):
        raise Invalid(f"Input {name!r} takes {spec}, got a long list of numbers.")
    if numbers.shape is None:
        raise Ragged(f"Input {name!r} is ragged: lists at the same depth must have equal length and not be empty.")
    raise Invalid(
        f"Input {name!r} takes {spec}, got a number out of range for {spec.dtype}, or with a fraction or exponent."
    )


def plain(value: Any) -> Any:
    """A decoded value without top-level `Numbers`. Raises `NotJson`."""
    if value.__class__ is not Numbers:
        return value
    check_expansion(value.text)
    text = bytes(value.text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        found = _lenient(text) if value.lenient else None
        if found is None or found[1].strip(_SPACE):
            raise NotJson(cause=_cause(text, error)) from None
        return found[0]


def from_array(array: Array, *, name: str = "", tokens: bool = False, b64: bool = False) -> bytes:
    """An array as JSON text. Raises `NotFinite` for NaN and infinities, unless `tokens` allows them as bare words.

    Strings are written as text if they are valid UTF-8 and `b64` is not set, otherwise as {"b64": …}.
    """
    if array.size > WRITTEN_AT_ONCE and array.ndim:
        return _from_large_array(array, name=name, tokens=tokens, b64=b64)
    if array.dtype == object:
        return orjson.dumps(_texts(array, b64=b64))
    if array.dtype == BFLOAT16:
        array = array.astype(np.float32)
    if not array.flags.c_contiguous:
        array = np.ascontiguousarray(array)
    text = orjson.dumps(array if array.ndim else array[()], option=OPTIONS)
    if array.dtype.kind == "f" and b"n" in text:  # orjson writes null for NaN and infinities
        if not tokens:
            raise NotFinite(name=name)
        return _with_tokens(text, array)
    return text


def _from_large_array(array: Array, *, name: str, tokens: bool, b64: bool) -> bytes:
    rows = max(1, WRITTEN_AT_ONCE * len(array) // array.size)
    pieces = (array[at : at + rows] if rows > 1 else array[at] for at in range(0, len(array), rows))
    texts = [from_array(piece, name=name, tokens=tokens, b64=b64) for piece in pieces]
    return b"[" + b",".join([text[1:-1] for text in texts] if rows > 1 else texts) + b"]"


def string(value: bytes, *, b64: bool = False) -> str | dict[str, str]:
    """A string element as a JSON value."""
    if not b64:
        try:
            return value.decode()
        except UnicodeDecodeError:
            pass
    return {"b64": base64.b64encode(value).decode()}


def _texts(array: Array, *, b64: bool) -> Any:
    texts = np.empty(array.size, dtype=object)
    texts[:] = [string(value, b64=b64) for value in array.ravel().tolist()]
    return texts.reshape(array.shape).tolist()


def _with_tokens(text: bytes, array: Array) -> bytes:
    """The text with each null replaced by NaN, Infinity or -Infinity."""
    strange = array[~np.isfinite(array)].tolist()
    words = [b"NaN" if math.isnan(each) else b"Infinity" if each > 0 else b"-Infinity" for each in strange]
    pieces = text.split(b"null")
    return b"".join([each for pair in zip(pieces, [*words, b""], strict=True) for each in pair])


def _lenient(body: bytes) -> tuple[Any, str] | None:
    """The value at the start of a text that may contain NaN, and the remaining text; None if there is no value."""
    if _LONE_SURROGATE.search(body):
        return None
    check_expansion(body)
    try:
        text = body.decode().lstrip(_SPACE)
        value, end = _decoder.raw_decode(text)
    except (ValueError, RecursionError):
        return None
    return value, text[end:]


def _finite(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text} is out of range for a 64-bit float")
    return number


_decoder = json.JSONDecoder(parse_float=_finite)


def _cause(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "The document is empty"
    what = "nested too deeply" if "depth limit" in error.msg else error.msg
    return f"{what} (line {error.lineno}, column {error.colno})"
