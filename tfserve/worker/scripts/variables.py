"""The variables of a workspace as JSON: a bounded snapshot after every job, full values on request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from tfserve.errors import TooLarge
from tfserve.tensors import json_values
from tfserve.tensors.json_values import DoesNotFit, Interrupted, tolerance, type_name

SNAPSHOT_BYTES = 1024 * 1024
TYPES_BYTES = 256 * 1024
SUMMARY_BYTES = 512
# Finding that a value does not fit costs as much as writing one that does; after this many only short ones are tried.
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


def types(namespace: Mapping[str, Any], limit_bytes: int = TYPES_BYTES) -> bytes:
    """A JSON object of the type, shape, dtype and length of each variable. What does not fit is left out."""
    left, members = limit_bytes, dict[str, bytes]()
    for name, value in variables(namespace).items():
        encoded = msgspec.json.encode(json_values.description(value))
        left -= 6 * len(name) + 4 + len(encoded)
        if left < 0:
            break
        members[name] = encoded
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
    """The JSON of a value, or a message instead: one value that fails must not affect the others."""
    try:
        return json_values.encode(value, limit_bytes=limit_bytes)
    except (DoesNotFit, Interrupted):
        raise
    except BaseException as error:
        return msgspec.json.encode(f"<{type_name(value)} that can't be displayed: {type_name(error)}>")


def _summary(value: Any) -> bytes:
    encoded = msgspec.json.encode(json_values.summary(value))
    return encoded if len(encoded) <= SUMMARY_BYTES else msgspec.json.encode({"summary": True})


def _too_large(name: str, value: Any, limit_bytes: int) -> TooLarge:
    shape = json_values.shape_of(value)
    size = f" of shape {shape}" if shape is not None else _length(value)
    return TooLarge(
        f"Variable {name!r}, a {type_name(value)}{size}, does not fit into a response of {limit_bytes} bytes of JSON"
        " (max_response_bytes). Read it in parts: run a script that sets a variable to a slice of it, such"
        f" as part = {name}[:1000], and get that variable."
    )


def _length(value: Any) -> str:
    with tolerance():
        return f" of length {len(value)}"
    return ""
