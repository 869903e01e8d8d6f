"""Default values of inputs in TensorFlow's signatures (`SignatureDef.defaults`): requests need not set these inputs.

Nothing of TensorFlow is imported here; a meta graph and the function that reads its tensors are handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from msgspec.structs import replace

from tfserve.errors import Invalid
from tfserve.runtimes.saved_model_file import Tensors
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec

_MAX_SHOWN = 1000
"""Elements of a default that are shown to clients."""

Defaults = dict[str, dict[str, Array]]
"""For each signature, the values of its optional inputs by the names of their tensors."""


def read(definition: Any, signatures: Mapping[str, Tensors], to_array: Callable[[Any], Array]) -> Defaults:
    """Raises `Invalid` if a default does not match its input."""
    return {
        name: {each.inputs[spec.name]: _value(definition, name, spec, to_array) for spec in each.signature.optional}
        for name, each in signatures.items()
        if each.signature.optional
    }


def shown(tensors: Tensors, values: Mapping[str, Array]) -> Signature:
    """The signature with its small defaults, as clients see it."""
    optional = [replace(spec, default=_plain(values[tensors.inputs[spec.name]])) for spec in tensors.signature.optional]
    return replace(tensors.signature, optional=tuple(optional))


def _value(definition: Any, signature: str, spec: TensorSpec, to_array: Callable[[Any], Array]) -> Array:
    try:
        value = np.asarray(to_array(definition.signature_def[signature].defaults[spec.name]))
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"The default of input {spec.name!r} in signature {signature!r} can't be read: {error}."
        ) from error
    dtype = "string" if value.dtype == object else value.dtype.name
    if dtype != spec.dtype or not spec.accepts(value.shape):
        raise Invalid(
            f"Signature {signature!r} does not match its default of input {spec.name!r}: the input takes {spec}, the"
            f" default is {dtype} of shape {list(value.shape)}. Save the model again."
        )
    return value


def _plain(value: Array) -> Any:
    """Nested lists for JSON; None if it is too large, or if JSON has no such values."""
    kind = DTYPES[value.dtype.name].kind if value.dtype.name in DTYPES else ""
    if value.size > _MAX_SHOWN:
        return None
    if value.dtype == object:
        return _texts(value)
    if kind == "float":
        wide = value.astype(np.float64)
        return wide.tolist() if np.isfinite(wide).all() else None
    return value.tolist() if kind else None


def _texts(value: Array) -> Any:
    texts = np.empty(value.size, object)
    try:
        texts[:] = [each.decode() for each in value.ravel()]
    except UnicodeDecodeError:
        return None
    return texts.reshape(value.shape).tolist()
