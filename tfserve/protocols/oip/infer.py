"""POST …/infer: from a body to a prediction, and from its result to an answer."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from tfserve.errors import Invalid
from tfserve.http.offload import are_heavy, is_heavy, offloaded
from tfserve.http.wishes import read_wishes
from tfserve.ipc.predictions import DEFAULT_URGENCY
from tfserve.protocols.oip import binary, inputs, outputs, wishes
from tfserve.protocols.oip.answers import Answer
from tfserve.protocols.oip.requests import InferRequest, Parameters, decode_infer, parameter
from tfserve.serving.models import Model
from tfserve.serving.prediction import Caller, Request


class Question(NamedTuple):
    """A request for a prediction, and the form in which its answer is wanted."""

    request: Request
    wants: list[outputs.Wanted]
    id: str | None
    non_finite: str


async def infer(
    model: Model, body: bytes, headers: dict[bytes, bytes], caller: Caller, *, pinned: bool = False
) -> Answer:
    """Raises `Invalid`, and what `Model.predict` raises."""
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
    """What the headers say counts where the parameters say nothing."""
    if b"priority" in headers or b"request-timeout" in headers:
        urgency, timeout_s = read_wishes(headers.items())
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
    """The JSON, and what stands behind it."""
    if length is None:
        return decode_infer(body), _NOTHING
    size = binary.length_of_json(length, len(body))
    return decode_infer(body[:size]), memoryview(body)[size:]


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


def _priority(parameters: Parameters) -> int:
    found = wishes.urgency(parameter(parameters, "priority", int) or 0)
    return DEFAULT_URGENCY if found is None else found


def _timeout_s(parameters: Parameters) -> float | None:
    return wishes.timeout_s(parameter(parameters, "timeout", int) or 0)


_NOTHING = memoryview(b"")
