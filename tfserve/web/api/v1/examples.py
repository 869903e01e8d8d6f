"""The JSON of classify and regress: examples in, classes with scores or values out."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors.specs import Array, Signature
from tfserve.tensors.tensor_json import from_array, string
from tfserve.web.api.v1 import tf_example
from tfserve.web.api.v1.predict_json import read_object, signature_of
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Request, Result

CLASSES, SCORES, VALUES = "classes", "scores", "outputs"


def read(body: bytes, model: Model, verb: str) -> Request:
    """The prediction for `verb`, which is classify or regress. Raises `Invalid`."""
    asked = read_object(body)
    name, signature = signature_of(asked, model)
    wanted = _check_signature(signature, name, verb)
    rows = [tf_example.encode(each) for each in _examples(asked)]
    inputs = np.empty(len(rows), dtype=object)
    inputs[:] = rows
    return Request({signature.inputs[0].name: inputs}, name, wanted)


def write(result: Result, verb: str, count: int) -> bytes:
    """The response for `count` examples. Raises `Invalid` if the model did not return one result per example."""
    for name, array in result.outputs.items():
        if array.shape[:1] != (count,):
            raise Invalid(f"Output {name!r} has shape {list(array.shape)}, but the request has {count} examples.")
    text = _write_values(result.outputs[VALUES]) if verb == "regress" else _write_classes(result.outputs)
    return b'{"results":' + text + b"}"


def _check_signature(signature: Signature, name: str, verb: str) -> tuple[str, ...]:
    """The outputs to request. Raises `Invalid` if the signature does not support `verb`."""
    if signature.method != verb:
        raise Invalid(
            f"Expected {verb} signature method_name to be tensorflow/serving/{verb}. Was: tensorflow/serving/"
            f"{signature.method or 'predict'}. Signature {name!r} does not take tf.Example. Use :predict."
        )
    inputs, outputs = signature.inputs, [spec.name for spec in signature.outputs]
    wanted = [each for each in ((VALUES,) if verb == "regress" else (CLASSES, SCORES)) if each in outputs]
    if len(inputs) != 1 or inputs[0].dtype != "string" or not wanted:
        raise Invalid(
            f"Signature {name!r} does not have the single string input and the outputs that :{verb} requires."
        )
    return tuple(wanted)


def _examples(asked: dict[str, Any]) -> list[dict[str, Any]]:
    examples, context = asked.get("examples"), asked.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise Invalid("'examples' must be a list of at least one object with features, such as [{\"x\": 1.5}].")
    if not isinstance(context, dict):
        raise Invalid("'context' must be an object with features, which are added to all examples.")
    for index, example in enumerate(examples):
        if not isinstance(example, dict):
            raise Invalid(
                f"'examples' must contain objects with features, but the element at index {index} is not an object."
            )
    return [{**context, **example} for example in examples]


def _write_values(values: Array) -> bytes:
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        raise Invalid(f"Output {VALUES!r} has shape {list(values.shape)}, but :regress requires one value per example.")
    return from_array(values.reshape(-1), name=VALUES, tokens=True)


def _write_classes(outputs: dict[str, Array]) -> bytes:
    """[[[label, score], …], …], with an empty label or a score of 0 if the model returns none."""
    shape = next(iter(outputs.values())).shape
    if len(shape) != 2 or any(array.shape != shape for array in outputs.values()):
        shapes = " and ".join(str(list(array.shape)) for array in outputs.values())
        raise Invalid(f"The outputs for :classify must have shape [examples, classes], got {shapes}.")
    scores = outputs.get(SCORES, np.zeros(shape, np.float32))
    labels = outputs.get(CLASSES, np.full(shape, b"", dtype=object))
    rows = []
    for names, numbers in zip(labels, scores, strict=True):
        cells = zip(map(_label, names), map(_score, numbers), strict=True)
        rows.append(b"[" + b",".join([b"[" + label + b"," + score + b"]" for label, score in cells]) + b"]")
    return b"[" + b",".join(rows) + b"]"


def _label(label: Any) -> bytes:
    return orjson.dumps(string(label) if isinstance(label, bytes) else str(label))


def _score(score: Any) -> bytes:
    return from_array(np.asarray(score), name=SCORES, tokens=True)
