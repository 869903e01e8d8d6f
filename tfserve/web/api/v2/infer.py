"""POST …/infer: from a body to a prediction, and from its result to a response."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfserve.errors import Invalid
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.web.api.v2 import binary, inputs, outputs, request_options
from tfserve.web.api.v2.requests import InferRequest, Parameters, decode_infer, parameter
from tfserve.web.api.v2.responses import Answer
from tfserve.web.http.offload import are_heavy, is_heavy, offloaded
from tfserve.web.http.priority_headers import read_priority_headers
from tfserve.web.predictions.live_models import Model
from tfserve.web.predictions.request import Caller, Request


class Question(NamedTuple):
    """A prediction request, and the requested form of its response."""

    request: Request
    wants: list[outputs.Wanted]
    id: str | None
    non_finite: str


async def infer(
    model: Model, body: bytes, headers: dict[bytes, bytes], caller: Caller, *, pinned: bool = False
) -> Answer:
    """Raises `Invalid` and the errors of `Model.predict`."""
    length = headers.get(binary.LENGTH_HEADER)
    if length is not None and body and not binary.length_of_json(length, len(body)):
        question = _raw(model, body)
    else:
        read = partial(_question, model, body, length)
        question = await offloaded(read) if is_heavy(body) else read()
    request = question.request
    request.caller = caller
    request.pinned = pinned
    _wish(request, headers)
    result = await model.predict(request)
    write = partial(outputs.answer, model, result, question.wants, id_=question.id, policy=question.non_finite)
    return await offloaded(write) if are_heavy(result.outputs.values()) else write()


def _wish(request: Request, headers: dict[bytes, bytes]) -> None:
    """Parameters take precedence over headers."""
    if b"priority" in headers or b"request-timeout" in headers:
        urgency, timeout_s = read_priority_headers(headers.items())
        if request.urgency == DEFAULT_URGENCY:
            request.urgency = urgency
        if request.timeout_s is None:
            request.timeout_s = timeout_s


def _question(model: Model, body: bytes, length: bytes | None) -> Question:
    given, tail = _parsed(body, length)
    parameters = given.parameters
    name = parameter(parameters, "signature", str) or model.default_signature()
    signature = model.signature(name)
    wants = outputs.wanted(given, signature, is_binary=False)
    arrays = inputs.read(given.inputs, tail, signature)
    request = Request(arrays, name, [want.spec.name for want in wants], protocol="v2")
    if parameters:
        request.urgency = _priority(parameters)
        request.timeout_s = _timeout_s(parameters)
    return Question(request, wants, given.id, outputs.non_finite(given))


def _parsed(body: bytes, length: bytes | None) -> tuple[InferRequest, memoryview]:
    """The JSON, and the bytes after it."""
    if length is None:
        return decode_infer(body), _NOTHING
    size = binary.length_of_json(length, len(body))
    return decode_infer(body[:size]), memoryview(body)[size:]


def _raw(model: Model, body: bytes) -> Question:
    """A body without JSON: the data of the model's only input. All outputs are returned as bytes."""
    name = model.default_signature()
    signature = model.signature(name)
    if len(signature.inputs) != 1:
        raise Invalid(
            f"A raw body (Inference-Header-Content-Length: 0) requires a model with one input; {model.name!r} has"
            f" {len(signature.inputs)}. {binary.SEND_JSON}"
        )
    spec = inputs.find(signature.inputs[0].name, signature.inputs, "input")
    wants = outputs.wanted(InferRequest([]), signature, is_binary=True)
    request = Request({spec.name: binary.read_whole_body(body, spec)}, name, protocol="v2")
    return Question(request, wants, None, "error")


def _priority(parameters: Parameters) -> int:
    found = request_options.urgency(parameter(parameters, "priority", int) or 0)
    return DEFAULT_URGENCY if found is None else found


def _timeout_s(parameters: Parameters) -> float | None:
    return request_options.timeout_s(parameter(parameters, "timeout", int) or 0)


_NOTHING = memoryview(b"")
