"""The JSON of classify and regress: examples with features in, classes with scores or values out.

A feature is a value or a list of values of one type: text or {"b64": …}, floats, integers; true and false are 1 and 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors.casting import decode_b64, encode_text
from tfserve.tensors.tensor_json import from_array, plain
from tfserve.web.api.v1 import core
from tfserve.web.api.v1.core import Examination
from tfserve.web.api.v1.predict_json import PROTOCOL, read_object, signature_of
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Options, PredictionResult

if TYPE_CHECKING:
    from tfserve.web.api.protos.tensorflow_pb2 import Feature

_FLOAT32_MAX = float(np.finfo(np.float32).max)


def read(body: bytes, model: Model, verb: str, options: Options = Options(PROTOCOL)) -> Examination:  # noqa: B008
    """The request for `verb`, which is classify or regress. Raises `Invalid`."""
    document = read_object(body)
    name, signature = signature_of(document, model)
    core.check_method(name, signature, verb)
    examples, context = document.get("examples"), document.get("context", {})
    if not isinstance(examples, list):
        raise Invalid("'examples' must be a list of at least one object with features, such as [{\"x\": 1.5}].")
    if not isinstance(context, dict):
        raise Invalid("'context' must be an object with features, which are added to all examples.")
    for index, example in enumerate(examples):
        if not isinstance(example, dict):
            raise Invalid(
                f"'examples' must contain objects with features, but the element at index {index} is not an object."
            )
    shared = encode(context) if context else b""
    return core.examine((name, signature), verb, shared, [encode(each) for each in examples], options)


def write(examination: Examination, result: PredictionResult) -> bytes:
    """The response. Raises `Invalid` if the model did not return one result per example."""
    if examination.verb == "regress":
        text = from_array(core.values(result, examination.examples), name=core.VALUES, tokens=True)
    else:
        text = _write_classes(core.classes(result, examination.examples))
    return b'{"results":' + text + b"}"


def _write_classes(classes: core.Classes) -> bytes:
    """[[[label, score], …], …]"""
    rows = []
    for labels, scores in zip(classes.labels, classes.scores, strict=True):
        cells = zip(map(orjson.dumps, labels), map(_score, scores), strict=True)
        rows.append(b"[" + b",".join([b"[" + label + b"," + score + b"]" for label, score in cells]) + b"]")
    return b"[" + b",".join(rows) + b"]"


def _score(score: Any) -> bytes:
    return from_array(np.asarray(score), name=core.SCORES, tokens=True)


# --- tf.Example


def encode(features: Mapping[str, Any]) -> bytes:
    """A serialized tf.Example. Raises `Invalid` with the name of the feature."""
    from tfserve.web.api.protos.tensorflow_pb2 import Example  # protobuf is only loaded if it is needed

    example = Example()
    example.features.SetInParent()
    for name, value in features.items():
        encode_text(name, "The name of a feature")
        _fill(example.features.feature[name], name, plain(value))
    return example.SerializeToString()


def _fill(feature: Feature, name: str, value: Any) -> None:
    values = value if isinstance(value, list) else [value]
    if not values:
        return
    types = {type(each) for each in values}
    try:
        if types <= {str, dict}:
            feature.bytes_list.value.extend([_octets(each, f"Feature {name!r}") for each in values])
        elif types == {float}:
            feature.float_list.value.extend(map(_float32, values))
        elif types <= {int, bool}:
            feature.int64_list.value.extend(map(int, values))
        else:
            raise Invalid(
                f'Feature {name!r} must be a value or a list of values of one type: text, {{"b64": …}}, floats or whole'
                " numbers."
            )
    except (ValueError, OverflowError, TypeError) as error:
        raise Invalid(f"Feature {name!r} has an invalid value: {str(error).rstrip('.')}.") from None


def _octets(value: str | dict[str, Any], owner: str) -> bytes:
    if isinstance(value, str):
        return encode_text(value, owner)
    if value.keys() != {"b64"} or not isinstance(value["b64"], str):
        raise ValueError('objects must be {"b64": "…"}')
    return decode_b64(value["b64"], owner)


def _float32(value: float) -> float:
    if _FLOAT32_MAX < abs(value) < float("inf"):
        raise ValueError(f"{value} is out of range for float32")
    return value
