"""The outputs of an infer request: which are wanted in what form, and the answer that holds them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import orjson

from tfserve.errors import Invalid
from tfserve.protocols.oip import binary, classification, json_tensors
from tfserve.protocols.oip.answers import Answer
from tfserve.protocols.oip.inputs import SharedMemory, find
from tfserve.protocols.oip.requests import InferRequest, WantedOutput, parameter
from tfserve.serving import inputs
from tfserve.serving.models import Model
from tfserve.serving.prediction import Result
from tfserve.tensors import DTYPES, Signature, TensorSpec

NON_FINITE = ("error", "null", "literal")


class Wanted(NamedTuple):
    """One output: as bytes behind the JSON or as numbers in it, or only its `classes` best classes."""

    spec: TensorSpec
    is_binary: bool
    classes: int = 0


def wanted(request: InferRequest, signature: Signature, *, is_binary: bool) -> list[Wanted]:
    """What is asked for, in order; everything when nothing is named. Raises `Invalid` (unknown, twice, no JSON form).

    `is_binary` is the form of an output that says nothing of it.
    """
    given = parameter(request.parameters, "binary_data_output", bool)
    is_binary = is_binary if given is None else given
    if not request.outputs:
        found = [Wanted(spec, is_binary) for spec in signature.outputs]
    else:
        found = [_wanted(each, signature, is_binary) for each in request.outputs]
        inputs.refuse_repeated([each.name for each in request.outputs], "output")
    for each in found:
        _check_form(each)
    return found


def non_finite(request: InferRequest) -> str:
    """What becomes of NaN and infinities in JSON. Raises `Invalid`."""
    policy: str = parameter(request.parameters, "non_finite", str) or NON_FINITE[0]
    if policy not in NON_FINITE:
        raise Invalid(f"The parameter 'non_finite' must be one of {', '.join(NON_FINITE)}; {policy[:40]!r} was given.")
    return policy


def answer(model: Model, result: Result, wants: Sequence[Wanted], *, id_: str | None, policy: str) -> Answer:
    """The reply. Raises `Invalid` for values that JSON can't hold."""
    head: dict[str, Any] = {"model_name": model.name, "model_version": str(result.version)}
    if id_ is not None:
        head["id"] = id_
    tail: list[memoryview] = []
    head["outputs"] = written = [_written(model, result, want, tail) for want in wants]
    text = orjson.dumps(head, option=orjson.OPT_SERIALIZE_NUMPY)
    if policy != "null" and b"null" in text:  # which stands for NaN and infinities, or in a name
        text = _with_non_finite(head, written, policy)
    if not tail:
        return Answer(text)
    return Answer(b"".join([text, *tail]), _binary_headers(len(text)))


def _written(model: Model, result: Result, want: Wanted, tail: list[memoryview]) -> dict[str, Any]:
    """One output of the reply; its bytes, if it is binary, go to the tail."""
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
    """The names of the model's classes, if its metadata tells them."""
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
    """How many of the best classes are wanted. Raises `Invalid`."""
    if classes < 0:
        raise Invalid(f"Output {name!r}: classification counts the best classes, {str(classes)[:40]} was given.")
    return classes


def _check_form(want: Wanted) -> None:
    dtype = want.spec.dtype
    if dtype in json_tensors.BINARY_ONLY and not want.is_binary and not want.classes:
        raise Invalid(
            f"Output {want.spec.name!r} is {DTYPES[dtype].v2}, which has no numbers in JSON: ask for it as binary data"
            ' (its parameters: {"binary_data": true}, or those of the request: {"binary_data_output": true}).'
        )
    if dtype not in DTYPES:
        find(want.spec.name, (want.spec,), "output")


def _binary_headers(length: int) -> tuple[tuple[bytes, bytes], ...]:
    return ((b"content-type", b"application/octet-stream"), (binary.LENGTH_HEADER, b"%d" % length))
