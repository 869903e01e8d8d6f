"""The JSON of classify and regress: examples in, classes with scores or values out."""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.protocols.tfserving import tf_example
from tfserve.protocols.tfserving.predicting import read_object, signature_of
from tfserve.serving.models import Model
from tfserve.serving.prediction import Request, Result
from tfserve.tensor_json import from_array, string
from tfserve.tensors import Array, Signature

CLASSES, SCORES, VALUES = "classes", "scores", "outputs"


def read(body: bytes, model: Model, verb: str) -> Request:
    """What is asked of the model by `verb`, which is classify or regress. Raises `Invalid`."""
    asked = read_object(body)
    name, signature = signature_of(asked, model)
    wanted = _check_signature(signature, name, verb)
    rows = [tf_example.encode(each) for each in _examples(asked)]
    inputs = np.empty(len(rows), dtype=object)
    inputs[:] = rows
    return Request({signature.inputs[0].name: inputs}, name, wanted)


def write(result: Result, verb: str, count: int) -> bytes:
    """The answer for `count` examples. Raises `Invalid` when the model did not give a result for each."""
    for name, array in result.outputs.items():
        if array.shape[:1] != (count,):
            raise Invalid(f"The output {name!r} has the shape {list(array.shape)}, but {count} examples were given.")
    text = _write_values(result.outputs[VALUES]) if verb == "regress" else _write_classes(result.outputs)
    return b'{"results":' + text + b"}"


def _check_signature(signature: Signature, name: str, verb: str) -> tuple[str, ...]:
    """The outputs to ask for. Raises `Invalid` when the signature is none for `verb`."""
    if signature.method != verb:
        raise Invalid(
            f"Expected {verb} signature method_name to be tensorflow/serving/{verb}. Was: tensorflow/serving/"
            f"{signature.method or 'predict'}. Signature {name!r} does not take tf.Example: use :predict."
        )
    inputs, outputs = signature.inputs, [spec.name for spec in signature.outputs]
    wanted = [each for each in ((VALUES,) if verb == "regress" else (CLASSES, SCORES)) if each in outputs]
    if len(inputs) != 1 or inputs[0].dtype != "string" or not wanted:
        raise Invalid(f"Signature {name!r} does not have the one string input and the outputs that :{verb} needs.")
    return tuple(wanted)


def _examples(asked: dict[str, Any]) -> list[dict[str, Any]]:
    examples, context = asked.get("examples"), asked.get("context", {})
    if not isinstance(examples, list) or not examples:
        raise Invalid("'examples' takes a list with at least one object of features: [{\"x\": 1.5}].")
    if not isinstance(context, dict):
        raise Invalid("'context' takes an object of features, which all examples get.")
    for index, example in enumerate(examples):
        if not isinstance(example, dict):
            raise Invalid(f"'examples' takes objects of features, but the value at {index} is none.")
    return [{**context, **example} for example in examples]


def _write_values(values: Array) -> bytes:
    if values.ndim > 2 or (values.ndim == 2 and values.shape[1] != 1):
        raise Invalid(f"The output {VALUES!r} has the shape {list(values.shape)}, but :regress needs one value a row.")
    return from_array(values.reshape(-1), name=VALUES, tokens=True)


def _write_classes(outputs: dict[str, Array]) -> bytes:
    """[[[label, score], …], …]; a label is empty and a score 0 where the model gives none."""
    shape = next(iter(outputs.values())).shape
    if len(shape) != 2 or any(array.shape != shape for array in outputs.values()):
        shapes = " and ".join(str(list(array.shape)) for array in outputs.values())
        raise Invalid(f"The outputs for :classify must have the shape [examples, classes]; they have {shapes}.")
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
