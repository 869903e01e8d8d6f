"""Calls of a LiteRT interpreter, and corrections for three faults of its Python library.

- It reads a single text (no dimensions) from the array's memory, which in an object array is a pointer.
- It refuses to return a tensor without elements, such as the boxes of an image without objects.
- The error text of an interpreter contains all of its earlier errors, which belong to other requests.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from tfserve.tensors.specs import DEFAULT_SIGNATURE, Array

Compute = Callable[..., Mapping[str, Array]]
"""Takes all inputs by name, returns all outputs by name."""

_EMPTY = "Invalid tensor size."
_NODE = re.compile(r"(?<=[\w).])(?=Node number \d)")


def computes(interpreter: Any) -> dict[str, Compute]:
    """A function for each signature; the default signature if the file has none."""
    names = interpreter.get_signature_list()
    if not names:
        return {DEFAULT_SIGNATURE: _without_signature(interpreter)}
    return {name: _with_signature(interpreter, interpreter.get_signature_runner(name)) for name in names}


class Reports:
    """The error text of one interpreter, from which the part of the last error is cut."""

    def __init__(self) -> None:
        self._before = ""

    @property
    def length(self) -> int:
        return len(self._before)

    def last(self, error: Exception) -> str:
        """The text of this error alone."""
        text = str(error)
        if not isinstance(error, RuntimeError):  # not from the interpreter's error text
            return text
        new = text.removeprefix(self._before)
        self._before = text
        return _NODE.sub(lambda found: " " if new[found.start() - 1] == "." else ". ", new)


def _with_signature(interpreter: Any, runner: Any) -> Compute:
    inputs, outputs = runner.get_input_details(), runner.get_output_details()
    given = _given if _has_text(inputs) else dict
    texts = [name for name in outputs if _is_text(outputs[name])]

    def run(**arrays: Array) -> Mapping[str, Array]:
        try:
            values = runner(**given(arrays))
        except ValueError as error:
            if str(error) != _EMPTY:
                raise
            values = _read(interpreter, runner.get_output_details(), runner._subgraph_index)
        return {**values, **{name: values[name].astype(object) for name in texts}} if texts else values

    return run


def _without_signature(interpreter: Any) -> Compute:
    details = interpreter.get_input_details()
    inputs = {each["name"]: each["index"] for each in details}
    given = _given if _has_text({each["name"]: each for each in details}) else dict
    shapes: dict[str, tuple[int, ...]] = {}

    def run(**arrays: Array) -> Mapping[str, Array]:
        if shapes != {name: array.shape for name, array in arrays.items()}:
            shapes.clear()  # so that it is tried again after a failure here
            for name, array in arrays.items():
                interpreter.resize_tensor_input(inputs[name], array.shape)
            interpreter.allocate_tensors()
            shapes.update({name: array.shape for name, array in arrays.items()})
        for name, array in given(arrays).items():
            interpreter.set_tensor(inputs[name], array)
        interpreter.invoke()
        return _read(interpreter, {each["name"]: each for each in interpreter.get_output_details()})

    return run


def _read(interpreter: Any, details: Mapping[str, Any], subgraph: int = 0) -> dict[str, Array]:
    """The outputs as they are after a computation, by name."""
    return {name: _value(interpreter, detail, subgraph) for name, detail in details.items()}


def _value(interpreter: Any, detail: Mapping[str, Any], subgraph: int) -> Array:
    """The size that is current is known only after the computation."""
    if not detail["shape"].all():
        return np.empty(detail["shape"], object if _is_text(detail) else detail["dtype"])
    value: Array = interpreter.get_tensor(detail["index"], subgraph)
    return value


def _given(arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {name: array if array.ndim else _single(array) for name, array in arrays.items()}


def _single(array: Array) -> Array:
    """A text as bytes in place. numpy makes one byte of an empty text unless it gets a buffer."""
    if array.dtype != object:
        return array
    text: bytes = array.item()
    return np.ndarray((), np.dtype(f"S{len(text)}"), buffer=text or b"\0")


def _has_text(details: Mapping[str, Any]) -> bool:
    return any(map(_is_text, details.values()))


def _is_text(detail: Mapping[str, Any]) -> bool:
    return np.dtype(detail["dtype"]).kind in "SUO"
