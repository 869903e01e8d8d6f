"""Inference in version 2, whatever the edge: which model, what is checked, and what is returned.

Both edges turn their messages into an `InferRequest` and pass a function that reads the values of one input. `prepare`
does all checks; `output_tensors` returns what the edges write.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import msgspec
from msgspec.structs import replace

from tfserve.errors import Invalid, Unsupported, nearest
from tfserve.tensors.dtypes import DTYPES
from tfserve.tensors.specs import Array, Shape, Signature, TensorSpec, check_shape
from tfserve.web.api.v2 import classification_extension
from tfserve.web.api.v2.requests import InferRequest, InputTensor, Parameters, RequestedOutput, parameter
from tfserve.web.predictions import signature_checks
from tfserve.web.predictions.live_models import LiveModels, Model, NoSuchVersion
from tfserve.web.predictions.request import Options, PredictionRequest, PredictionResult

DATATYPES = tuple(dtype.v2 for dtype in DTYPES.values())
NON_FINITE = ("error", "null", "literal")
MAX_DIGITS = 19
LEAST_URGENT = 7
MAX_TIMEOUT_US = 2**63 - 1

ReadValues = Callable[[InputTensor, TensorSpec, Shape], Array]
"""Reads the values of an input whose name, datatype and shape have been checked. Raises `Invalid`."""


class SharedMemory(Unsupported):
    """Shared memory is not supported, so {name!r} cannot be in it. Send and request tensors as binary data."""


class Output(NamedTuple):
    """An output to return: as bytes or as numbers, or only its `classes` best classes."""

    spec: TensorSpec
    is_binary: bool
    classes: int = 0


class Inference(msgspec.Struct, frozen=True):
    """A checked request, and the form of its response."""

    request: PredictionRequest
    outputs: Sequence[Output]
    id: str | None
    non_finite: str


# --- models


def model_of(models: LiveModels, name: str, version: str | None) -> Model:
    """The model version (None: the one that serves requests). Raises `NoSuchModel`, `NoSuchVersion`."""
    if version is None:
        return models.get(name)
    if version.isascii() and version.isdigit() and len(version) <= MAX_DIGITS:
        return models.get(name, int(version))
    known = ", ".join(str(model.version) for model in models.versions(name))
    raise NoSuchVersion(name=name, version=repr(version[:40]), known=known)


def versions_of(models: LiveModels, name: str, version: str | None) -> list[Model]:
    """The model version, or all versions of the model. Raises the same errors."""
    return models.versions(name) if version is None else [model_of(models, name, version)]


# --- requests


def prepare(
    model: Model, given: InferRequest, read_values: ReadValues, options: Options, *, binary_outputs: bool = False
) -> Inference:
    """Checks a request against the model's signature. Raises `Invalid`, `Unsupported`.

    `binary_outputs` is the default form of outputs. A timeout in the parameters only applies if it is smaller.
    """
    parameters = given.parameters
    name = (parameter(parameters, "signature", str) if parameters else None) or model.default_signature
    signature = model.signature(name)
    outputs = _outputs(given, signature, is_binary=binary_outputs)
    inputs = read_inputs(given.inputs, signature, read_values)
    if parameters:
        options = replace(options, urgency=_urgency(parameters, options), timeout_s=_timeout_s(parameters, options))
    names = [each.spec.name for each in outputs] if given.outputs else ()
    non_finite = _non_finite(parameters) if parameters else NON_FINITE[0]
    return Inference(options.request(inputs, name, names), outputs, given.id, non_finite)


def read_inputs(given: Sequence[InputTensor], signature: Signature, read_values: ReadValues) -> dict[str, Array]:
    """The arrays by name. Raises `Invalid` with the name of the input, or with a list of the available ones."""
    arrays: dict[str, Array] = {}
    for tensor in given:
        name = tensor.name
        spec = find(name, signature.takes, "input")
        if name in arrays:
            raise signature_checks.repeated(name, "input")
        _check_datatype(tensor.datatype, spec)
        shape = tuple(tensor.shape)
        check_shape(shape, spec, name)
        if tensor.parameters and "shared_memory_region" in tensor.parameters:
            raise SharedMemory(name=name)
        arrays[name] = read_values(tensor, spec, shape)
    if len(arrays) != len(signature.inputs) or signature.optional:
        signature_checks.require_all(arrays, signature.inputs)
    return arrays


def find(name: str, specs: Sequence[TensorSpec], what: str) -> TensorSpec:
    """The input or output (`what`) with that name. Raises `Invalid` with a list of the available ones."""
    spec = signature_checks.find(name, specs, what)
    if spec.dtype not in DTYPES:
        raise _unsupported(spec, what)
    return spec


def _unsupported(spec: TensorSpec, what: str) -> Invalid:
    return Invalid(f"The {what} {spec.name!r} is {spec}, a type that this protocol does not support.")


def _check_datatype(datatype: str, spec: TensorSpec) -> None:
    expected = DTYPES[spec.dtype].v2
    if datatype == expected:
        return
    if datatype not in DATATYPES:
        raise Invalid(
            f"Input {spec.name!r} has the unknown datatype {datatype[:40]!r}{nearest(datatype[:40], DATATYPES)}."
            f" Valid datatypes: {', '.join(DATATYPES)}."
        )
    raise Invalid(f"Input {spec.name!r} is {expected} in the model, got {datatype}.")


def _outputs(given: InferRequest, signature: Signature, *, is_binary: bool) -> list[Output]:
    """The requested outputs in order (default: all). Raises `Invalid` if one is unknown or repeated."""
    if given.parameters:
        is_binary = _flag(given.parameters, "binary_data_output", default=is_binary)
    if not given.outputs:
        for spec in signature.outputs:
            if spec.dtype not in DTYPES:
                raise _unsupported(spec, "output")
        return [Output(spec, is_binary) for spec in signature.outputs]
    signature_checks.refuse_repeated([each.name for each in given.outputs], "output")
    return [_output(each, signature, is_binary) for each in given.outputs]


def _output(requested: RequestedOutput, signature: Signature, is_binary: bool) -> Output:
    spec = find(requested.name, signature.outputs, "output")
    parameters = requested.parameters
    if not parameters:
        return Output(spec, is_binary)
    if "shared_memory_region" in parameters:
        raise SharedMemory(name=requested.name)
    classes = parameter(parameters, "classification", int) or 0
    if classes < 0:
        raise Invalid(
            f"Output {spec.name!r}: classification must be the number of best classes, got {str(classes)[:40]}."
        )
    return Output(spec, _flag(parameters, "binary_data", default=is_binary), classes)


def _flag(parameters: Parameters, name: str, *, default: bool) -> bool:
    value: bool | None = parameter(parameters, name, bool)
    return default if value is None else value


def _urgency(parameters: Parameters, options: Options) -> int:
    """From Triton's priority parameter: 1 is the most urgent, 0 the default."""
    priority = parameter(parameters, "priority", int) or 0
    if priority < 0:
        raise Invalid(f"The parameter 'priority' must be an integer of at least 0, got {str(priority)[:40]}.")
    return min(priority - 1, LEAST_URGENT) if priority else options.urgency


