"""The requested outputs of an infer request, and the response with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.tensors.specs import DTYPES, Signature, TensorSpec
from tfserve.web.api.v2 import binary, classification, json_tensors
from tfserve.web.api.v2.inputs import SharedMemory, find
from tfserve.web.api.v2.requests import InferRequest, WantedOutput, parameter
from tfserve.web.api.v2.responses import Answer
from tfserve.web.predictions import signature_checks
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Result

NON_FINITE = ("error", "null", "literal")


class Wanted(NamedTuple):
    """A requested output: as bytes after the JSON, as numbers in the JSON, or only its `classes` best classes."""

    spec: TensorSpec
    is_binary: bool
    classes: int = 0


def wanted(request: InferRequest, signature: Signature, *, is_binary: bool) -> list[Wanted]:
    """The requested outputs in order (default: all). Raises `Invalid` if one is unknown, repeated, or has no JSON form.

    `is_binary` is the default form of an output.
    """
    given = parameter(request.parameters, "binary_data_output", bool)
    is_binary = is_binary if given is None else given
    if not request.outputs:
        found = [Wanted(spec, is_binary) for spec in signature.outputs]
    else:
        found = [_wanted(each, signature, is_binary) for each in request.outputs]
        signature_checks.refuse_repeated([each.name for each in request.outputs], "output")
    for each in found:
        _check_form(each)
    return found


def non_finite(request: InferRequest) -> str:
    """How to write NaN and infinities in JSON. Raises `Invalid`."""
    policy: str = parameter(request.parameters, "non_finite", str) or NON_FINITE[0]
    if policy not in NON_FINITE:
        raise Invalid(f"The parameter 'non_finite' must be one of {', '.join(NON_FINITE)}; got {policy[:40]!r}.")
    return policy


def answer(model: Model, result: Result, wants: Sequence[Wanted], *, id_: str | None, policy: str) -> Answer:
    """The response. Raises `Invalid` for values that JSON cannot represent."""
    head: dict[str, Any] = {"model_name": model.name, "model_version": str(result.version)}
    if id_ is not None:
        head["id"] = id_
    tail: list[memoryview] = []
    head["outputs"] = written = [_written(model, result, want, tail) for want in wants]
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if policy != "null" and b"null" in text:  # from NaN or infinity, or part of a name
        text = _with_non_finite(head, written, policy)
    if not tail:
        return Answer(text)
    return Answer(b"".join([text, *tail]), _binary_headers(len(text)))


def _written(model: Model, result: Result, want: Wanted, tail: list[memoryview]) -> dict[str, Any]:
    """One output of the response. The bytes of binary outputs go to the tail."""
    spec, is_binary, classes = want
    array, datatype = result.outputs[spec.name], DTYPES[spec.dtype].v2
    if classes:
        array, datatype = classification.best(array, spec, classes, labels(model)), "BYTES"
    output: dict[str, Any] = {"name": spec.name, "datatype": datatype, "shape": array.shape}
    if is_binary:
        data = binary.write(array)
        output["parameters"] = {"binary_data_size": data.nbytes}
        tail.append(data)
    else:
        output["data"] = json_tensors.write(array, spec.name)
    return output


def _with_non_finite(head: dict[str, Any], written: Sequence[dict[str, Any]], policy: str) -> bytes:
    for output in written:
        if isinstance(values := output.get("data"), np.ndarray):
            if policy == "literal":
                output["data"] = json_tensors.literal(values)
            else:
                json_tensors.check_finite(values, output["name"])
    return orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)


def labels(model: Model) -> Sequence[str]:
    """The names of the model's classes, if its metadata has them."""
    found = (model.told.image or {}).get("labels")
    return found if isinstance(found, list) else ()


def _wanted(output: WantedOutput, signature: Signature, is_binary: bool) -> Wanted:
    spec = find(output.name, signature.outputs, "output")
    parameters = output.parameters
    if not parameters:
        return Wanted(spec, is_binary)
    if "shared_memory_region" in parameters:
        raise SharedMemory(name=output.name)
    classes = parameter(parameters, "classification", int) or 0
    checked_classes(classes, output.name)
    given = parameter(parameters, "binary_data", bool)
    return Wanted(spec, is_binary if given is None else given, classes)


def checked_classes(classes: int, name: str) -> int:
    """The requested number of best classes. Raises `Invalid`."""
    if classes < 0:
        raise Invalid(f"Output {name!r}: classification must be the number of best classes, got {str(classes)[:40]}.")
    return classes


def _check_form(want: Wanted) -> None:
    dtype = want.spec.dtype
    if dtype in json_tensors.BINARY_ONLY and not want.is_binary and not want.classes:
        raise Invalid(
            f"Output {want.spec.name!r} is {DTYPES[dtype].v2}, which JSON cannot represent. Request it as binary data"
            ' (its parameters: {"binary_data": true}, or those of the request: {"binary_data_output": true}).'
        )
    if dtype not in DTYPES:
        find(want.spec.name, (want.spec,), "output")


def _binary_headers(length: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"content-type", b"application/octet-stream"), (binary.LENGTH_HEADER, b"%d" % length))
