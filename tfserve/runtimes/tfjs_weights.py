"""Reads the arrays in the weight files of a TensorFlow.js model."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfserve.errors import Invalid
from tfserve.models import tfjs
from tfserve.models.tfjs import ModelJson, Weight, WeightGroup
from tfserve.tensors.specs import Array


def read(file: Path, model: ModelJson) -> dict[str, Array]:
    """The weights by name, dequantized; strings are arrays of `bytes`. Raises `Invalid`, `OSError`."""
    found: dict[str, Array] = {}
    for group in model.weights_manifest:
        for name, array in _arrays(file, group):
            if name in found:
                raise Invalid(f"{file} has two weights named {name!r}.")
            found[name] = array
    return found


def _arrays(file: Path, group: WeightGroup) -> Iterator[tuple[str, Array]]:
    single = ModelJson(model_topology={}, weights_manifest=[group])
    content = b"".join(path.read_bytes() for path in tfjs.shards(file, single))
    at = 0
    for weight in group.weights:
        if weight.dtype == tfjs.STRING:
            array, at = _strings(file, weight, content, at)
        else:
            end = at + weight.size_bytes
            if end > len(content):
                raise _truncated(file, weight)
            array, at = _numbers(weight, content[at:end]), end
        yield weight.name, array.reshape(weight.shape)
    if at != len(content):
        raise Invalid(f"{file} describes {at} bytes of weights in {', '.join(group.paths[:5])}, found {len(content)}.")


def _numbers(weight: Weight, content: bytes) -> Array:
    if weight.quantization is None:
        dtype = np.dtype(weight.dtype).newbyteorder("<")
        if weight.dtype == "bool":
            return np.frombuffer(content, np.uint8).astype(np.bool_)
        return np.frombuffer(content, dtype).astype(weight.dtype)
    stored = np.frombuffer(content, np.dtype(weight.quantization.dtype).newbyteorder("<"))
    if weight.quantization.dtype == "float16":
        return stored.astype(np.float32)
    # In double precision and then rounded once, as JavaScript does.
    values: Array = stored * np.float64(weight.quantization.scale) + np.float64(weight.quantization.min)
    return values.astype(np.float32) if weight.dtype == "float32" else np.floor(values + 0.5).astype(np.int32)


def _strings(file: Path, weight: Weight, content: bytes, at: int) -> tuple[Array, int]:
    """Each string follows its length, as 4 bytes."""
    found = []
    for _ in range(int(np.prod(weight.shape, dtype=np.int64))):
        if at + 4 > len(content):
            raise _truncated(file, weight)
        (length,) = struct.unpack_from("<I", content, at)
        if (end := at + 4 + length) > len(content):
            raise _truncated(file, weight)
        found.append(content[at + 4 : end])
        at = end
    strings = np.empty(len(found), object)
    strings[:] = found
    return strings, at


def _truncated(file: Path, weight: Weight) -> Invalid:
    return Invalid(
        f"{file} is incomplete: its weight files end in the middle of {weight.name!r}. Copy all of them again."
    )
