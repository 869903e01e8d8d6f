"""The variables of a workspace as JSON: a bounded snapshot after every job, full values when somebody asks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tfserve import json_values
from tfserve.errors import TooLarge
from tfserve.json_values import DoesNotFit, Interrupted, tolerance, type_name

SNAPSHOT_BYTES = 1024 * 1024
SUMMARY_BYTES = 512
# To find out that a value does not fit costs as much as one that does; after so many only short ones are tried.
MAX_MISFITS = 8
SHORT_BYTES = 4096

_NULL = b"null"


def variables(namespace: Mapping[str, Any]) -> dict[str, Any]:
    """What scripts have set in a namespace: all but `__name__` and its like."""
    return {str.__str__(name): value for name, value in list(namespace.items()) if _is_variable(name)}


def snapshot(namespace: Mapping[str, Any], limit_bytes: int = SNAPSHOT_BYTES) -> bytes:
    """A JSON object of all variables within the limit; a value that does not fit is summarised."""
    found = variables(namespace)
    left, waiting, misfits = limit_bytes - 2, len(found), 0
    members: dict[str, bytes] = {}
    for name, value in found.items():
        waiting -= 1
        label_bytes = 6 * len(name) + 4
        room = max(left - label_bytes - SUMMARY_BYTES * waiting, 0)
        try:
            encoded = _encoded(value, limit_bytes=room if misfits < MAX_MISFITS else min(room, SHORT_BYTES))
        except DoesNotFit:
            misfits += 1
            encoded = _summary(value)
        if label_bytes + len(encoded) <= left:
            members[name] = encoded
            left -= label_bytes + len(encoded)
    return json_values.encode_object(members)


def full(namespace: Mapping[str, Any], names: Sequence[str] | None, limit_bytes: int) -> bytes:
    """A JSON object of the named variables (all when None), null for a name that is not set. Raises `TooLarge`."""
    found = variables(namespace)
    left, members = limit_bytes, {}
    for name in found if names is None else names:
        try:
            members[name] = _encoded(found[name], limit_bytes=left) if name in found else _NULL
        except DoesNotFit:
            raise _too_large(name, found[name], limit_bytes) from None
        left -= len(members[name])
    return json_values.encode_object(members)


def _is_variable(name: Any) -> bool:
    # A name may be of a class of the script's own, so none of its methods is called.
    return issubclass(type(name), str) and not (str.startswith(name, "__") and str.endswith(name, "__"))


def _encoded(value: Any, limit_bytes: int) -> bytes:
    """The JSON of a value, or a sentence in its place: one value that fails must not cost all the others."""
    try:
        return json_values.encode(value, limit_bytes=limit_bytes)
    except (DoesNotFit, Interrupted):
        raise
    except BaseException as error:
        told = f"<{type_name(value)} that can't be shown: {type_name(error)}>"
        return msgspec.json.encode(told)


def _summary(value: Any) -> bytes:
    encoded = msgspec.json.encode(json_values.summary(value))
    return encoded if len(encoded) <= SUMMARY_BYTES else msgspec.json.encode({"summary": True})


def _too_large(name: str, value: Any, limit_bytes: int) -> TooLarge:
    shape = json_values.shape_of(value)
    size = f" of shape {shape}" if shape is not None else _length(value)
    return TooLarge(
        f"Variable {name!r}, a {type_name(value)}{size}, does not fit into an answer of {limit_bytes} bytes of JSON"
        f" (max_response_bytes). Read it in parts: let a script set a variable to a slice of it, such as"
        f" part = {name}[:1000], and get that."
    )


def _length(value: Any) -> str:
    with tolerance():
        return f" of length {len(value)}"
    return ""
