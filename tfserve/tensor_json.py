"""Tensors in JSON, both ways, as all protocols use them; what becomes what stands in `tfserve.tensors`.

decode(body) → Python values, with long lists of numbers left unread
to_array(value, spec, name) → the array that the model takes
from_array(array, …) → JSON text: numbers as short as they are exact, whole floats as 2.0, bytes as text or b64
"""

from __future__ import annotations

import base64
import json
import math
import re
from typing import Any

import numpy as np
import orjson

from tfserve import json_numbers
from tfserve.errors import Invalid
from tfserve.json_limits import check_expansion, without_bom
from tfserve.json_numbers import Numbers
from tfserve.tensors import BFLOAT16, DTYPES, Array, Ragged, TensorSpec, cast, check_shape

OPTIONS = orjson.OPT_SERIALIZE_NUMPY

EXPLAINED_BYTES = 1024 * 1024
"""A longer list is not turned into Python objects for the sake of an error message."""

WRITTEN_AT_ONCE = 512 * 1024
"""Elements. More are written piece by piece, so that other threads get their turn."""

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = " \t\n\r"
_MORE = "unexpected content after document"


class NotJson(Invalid):
    """The body is not JSON: {cause}"""


class NotFinite(Invalid):
    """The output {name!r} has NaN or infinite elements, which JSON can't say. Ask for it in binary."""


def decode(body: bytes) -> Any:
    """The JSON in `body`, its long lists of numbers as `Numbers`. Of keys that are there twice the last one counts.

    Raises `NotJson`, `ExpandsTooMuch`.
    """
    body = without_bom(body)
    try:
        return json_numbers.decode(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(cause=_cause(body, error)) from None


def decode_leniently(body: bytes) -> Any:
    """The same; but NaN, Infinity and -Infinity are numbers, and what stands behind the document is not looked at."""
    body = without_bom(body)
    try:
        return json_numbers.decode(body, lenient=True)
    except orjson.JSONDecodeError as error:
        # The slow parser is asked only where it can know better.
        is_odd = error.msg.startswith(_MORE) or b"NaN" in body or b"Infinity" in body
        found = _lenient(body) if is_odd else None
        if found is None:
            raise NotJson(cause=_cause(body, error)) from None
        return found[0]


def to_array(value: Any, spec: TensorSpec, name: str) -> Array:
    """The array of `spec.dtype` for a decoded value that a caller gave as `name`. Raises `Invalid`."""
    if value.__class__ is not Numbers:
        return cast(value, spec, name)
    if value.shape is not None:
        check_shape(value.shape, spec, name)
    array = value.read(spec.dtype)
    return array if array is not None else cast(explained(value, spec, name), spec, name)


def explained(numbers: Numbers, spec: TensorSpec, name: str) -> Any:
    """Plain Python for a list that is wrong in some way, so that the casting rule says in which.

    A huge list is not built for that: raises `Invalid` with what is known of it, which names no element.
    """
    if len(numbers.text) <= EXPLAINED_BYTES:
        return plain(numbers)
    if spec.dtype not in DTYPES:
        return [0]  # of which the casting rule says the same
    if DTYPES[spec.dtype].kind in ("bool", "string"):
        raise Invalid(f"Input {name!r} takes {spec}; a long list of numbers was given.")
    if numbers.shape is None:
        raise Ragged(f"Input {name!r} is ragged: all of its lists of one depth must be equally long, and not empty.")
    raise Invalid(
        f"Input {name!r} takes {spec}; a number was given that {spec.dtype} can't hold, or one with a fraction or"
        " exponent."
    )


def plain(value: Any) -> Any:
    """A decoded value without `Numbers` at its top. Raises `NotJson`."""
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
    """An array as JSON text. Raises `NotFinite` for NaN and infinities, unless `tokens` writes them as bare words.

    Strings are written as text if they are UTF-8 and `b64` is not set, else as {"b64": …}.
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
    if array.dtype.kind == "f" and b"n" in text:  # orjson writes null for what is not finite
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
    """A string element as JSON knows it."""
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
    """The text with the right word for each null."""
    strange = array[~np.isfinite(array)].tolist()
    words = [b"NaN" if math.isnan(each) else b"Infinity" if each > 0 else b"-Infinity" for each in strange]
    pieces = text.split(b"null")
    return b"".join([each for pair in zip(pieces, [*words, b""], strict=True) for each in pair])


def _lenient(body: bytes) -> tuple[Any, str] | None:
    """The value at the start of a text that may have NaN, and what stands behind it; None when there is none."""
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
        raise ValueError(f"{text} is more than a number can be")
    return number


_decoder = json.JSONDecoder(parse_float=_finite)


def _cause(body: bytes, error: orjson.JSONDecodeError) -> str:
    if not body.strip():
        return "The document is empty"
    what = "it is nested too deeply" if "depth limit" in error.msg else error.msg
    return f"{what} (line {error.lineno}, column {error.colno})"
