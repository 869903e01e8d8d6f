"""What this server lacks of Triton's and TensorFlow Serving's APIs, and what to use instead."""

from __future__ import annotations

_LOGS = "Log settings can't be changed over an API. Set them when the server starts."
_INSTEAD = {
    "sharedmemory": "Shared memory is not supported. Send and request tensors as binary data.",
    "trace": "Trace settings are not supported. Send the header `traceparent`: its id is in the access and audit logs.",
    "logging": _LOGS,
    "logsettings": _LOGS,
    "generate": "Text generation is not supported. Send tensors to `infer`.",
    "sessionrun": "SessionRun is not supported. Send a signature's inputs to Predict.",
}
"""By a part of the names of their methods and addresses, in lower case."""


def instead_of(name: str) -> str:
    """What to use instead of a method or an address that is missing; empty if nothing is known of it."""
    plain = name.lower().replace("_", "")
    return next((text for part, text in _INSTEAD.items() if part in plain), "")
