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
from tfserve.json_numbers import Numbers
from tfserve.tensors import BFLOAT16, Array, TensorSpec, cast, check_shape

OPTIONS = orjson.OPT_SERIALIZE_NUMPY

_LONE_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_SPACE = " \t\n\r"
_MORE = "unexpected content after document"


class NotJson(Invalid):
    """The body is not JSON: {cause}"""


class NotFinite(Invalid):
    """The output {name!r} has NaN or infinite elements, which JSON can't say. Ask for it in binary."""


def decode(body: bytes) -> Any:
    """The JSON in `body`, its long lists of numbers as `Numbers`. Of keys that are there twice the last one counts.

    Raises `NotJson`.
    """
    try:
        return json_numbers.decode(body)
    except orjson.JSONDecodeError as error:
        raise NotJson(cause=_cause(body, error)) from None


def decode_leniently(body: bytes) -> Any:
    """The same; but NaN, Infinity and -Infinity are numbers, and what stands behind the document is not looked at."""
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
    array = value.read(spec.dtype)
    if array is None:  # it is wrong in some way: the slow way tells in which
        return cast(plain(value), spec, name)
    check_shape(array.shape, spec, name)
    return array


def plain(value: Any) -> Any:
    """A decoded value without `Numbers` at its top. Raises `NotJson`."""
    if value.__class__ is not Numbers:
        return value
    try:
        return orjson.loads(value.text)
    except orjson.JSONDecodeError as error:
        found = _lenient(value.text) if value.lenient else None
        if found is None or found[1].strip(_SPACE):
            raise NotJson(cause=_cause(value.text, error)) from None
        return found[0]


def from_array(array: Array, *, name: str = "", tokens: bool = False, b64: bool = False) -> bytes:
    """An array as JSON text. Raises `NotFinite` for NaN and infinities, unless `tokens` writes them as bare words.

    Strings are written as text if they are UTF-8 and `b64` is not set, else as {"b64": …}.
    """
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
    return f"{error.msg} (line {error.lineno}, column {error.colno})" if body.strip() else "The document is empty"
