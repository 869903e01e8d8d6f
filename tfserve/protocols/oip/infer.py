"""POST …/infer: from a body to a prediction, and from its result to an answer."""

from __future__ import annotations

from typing import NamedTuple

from tfserve.errors import Invalid
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.protocols.oip import binary, inputs, large, outputs
from tfserve.protocols.oip.answers import Answer
from tfserve.protocols.oip.requests import InferRequest, Parameters, decode, infer_request, parameter
from tfserve.serving.models import Caller, Model, Request
from tfserve.tensors import Array

MAX_URGENCY = 7


class Question(NamedTuple):
    """A request for a prediction, and the form in which its answer is wanted."""

    request: Request
    wants: list[outputs.Wanted]
    id: str | None
    non_finite: str


async def infer(model: Model, body: bytes, headers: dict[bytes, bytes], caller: Caller | None) -> Answer:
    """Raises `Invalid`, and what `Model.predict` raises."""
    length = headers.get(binary.LENGTH_HEADER)
    if length is not None and body and not binary.length_of_json(length, len(body)):
        question = _raw(model, body)
    else:
        question = _question(model, body, length)
    request = question.request
    request.caller = caller
    if (priority := headers.get(b"priority")) is not None and request.urgency == DEFAULT_URGENCY:
        request.urgency = urgency(priority)
    result = await model.predict(request)
    return outputs.answer(model, result, question.wants, id_=question.id, policy=question.non_finite)


def _question(model: Model, body: bytes, length: bytes | None) -> Question:
    given, tail, wide = _parsed(body, length)
    parameters = given.parameters
    name = parameter(parameters, "signature", str) or model.default_signature()
    signature = model.signature(name)
    wants = outputs.wanted(given, signature, is_binary=False)
    arrays = inputs.read(given.inputs, tail, signature, wide)
    request = Request(arrays, name, [want.spec.name for want in wants], protocol="v2")
    if parameters:
        request.urgency = _priority(parameters)
        request.timeout_s = _timeout_s(parameters)
    return Question(request, wants, given.id, outputs.non_finite(given))


def _parsed(body: bytes, length: bytes | None) -> tuple[InferRequest, memoryview, list[Array] | None]:
    """The JSON, what stands behind it, and the values of the inputs if they were read already."""
    if length is not None:
        size = binary.length_of_json(length, len(body))
        return decode(body[:size], infer_request), memoryview(body)[size:], None
    if len(body) > large.LARGE_BYTES and (found := large.decode(body)) is not None:
        return found[0], _NOTHING, found[1]
    return decode(body, infer_request), _NOTHING, None


def _raw(model: Model, body: bytes) -> Question:
    """A body without JSON: the data of the model's only input. All outputs are given back as bytes."""
    name = model.default_signature()
    signature = model.signature(name)
    if len(signature.inputs) != 1:
        raise Invalid(
            f"A raw body (Inference-Header-Content-Length: 0) is for models with one input; {model.name!r} has"
            f" {len(signature.inputs)}. {binary.SEND_JSON}"
        )
    spec = inputs.find(signature.inputs[0].name, signature.inputs, "input")
    wants = outputs.wanted(InferRequest([]), signature, is_binary=True)
    request = Request({spec.name: binary.read_whole_body(body, spec)}, name, protocol="v2")
    return Question(request, wants, None, "error")


def urgency(header: bytes) -> int:
    """The urgency (0 first, 7 last) in a header such as `Priority: u=1`; the default when there is none in it."""
    for part in header.split(b","):
        key, _, value = part.strip().partition(b"=")
        if key == b"u" and value in _URGENCIES:
            return int(value)
    return DEFAULT_URGENCY


def _priority(parameters: Parameters) -> int:
    """Triton counts from 1, the most urgent; 0 is the default."""
    priority = parameter(parameters, "priority", int)
    return min(max(priority - 1, 0), MAX_URGENCY) if priority else DEFAULT_URGENCY


def _timeout_s(parameters: Parameters) -> float | None:
    """The parameter counts microseconds; 0 is the server's own limit."""
    timeout = parameter(parameters, "timeout", int)
    if timeout is not None and timeout < 0:
        raise Invalid(f"The parameter 'timeout' counts microseconds, {timeout} was given.")
    return timeout / 1e6 if timeout else None


_NOTHING = memoryview(b"")
_URGENCIES = [b"%d" % number for number in range(MAX_URGENCY + 1)]
