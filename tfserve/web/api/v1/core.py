"""Version 1, whatever the edge: which model and signature, and the checks of predict, classify and regress."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import msgspec
import numpy as np

from tfserve.errors import Invalid, NotFound, Unsupported, nearest
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Signature, TensorSpec
from tfserve.web.predictions.live_models import LiveModels, Model, NoSuchModel, NoSuchVersion
from tfserve.web.predictions.request import Options, PredictionRequest, PredictionResult

#: TensorFlow's prefix of method names.
METHODS = "tensorflow/serving/"
CLASSES, SCORES, VALUES = "classes", "scores", "outputs"
OUTPUTS = {"classify": (CLASSES, SCORES), "regress": (VALUES,)}


class ServableNotFound(NotFound):
    """Servable not found for request: {asked}{hint}"""


@dataclass(frozen=True, slots=True)
class Address:
    """`verb` is predict, classify, regress, status, metadata, example or list. All except list require a name."""

    verb: str
    name: str = ""
    version: int | None = None
    label: str | None = None

    @property
    def is_pinned(self) -> bool:
        """Whether a certain version is requested, and no other may compute it."""
        return self.version is not None or self.label is not None


# --- models and signatures


def find(models: LiveModels, address: Address) -> Model:
    """The requested version (default: the one that serves requests). Raises `ServableNotFound`, `NoSuchLabel`."""
    try:
        if address.label is not None:
            return models.labelled(address.name, address.label)
        return models.get(address.name, address.version)
    except NoSuchModel:
        raise _not_found(models, address) from None
    except NoSuchVersion as error:
        raise _not_found(models, address, known=error.detail["known"]) from None


def versions(models: LiveModels, address: Address) -> list[Model]:
    """All versions that match an address, the one that serves requests first. Raises the same errors."""
    if address.version is not None or address.label is not None:
        return [find(models, address)]
    try:
        return models.versions(address.name)
    except NoSuchModel:
        raise _not_found(models, address) from None


def signature_of(model: Model, name: str | None) -> tuple[str, Signature]:
    """The signature of a request and its name, or the default one. Raises `Invalid`."""
    name = name or model.default_signature
    return name, model.signatures.get(name) or model.signature(name)


def _not_found(models: LiveModels, address: Address, known: str = "") -> ServableNotFound:
    asked = f"Latest({address.name})" if address.version is None else f"Specific({address.name}, {address.version})"
    hint = f" (available: {known})" if known else nearest(address.name, models.names())
    return ServableNotFound(asked=asked, hint=hint)


# --- predict


class PredictFormat(Enum):
    """The format of a predict request, and so of its response."""

    ROWS = "instances"
    COLUMNS = "inputs"
    FILES = "files"


class PredictCall(msgspec.Struct, frozen=True):
    """The request for predict, and the form of its response."""

    request: PredictionRequest
    form: PredictFormat = PredictFormat.COLUMNS


class UnsupportedInput(Unsupported):
    """Input {name!r} is {spec}, a type that this server does not support."""


class UnsupportedOutput(Invalid):
    """Output {name!r} is {spec}, a type that this server does not support."""


def check_input(spec: TensorSpec) -> None:
    """Raises `UnsupportedInput` for a type that no edge can read."""
    if spec.dtype not in DTYPES:
        raise UnsupportedInput(name=spec.name, spec=str(spec), dtype=spec.dtype)


def check_outputs(specs: Iterable[TensorSpec]) -> None:
    """Raises `UnsupportedOutput` for a type that no edge can write."""
    for spec in specs:
        if spec.dtype not in DTYPES:
            raise UnsupportedOutput(name=spec.name, spec=str(spec), dtype=spec.dtype)


# --- classify and regress


class Examination(msgspec.Struct, frozen=True):
    """The request for `verb`, classify or regress, on a number of `examples`."""

    request: PredictionRequest
    verb: str
    examples: int


class Classes(NamedTuple):
    """Labels and scores, both of shape [examples, classes]."""

    labels: list[list[str]]
    scores: Array


def check_method(name: str, signature: Signature, verb: str) -> list[str]:
    """The outputs to request from a signature. Raises `Invalid` if it does not support `verb`."""
    if signature.method != verb:
        raise Invalid(
            f"Expected {verb} signature method_name to be {METHODS}{verb}. Was: {METHODS}"
            f"{signature.method or 'predict'}. Signature {name!r} does not take tf.Example. Use predict."
        )
    available = {spec.name for spec in signature.outputs}
    outputs = [each for each in OUTPUTS[verb] if each in available]
    if len(signature.inputs) != 1 or signature.inputs[0].dtype != "string" or not outputs:
        raise Invalid(f"Signature {name!r} does not have the single string input and the outputs that {verb} requires.")
    return outputs


def examine(
    signature: tuple[str, Signature], verb: str, context: bytes, examples: Sequence[bytes], options: Options
) -> Examination:
    """A request from serialized tf.Example messages. Raises `Invalid`.

    The context's features are added to each example. Concatenated messages are merged when parsed and the last value
    wins, so the example's own features take precedence.
    """
    outputs = check_method(*signature, verb)
    if not examples:
        raise Invalid("The request has no examples. Send at least one.")
    name, (spec,) = signature[0], signature[1].inputs
    rows = np.empty(len(examples), dtype=object)
    rows[:] = [context + each for each in examples] if context else examples
    return Examination(options.request({spec.name: rows}, name, outputs), verb, len(examples))


def classes(result: PredictionResult, count: int) -> Classes:
    """The labels (empty if the model returns none) and scores (0 if it returns none). Raises `Invalid`."""
    shapes = [array.shape for array in result.outputs.values()]
    if len(shapes[0]) != 2 or shapes[0][0] != count or shapes[0] != shapes[-1]:
        given = " and ".join(str(list(shape)) for shape in shapes)
        raise Invalid(f"The outputs for classify must have shape [{count}, classes] for {count} examples, got {given}.")
    labels = result.outputs.get(CLASSES, np.full(shapes[0], b"", object))
    scores = result.outputs.get(SCORES, np.zeros(shapes[0], np.float32))
    return Classes(_texts(labels), _numbers(scores, SCORES))


def values(result: PredictionResult, count: int) -> Array:
    """One number per example. Raises `Invalid`."""
    array = result.outputs[VALUES]
    if array.shape not in ((count,), (count, 1)):
        raise Invalid(
            f"Output {VALUES!r} has shape {list(array.shape)}, but regress requires one value per example"
            f" ([{count}] or [{count}, 1])."
        )
    return _numbers(array, VALUES).reshape(-1)


def _texts(labels: Array) -> list[list[str]]:
    try:
        if labels.dtype == object:
            return [[each.decode() for each in row] for row in labels.tolist()]
    except UnicodeDecodeError:
        pass
    raise Invalid(f"Output {CLASSES!r} must have labels in UTF-8. Use predict.")


def _numbers(array: Array, name: str) -> Array:
    if array.dtype == object or array.dtype == bool:
        raise Invalid(f"Output {name!r} must have numbers. Use predict.")
    return array