def _timeout_s(parameters: Parameters, options: Options) -> float | None:
    """The smaller timeout of parameter (microseconds; 0 for none) and header or deadline."""
    timeout_us = parameter(parameters, "timeout", int) or 0
    if timeout_us < 0:
        raise Invalid(f"The parameter 'timeout' must be at least 0 microseconds, got {str(timeout_us)[:40]}.")
    if not timeout_us:
        return options.timeout_s
    timeout_s = min(timeout_us, MAX_TIMEOUT_US) / 1e6
    return timeout_s if options.timeout_s is None else min(timeout_s, options.timeout_s)


def _non_finite(parameters: Parameters) -> str:
    """How to write NaN and infinities in JSON."""
    policy: str = parameter(parameters, "non_finite", str) or NON_FINITE[0]
    if policy not in NON_FINITE:
        raise Invalid(f"The parameter 'non_finite' must be one of {', '.join(NON_FINITE)}; got {policy[:40]!r}.")
    return policy


# --- responses


def output_tensors(
    model: Model, result: PredictionResult, outputs: Sequence[Output]
) -> Iterator[tuple[str, str, Array, bool]]:
    """Name, datatype and array of each output, and whether it is binary. Raises `Invalid` if one has no classes."""
    for spec, is_binary, classes in outputs:
        array = result.outputs[spec.name]
        if classes:
            yield spec.name, "BYTES", classification_extension.best(array, spec, classes, _labels(model)), is_binary
        else:
            yield spec.name, DTYPES[spec.dtype].v2, array, is_binary


def _labels(model: Model) -> Sequence[str]:
    """The names of the model's classes, if its metadata has them."""
    found = (model.info.image or {}).get("labels")
    return found if isinstance(found, list) else ()
